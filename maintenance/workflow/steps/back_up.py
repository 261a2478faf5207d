"""D and R: a backup that was read back whole, or an alternate of another place and another kind."""

from __future__ import annotations

import glob
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from maintenance.conf import places
from maintenance.engines.errors import Damaged, EngineError, Interrupted, Unable
from maintenance.engines.messages import Message, listed, msg, size
from maintenance.engines.values import Restored
from maintenance.models.evidence import BackupEvidence, EarlyChecks, RestoreEvidence
from maintenance.workflow.signals import outage_near

from .. import rehearsal
from . import plural
from .context import Context, Done, Outcome, checked_early
from .deep import damage, refuse_unplanned

UNFINISHED = ("{begun}*.part*", "{begun}*.check*", ".{begun}*")
"""Names for the time of writing, of reading back, and of folders in which a copy is unpacked."""


def run(ctx: Context) -> Outcome:
    """Back up by the usual method into the usual folder (D). Its failure leads to M and R."""
    threading.Thread(target=load_what_reports_need, name="loading", daemon=True).start()
    if ctx.run.rehearsal:
        rehearsal.make_copy(ctx)
    method = ctx.engine.backups.methods[0]
    outcome = _back_up(ctx, "primary", method, Path(ctx.setting.backup_dir))
    _test_restore(ctx, "primary")
    if ctx.rows_stay:
        ctx.once("check", EarlyChecks, lambda: _check_early(ctx))
        try:
            refuse_unplanned(ctx, damage(checked_early(ctx) or [], {}, ctx.tables))
        except Damaged as error:
            # No other kind of backup would mend that: the run ends here, before any outage.
            return Outcome("stopped", error.sentence)
    return outcome


def _check_early(ctx: Context) -> Done[EarlyChecks]:
    """While everybody works, for work that leaves every row: asked again under the cut, the equal rows would say it."""
    try:
        checks = ctx.engine.verifier.check_early(ctx.touched)
    except Interrupted:
        raise
    except EngineError as error:
        return Done(msg("Nothing could be checked before the cut: {error}", error=error.sentence), EarlyChecks(None))
    if checks is None:
        return Done(msg("All checks wait for the cut."), EarlyChecks(None))
    failed = [c for c in checks if not c.passed]
    return Done(
        msg("{checks} before the cut, {failed} of them failed.", checks=plural.checks(len(checks)), failed=len(failed)),
        EarlyChecks(tuple(checks)),
    )


def load_what_reports_need() -> None:
    """Load whatever reports need: now, while the server has the work, and not in the outage or after."""
    outage_near.send(None)


def run_alternate(ctx: Context) -> Outcome:
    """Back up to another place, then by a different kind (R): damage breaks a logical dump when it is needed most.

    Raises the last failure when none works: the outage has not begun, and does not begin.
    """
    if ctx.run.rehearsal:
        rehearsal.make_copy(ctx)
    failures: list[EngineError] = []
    for method, folder in _alternates(ctx):
        try:
            outcome = _back_up(ctx, "alternate", method, folder)
            _test_restore(ctx, f"alternate {method} {folder}")
            return outcome
        except Interrupted:
            raise
        except EngineError as error:
            failures.append(error)
    if not failures:
        raise Unable("backing up", ctx.target.database, "no alternate backup folder is set")
    raise Unable("backing up", ctx.target.database, listed(failure.sentence for failure in failures))


def _alternates(ctx: Context) -> Iterator[tuple[str, Path]]:
    usual, other = ctx.engine.backups.methods
    here = Path(ctx.setting.backup_dir)
    there = Path(ctx.setting.alternate_backup_dir) if ctx.setting.alternate_backup_dir else None
    if there is not None and not _was_damage(ctx):
        yield usual, there
    if there is not None:
        yield other, there
    yield other, here


def _was_damage(ctx: Context) -> bool:
    """The usual method met damaged data, or what it wrote cannot be restored; another place would not help it."""
    failed = ctx.target.backup_files.filter(role="primary").order_by("-id").first()
    return failed is not None and (failed.error.startswith(Damaged.__name__) or failed.bytes is not None)


def _test_restore(ctx: Context, which: str) -> None:
    """A backup counts when it was restored. Raises what keeps it from that; it is not verified then."""
    budget, backup = ctx.setting.restore_budget, ctx.backup
    if budget.extent == "off" or backup is None:
        return

    def work() -> Done[RestoreEvidence]:
        try:
            restored = ctx.engine.rollback.restore_test(backup, ctx.seal, budget)
        except EngineError as error:
            if not isinstance(error, Interrupted) and error.kind != "transient":
                ctx.journal.backup_refused(str(backup.path), error)
            raise
        return Done(_sentence(restored), RestoreEvidence(restored))

    ctx.once(f"restore test {which}", RestoreEvidence, work)


def _sentence(restored: Restored | None) -> Message:
    if restored is None:
        return msg("Not restored before the outage: neither this product nor this backup offers it.")
    if restored.extent == "copy" and restored.why:
        return msg(
            "Restored beside and proved equal, but {why}: the way back is a copy by file, which can be made.",
            why=restored.why,
        )
    if restored.extent == "copy":
        return msg("Nothing to restore beside: the way back is a copy by file, which can be made.")
    if restored.extent == "definitions":
        return msg(
            "Restored every definition beside and proved it equal, and loaded the first {rows} of each table; the "
            "others were not restored: {why}",
            rows=plural.rows(restored.rows),
            why=restored.why or msg("the setting asks for no more"),
        )
    return msg(
        "Restored {tables} beside in {seconds:.0f} s ({bytes}) and proved everything equal; kept as {side}.",
        tables=plural.tables(restored.tables),
        seconds=restored.seconds,
        bytes=size(restored.bytes),
        side=restored.side,
    )


def _back_up(ctx: Context, role: str, method: str, folder: Path) -> Outcome:
    stem = f"{ctx.target.database}-run{ctx.run.pk}-{role}-{method}"

    def work() -> Done[BackupEvidence]:
        try:
            places.make_backup_folder(folder, ctx.config.backup_roots)
            made = ctx.engine.backups.back_up(method, folder, stem, ctx.seal)
        except (OSError, places.FolderRefused) as error:
            words = error.sentence if isinstance(error, places.FolderRefused) else str(error)
            failure = Unable("writing the backup to", str(folder), words)
            ctx.journal.backup_failed(role, method, str(folder), failure)
            raise failure from error
        except EngineError as error:
            if not isinstance(error, Interrupted):
                ctx.journal.backup_failed(role, method, str(folder), error)
            raise
        ctx.journal.backed_up(role, made)
        return Done(
            msg(
                "Backed up with {method} to {path}: {bytes}, read back whole.",
                method=method,
                path=str(made.path),
                bytes=size(made.bytes),
            ),
            BackupEvidence(str(made.path), made.bytes),
        )

    file = ctx.once(f"{role} {method} {folder}", BackupEvidence, work)
    return Outcome(
        "finished",
        msg(
            "The backup is {path} ({method}, {bytes}), read back whole.",
            path=file.path,
            method=method,
            bytes=size(file.bytes),
        ),
    )


def remove_incomplete(ctx: Context) -> None:
    """Remove what an attempt that died was still writing; a copy that was to be sealed would lie there open."""
    begun = glob.escape(f"{ctx.target.database}-run{ctx.run.pk}-")
    for folder in filter(None, (ctx.setting.backup_dir, ctx.setting.alternate_backup_dir)):
        for pattern in UNFINISHED:
            for path in Path(folder).glob(pattern.format(begun=begun)):
                with suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
