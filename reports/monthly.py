"""The management report of the month that is over, by mail, where config.json names somebody for it."""

from __future__ import annotations

import logging
from pathlib import Path

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override

from maintenance.auditing import chain
from maintenance.conf import config
from maintenance.engines.values import Json
from maintenance.models import AuditEntry
from maintenance.notifications import delivery, events
from maintenance.results.statistics import Asked
from maintenance.text.dates import Month, Period, this_month

from . import files

log = logging.getLogger("maintenance")
AUDIENCE = "management"
"""Of `notifications` in config.json."""
SENT = "management_report.sent"


def send_if_due() -> int:
    """Sends last month's report to everybody who has not got it; returns how many got it now.

    Called every day: whom it did not reach gets it on the next. Raises ConfigError.
    """
    known, month = config.load(), this_month() + -1
    waiting = [a for a in known.notifications.get(AUDIENCE, ()) if not _got(month, a)]
    if not waiting:
        return 0
    language = known.notification_languages.get(AUDIENCE, settings.REPORT_LANGUAGE)
    path = write(month, Path(settings.REPORTS_DIR), language)
    with override(language):
        title = _("Maintenance management report {month}").format(month=month)
        page = f"{settings.SITE_URL.rstrip('/')}/reports/?period={month}"
        body = _("The report is attached. The same numbers on the console: {page}").format(page=page)
    return sum(_sent(month, address, title, body, path) for address in waiting)


def write(month: Month, folder: Path, language: str) -> Path:
    """Makes the PDF in `folder`; replaces an earlier one whole."""
    # Here, because WeasyPrint needs system libraries.
    from . import management

    with override(language):
        return files.put(management.render(Period(month, 1), Asked()), folder / f"management-{month}.pdf")


def _got(month: Month, address: str) -> bool:
    return AuditEntry.objects.filter(operation=SENT, object=_of(month, address)).exists()


def _of(month: Month, address: str) -> str:
    """The address itself may hold a secret."""
    return f"{month} {events.digest(address)[:16]}"


def _sent(month: Month, address: str, title: str, body: str, path: Path) -> bool:
    sent = delivery.send(address, title, body, path)
    if sent.error:
        log.error("The management report of %s did not reach %s: %s", month, sent.address, sent.error)
        return False
    told: Json = {"to": sent.address, "file": str(path), "at": timezone.now().isoformat()}
    chain.record("console", SENT, _of(month, address), after=told)
    return True
