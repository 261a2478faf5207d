"""Starts a maintenance from the terminal, through the same door as the form and the API."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.core.management.base import CommandParser
from django.db import connections

from maintenance import queue, terminal
from maintenance.engines.messages import msg
from maintenance.models import MaintenanceRun
from maintenance.notifications import delivery
from maintenance.requests import launch
from maintenance.results.outcome import outcome
from maintenance.workflow import recovery, runner


class Command(terminal.PersonsCommand):
    needs = ("launch_maintenance",)
    help = "Plans or runs an emergency maintenance."
    # The others import every page, which costs an emergency half a second of processor time.
    requires_system_checks = ["queue"]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--type", required=True, help="repair, optimize or rebuild")
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--database", action="append", metavar="NAME", nargs="+", help="registered databases")
        which.add_argument("--all", action="store_true", help="every registered database")
        parser.add_argument("--severity", required=True, help="critical, high or medium")
        parser.add_argument(
            "--table", action="append", default=[], metavar="TABLE", nargs="+", help="only these tables"
        )
        parser.add_argument("--reason", required=True, help="what is wrong, and who asked")
        parser.add_argument(
            "--allow-data-loss", action="store_true", help="salvage what can be read; the report lists the rest"
        )
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--plan", action="store_true", help="print the plan and change nothing")
        parser.add_argument(
            "--rehearse", action="store_true", help="do all of it on a copy: nothing of the database is touched"
        )
        how.add_argument("--foreground", action="store_true", help="do the work in this process")
        how.add_argument("--wait", action="store_true", help="follow the worker to the end")
        parser.add_argument("--json", action="store_true", help="the outcome as JSON on stdout")

    def handle(self, *args: object, **options: Any) -> None:
        databases = None if options["all"] else [n for group in options["database"] for n in group]
        request = launch.Request(
            maintenance_type=options["type"],
            target_databases=databases,
            severity_level=options["severity"],
            reason=options["reason"],
            target_tables=[t for group in options["table"] for t in group],
            allow_data_loss=options["allow_data_loss"],
        )
        try:
            if options["plan"] and options["rehearse"]:
                raise launch.BadInput(msg("Name --plan or --rehearse, not both."))
            if options["plan"]:
                self.print_plan(request, options["json"])
                return
            run = launch.launch(self.who, request, enqueue=not options["foreground"], rehearsal=options["rehearse"])
        except launch.BadInput as error:
            self.refuse(error, 2, options["json"])
        except launch.Refused as error:
            self.refuse(error, 4, options["json"])
        if options["foreground"]:
            recovery.leave_when_told()
            run = work_here(run)
        elif options["wait"]:
            if not queue.workers_alive():
                self.stderr.write("No worker is alive; the run begins when one is: manage.py work")
            run = terminal.follow(run.pk)
        self.finish(run, options["json"])

    def refuse(self, error: launch.Refused, code: int, as_json: bool) -> None:
        if as_json:
            terminal.write_json(self.stdout, {"error": str(error), "status": "refused"})
        self.stderr.write(str(error))
        sys.exit(code)

    def print_plan(self, request: launch.Request, as_json: bool) -> None:
        targets = launch.plan(request)
        if as_json:
            told = {"maintenance_type": request.maintenance_type, "severity_level": request.severity_level}
            terminal.write_json(self.stdout, {**told, "targets": targets})
            return
        for target in targets:
            self.stdout.write(f"{target['database']} ({target['version']}), {len(target['actions'])} operations")
            for action in target["actions"]:
                self.stdout.write(f"  {action['kind']} {action['object']}: {action['reason']} Lock: {action['lock']}")
            if target["refused"]:
                self.stdout.write(f"  refused: {target['refused']}")

    def finish(self, run: MaintenanceRun, as_json: bool) -> None:
        if run.finished_at is not None:
            terminal.show_outcome(run)
        if as_json:
            terminal.write_json(self.stdout, outcome(run))
        elif run.finished_at is None:
            self.stdout.write(f"{run.number} is {run.status}.")
        if run.finished_at is not None:
            sys.exit(terminal.exit_code(run.status))
        sys.exit(4 if run.status == "awaiting_approval" else 0)


def work_here(run: MaintenanceRun) -> MaintenanceRun:
    """All targets of the run side by side in this process; one failing does not stop the others."""
    ids = list(run.targets.values_list("pk", flat=True))

    def one(target_id: int) -> None:
        try:
            runner.advance(target_id)
        finally:
            connections.close_all()

    post = delivery.Post()
    post.start()
    with ThreadPoolExecutor(len(ids)) as pool:
        futures = [pool.submit(one, target_id) for target_id in ids]
        # Waits for the control database as the work does.
        terminal.follow(run.pk, working=lambda: any(not f.done() for f in futures))
        for future in futures:
            future.result()
    post.finish(within=30)
    return terminal.found(run.pk)
