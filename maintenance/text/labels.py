"""Numbers, times and names as a person reads them, each with its unit."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from django.utils.translation import ngettext

from maintenance.engines import messages as engine_words

STEPS: Mapping[str, Promise] = {
    "start": lazy("Start"),
    "diagnose": lazy("Diagnose"),
    "decide": lazy("Decide"),
    "back_up": lazy("Back up"),
    "stop_applications": lazy("Stop applications"),
    "cut_connections": lazy("Cut connections"),
    "maintain": lazy("Maintain"),
    "verify": lazy("Verify"),
    "benchmark": lazy("Benchmark"),
    "resume": lazy("Resume"),
    "complete": lazy("Complete"),
    "diagnosis_failed": lazy("Diagnosis failed"),
    "backup_failed": lazy("Backup failed"),
    "maintenance_failed": lazy("Maintenance failed"),
    "integrity_error": lazy("Integrity error"),
    "not_improved": lazy("Not improved"),
    "ask_for_manual_diagnosis": lazy("Ask for manual diagnosis"),
    "alternate_backup": lazy("Alternate backup"),
    "roll_back": lazy("Roll back"),
    "additional_maintenance": lazy("Additional maintenance"),
    "end_in_failure": lazy("End in failure"),
    "call_an_operator": lazy("Call an operator"),
}
ACTIONS: Mapping[str, Promise] = {
    "vacuum_full": lazy("rewrite with all indexes (VACUUM FULL)"),
    "vacuum": lazy("clean up (VACUUM)"),
    "analyze": lazy("renew the statistics (ANALYZE)"),
    "analyze_all": lazy("renew all statistics (ANALYZE)"),
    "reindex": lazy("build the indexes anew (REINDEX)"),
    "remake_indexes": lazy("build the indexes anew (REINDEX)"),
    "remake_all_indexes": lazy("build the indexes anew (REINDEX)"),
    "drop_index": lazy("drop an invalid index"),
    "set_sequences": lazy("set sequences to the rows"),
    "reset_visibility": lazy("reset the visibility map"),
    "rebuild_system_indexes": lazy("build the indexes of the system catalogs anew"),
    "renew_statistics": lazy("take the planner's statistics anew"),
    "refresh_collation": lazy("record the new version of a collation"),
    "read_test": lazy("read every row"),
    "salvage": lazy("save what can be read"),
    "rebuild": lazy("rewrite with all indexes"),
    "check_and_repair": lazy("check, and repair what is damaged"),
    "replace_table": lazy("move the rows into a new table"),
    "replace_indexes": lazy("make the indexes again from the rows"),
    "restore_header": lazy("restore the file’s header"),
    "rebuild_search_index": lazy("make the search index again"),
    "salvage_file": lazy("put the file together again from its pages"),
}
"""What an engine's own word for a piece of work means."""
COSTS: Mapping[str, Promise] = {
    "blocks": lazy("blocks"),
    "pages": lazy("pages"),
    "pages read": lazy("pages read"),
    "rows handled": lazy("rows handled"),
    "VM steps": lazy("VM steps"),
}
"""Units of the cost that does not depend on how busy the machine is."""
PARTS: Mapping[str, Promise] = {
    "arm the switch": lazy("set automatic reopening"),
    "disarm the switch": lazy("suspend automatic reopening"),
    "put the switch away": lazy("turn automatic reopening off"),
    "cut": lazy("cut"),
    "check": lazy("check"),
    "clean": lazy("clean up"),
    "data": lazy("data"),
    "fingerprint": lazy("fingerprint"),
    "plan again": lazy("plan again"),
    "restore test": lazy("restore test"),
    "image": lazy("image for a rollback"),
    "load test": lazy("load test"),
    "measure before": lazy("measure before"),
    "measure after": lazy("measure after"),
    "step back": lazy("step back"),
    "swap": lazy("swap"),
    "release as before": lazy("release as before"),
    "release": lazy("release"),
    "stop": lazy("stop"),
    "start": lazy("start"),
    "repair": lazy("repair"),
    "primary": lazy("primary"),
    "alternate": lazy("alternate"),
}
"""Effects inside a step; of those that name a thing the first word, the thing follows."""
CHECKS: Mapping[str, Promise] = {
    "structure": lazy("structure"),
    "table structure": lazy("table structure"),
    "index structure": lazy("index structure"),
    "index can be read": lazy("index can be read"),
    "index": lazy("index"),
    "readable": lazy("readable"),
    "search index": lazy("search index"),
    "foreign key": lazy("foreign key"),
    "foreign keys": lazy("foreign keys"),
    "unique": lazy("unique"),
    "check": lazy("check constraint"),
    "counter": lazy("counter"),
    "sequence": lazy("sequence"),
    "functional": lazy("functional"),
    "encryption": lazy("encryption"),
}
"""What a check looked at."""
METHODS: Mapping[str, Promise] = {
    "sqlite_backup": lazy("SQLite online backup"),
    "file_copy": lazy("copy of the file"),
}
"""Of those that are not a program's name."""
ENGINES = {"postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB", "sqlite": "SQLite"}
CHANGES: Mapping[str, Promise] = {
    "faster": lazy("faster"),
    "slower": lazy("slower"),
    "no_change": lazy("no measurable change"),
    "unmeasured": lazy("could not be measured"),
    "works_again": lazy("works again"),
}
"""The verdict on a query, and on all of a database."""
SEVERITIES: Mapping[str, Promise] = {
    "critical": lazy("critical"),
    "high": lazy("high"),
    "medium": lazy("medium"),
    "low": lazy("low"),
}


def label(names: Mapping[str, Promise], key: str) -> str:
    """The name in the active language; an unknown key is shown as it is."""
    return str(names.get(key, key.replace("_", " ")))


def work(object: str, action: str) -> str:
    """'public.orders: renew the statistics (ANALYZE)'."""
    return f"{object}: {label(ACTIONS, action)}"


def part(name: str) -> str:
    """'stop shop-web' in the active language; the name of the thing stays."""
    known = max((verb for verb in PARTS if f"{name} ".startswith(f"{verb} ")), key=len, default="")
    thing = name[len(known) + 1 :]
    if known == "restore test":
        thing = part(thing)  # Of a backup, which has a label too.
    return f"{PARTS[known]} {thing}".rstrip() if known else name


def unknown() -> str:
    """In the place of a number that the engine did not give."""
    return _("not available")


def count(number: int | None) -> str:
    """1234567 -> '1,234,567'. The unit stands in the heading."""
    return unknown() if number is None else f"{number:,}"


def rows(number: int) -> str:
    return ngettext("{count} row", "{count} rows", number).format(count=f"{number:,}")


def size(bytes: int | None) -> str:
    """In decimal units: '1.5 kB'."""
    return unknown() if bytes is None else engine_words.size(bytes)


def milliseconds(value: float | None) -> str:
    """Two places, so that a column of them lines up; three figures of what is shorter. The unit is in the heading."""
    if value is None:
        return unknown()
    return f"{value:,.2f}" if value >= 0.1 or value == 0 else f"{value:.3g}"


def share(value: float | None) -> str:
    return unknown() if value is None else f"{value * 100:.0f} %"


def duration(seconds: float | None) -> str:
    """'40 ms', '4.2 s', '3 min 12 s', '2 h 05 min'."""
    if seconds is None:
        return unknown()
    if 0 < round(seconds, 3) < 1:
        return _("{milliseconds} ms").format(milliseconds=f"{seconds * 1000:.0f}")
    if round(seconds, 1) < 60:
        return _("{seconds} s").format(seconds=f"{seconds:.1f}")
    whole = round(seconds)
    if whole < 3600:
        return _("{minutes} min {seconds} s").format(minutes=whole // 60, seconds=f"{whole % 60:02d}")
    minutes = round(seconds / 60)
    return _("{hours} h {minutes} min").format(hours=minutes // 60, minutes=f"{minutes % 60:02d}")


def hms(seconds: float | None) -> str:
    """Return '00:01:47', as the outage clock counts."""
    whole = int(seconds or 0)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def server(engine: str, version: str) -> str:
    """What the server calls itself; most say their product's name already."""
    version = " ".join(version.split())[:60]
    return version if version[:1].isalpha() else f"{ENGINES.get(engine, engine)} {version}".strip()


def local(at: str | datetime | None) -> datetime | None:
    """A time of `outcome` in the time zone of the installation."""
    if at is None:
        return None
    return timezone.localtime(datetime.fromisoformat(at) if isinstance(at, str) else at)


def moment(at: str | datetime | None) -> str:
    """Date and time; the zone is told once on the cover."""
    found = local(at)
    return "—" if found is None else f"{found:%Y-%m-%d %H:%M:%S}"


def clock(at: str | datetime | None) -> str:
    found = local(at)
    return "—" if found is None else f"{found:%H:%M:%S}"


def zone(at: str | datetime | None) -> str:
    """'Asia/Tokyo (UTC+09:00)': the zone of every time in the report."""
    offset = f"{local(at) or timezone.localtime():%z}"
    return f"{timezone.get_current_timezone_name()} (UTC{offset[:3]}:{offset[3:5]})"
