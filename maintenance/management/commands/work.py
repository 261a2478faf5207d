"""A cluster of workers that also sweeps: looks every few seconds for targets whose worker is gone."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import Error, close_old_connections, connections
from django_q.cluster import Cluster

from maintenance import queue, tasks
from maintenance.auditing.notary import Notary
from maintenance.notifications import delivery
from maintenance.workflow import heartbeat, recovery

log = logging.getLogger("maintenance")


class Command(BaseCommand):
    help = "Runs workers (django-q2's cluster), the sweep and the delivery of messages."

    def handle(self, *args: object, **options: Any) -> None:
        cluster = Cluster()
        connections.close_all()  # A child that closes what it inherited ends our session on the server as well.
        cluster.start()
        delivery.Post().start()
        Notary().start()
        name = f"{socket.gethostname()}:{os.getpid()}"
        self.stderr.write(f"{settings.WORKERS} workers are ready.")
        watch, recoverers = recovery.Watch(), recovery.Recoverers()
        signal.signal(signal.SIGTERM, lambda number, frame: drain(cluster))
        signal.signal(signal.SIGINT, lambda number, frame: drain(cluster))
        while cluster.sentinel.is_alive():
            try:
                queue.alive(name)
                tasks.sweep(watch, recoverers)
                tasks.send_daily()
            except Error:
                log.exception("The control database does not answer; the next sweep tries again.")
                watch = recovery.Watch()  # Nobody could be heard while it was gone.
            except Exception:
                log.exception("The sweep failed; the next one tries again.")
            close_old_connections()
            until = time.monotonic() + settings.SWEEP_SECONDS
            while cluster.sentinel.is_alive() and time.monotonic() < until:
                time.sleep(0.2)
        recoverers.wait()


def drain(cluster: Cluster) -> None:
    """Workers end the statement they are at and leave their runs to a successor, at once and not in hours."""
    heartbeat.cluster_ends.set()
    cluster.stop()
