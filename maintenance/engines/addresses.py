"""What the address of a database may say: an allow-list for each engine.

Drivers read much more than an address from a URL: files to fetch, statements to run, other hosts. So everything that is
not listed here is refused by its name, and what is listed has its values checked.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import URL
from sqlalchemy.engine import make_url

from .errors import Unable
from .messages import Message, msg

Kind = Literal["sockets", "certificates"]
Folders = Mapping[Kind, Sequence[Path]]
HOST = re.compile(r"\w[\w.-]{0,252}")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class AddressRefused(Unable):
    """The address says something that it may not say; the words name it and what would be right."""

    def __init__(self, words: Message) -> None:
        super().__init__("reading", msg("the address"), words)


def parse(text: str) -> URL:
    """Return the address that was typed. The path of a SQLite file is taken as it stands: "%20" is part of its name.

    Raises ArgumentError or ValueError of what is none; the latter is UnicodeEncodeError of a path that is not UTF-8.
    """
    text.encode()
    url = make_url(text)
    if url.get_backend_name() != "sqlite":
        return url
    path = text.partition("?")[0].partition("://")[2].removeprefix("/")
    return url.set(database=path) if path else url


@dataclass(frozen=True)
class OneOf:
    values: tuple[str, ...]


@dataclass(frozen=True)
class Number:
    """A whole number, both ends included."""

    least: int
    most: int


@dataclass(frozen=True)
class Below:
    """An absolute path below one of the folders of this kind, or one of the words."""

    kind: Kind
    words: tuple[str, ...] = ()


Value = OneOf | Number | Below
SECONDS, MILLISECONDS = Number(1, 3600), Number(1, 3_600_000)
CERTIFICATE, SOCKET = Below("certificates"), Below("sockets")

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""Weakest first: https://www.postgresql.org/docs/current/libpq-ssl.html"""
MYSQL_SSL_MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
TLS_VERSIONS = OneOf(("TLSv1.2", "TLSv1.3"))

POSTGRESQL: dict[str, Value] = {
    "channel_binding": OneOf(("disable", "prefer", "require")),
    "client_encoding": OneOf(("utf8", "UTF8")),
    "connect_timeout": SECONDS,
    "gssencmode": OneOf(("disable", "prefer", "require")),
    "host": SOCKET,
    "ssl_min_protocol_version": TLS_VERSIONS,
    "sslcert": CERTIFICATE,
    "sslcrl": CERTIFICATE,
    "sslkey": CERTIFICATE,
    "sslmode": OneOf(SSL_MODES),
    "sslrootcert": Below("certificates", ("system",)),
    "tcp_user_timeout": MILLISECONDS,
}
MYSQL: dict[str, Value] = {
    "charset": OneOf(("utf8", "utf8mb4")),
    "connect_timeout": SECONDS,
    "read_timeout": SECONDS,
    "server_public_key_path": CERTIFICATE,
    "ssl": OneOf(("true", "false")),
    "ssl_ca": CERTIFICATE,
    "ssl_capath": CERTIFICATE,
    "ssl_cert": CERTIFICATE,
    "ssl_key": CERTIFICATE,
    "ssl_mode": OneOf(MYSQL_SSL_MODES),
    "unix_socket": SOCKET,
    "write_timeout": SECONDS,
}
ALLOWED: dict[str, dict[str, Value]] = {"postgresql": POSTGRESQL, "mysql": MYSQL, "mariadb": MYSQL}
"""An engine that is not named here takes no parameters at all."""
DRIVERS = {
    "postgresql": ("postgresql", "postgresql+psycopg2"),
    "mysql": ("mysql", "mysql+mysqldb"),
    "mariadb": ("mariadb", "mariadb+mysqldb"),
    "sqlite": ("sqlite", "sqlite+pysqlite"),
}
SOCKET_PARAMETERS = {"postgresql": "host", "mysql": "unix_socket", "mariadb": "unix_socket"}
PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
FAMILIES = {"mariadb": "mysql"}
TIMING = {"connect_timeout", "read_timeout", "write_timeout", "tcp_user_timeout", "charset", "client_encoding"}
"""What may change without the password being entered again."""


def refuse(url: URL, folders: Folders | None = None) -> None:
    """Raises AddressRefused. Without `folders` paths are looked at for their form alone."""
    engine = url.get_backend_name()
    if url.drivername not in DRIVERS.get(engine, (url.drivername,)):
        raise AddressRefused(
            msg(
                "The driver {driver} is not used; begin the address with {engine}://.",
                driver=url.drivername,
                engine=engine,
            )
        )
    _refuse_parameters(engine, url, folders)
    if engine == "sqlite":
        _refuse_file(url)
    else:
        _refuse_server(url)


def _refuse_parameters(engine: str, url: URL, folders: Folders | None) -> None:
    allowed = ALLOWED.get(engine, {})
    for name, value in url.query.items():
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or msg("none")
            raise AddressRefused(
                msg(
                    "{name} may not stand in the address of a {engine} database; allowed are: {allowed}.",
                    name=name,
                    engine=engine,
                    allowed=known,
                )
            )
        if not isinstance(value, str):
            raise AddressRefused(msg("{name} stands more than once in the address.", name=name))
        _refuse_value(name, value, allowed[name], folders)


def _refuse_value(name: str, value: str, rule: Value, folders: Folders | None) -> None:
    match rule:
        case OneOf(values) if value not in values:
            raise AddressRefused(
                msg("{name} is {value}; it is one of {allowed}.", name=name, value=value, allowed=", ".join(values))
            )
        case Number(least, most) if not (re.fullmatch(r"\d{1,9}", value, re.ASCII) and least <= int(value) <= most):
            raise AddressRefused(
                msg("{name} is {value}; it is a number from {least} to {most}.", name=name, value=value,
                    least=least, most=most)
            )  # fmt: skip
        case Below(kind, words) if value not in words:
            _refuse_path(name, value, kind, folders)


def _refuse_path(name: str, value: str, kind: Kind, folders: Folders | None) -> None:
    path = Path(value)
    if not path.is_absolute() or ".." in path.parts or "," in value or CONTROL.search(value):
        raise AddressRefused(msg("{name} is {value}; it is one absolute path.", name=name, value=value))
    if folders is None:
        return
    if not any(is_below(path, folder) for folder in folders[kind]):
        raise AddressRefused(
            msg(
                "{name} is {value}, which does not lie below a folder that config.json names for it: {folders}.",
                name=name,
                value=value,
                folders=", ".join(map(str, folders[kind])),
            )
        )


def is_below(path: Path, folder: Path) -> bool:
    """Whether `path` is `folder` or lies in it, after every symbolic link was followed."""
    return path.resolve().is_relative_to(folder.resolve())


def _refuse_file(url: URL) -> None:
    if url.host or url.username or url.password or url.port:
        raise AddressRefused(msg("The address of a SQLite database is a path: sqlite:////path/to/file."))
    name = url.database or ""
    if not name.startswith("/") or CONTROL.search(name):
        raise AddressRefused(msg("Give an absolute path: sqlite:////path/to/file."))


def _refuse_server(url: URL) -> None:
    if url.host and not (HOST.fullmatch(url.host) or _is_address(url.host)):
        raise AddressRefused(
            msg("{host} is no host: give one name or one address, and a socket as a parameter.", host=url.host)
        )
    if url.host and socket_of(url):
        raise AddressRefused(msg("The address names a host and a socket; give one of them."))
    for part in (url.username, url.password, url.database):
        if part and CONTROL.search(part):
            raise AddressRefused(msg("There is a control character in the address."))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def socket_of(url: URL) -> str:
    """The folder or file of the socket that the address names; empty without one."""
    value = url.query.get(SOCKET_PARAMETERS.get(url.get_backend_name(), ""), "")
    return value if isinstance(value, str) else ""


def password_owner(url: URL) -> str:
    """To whom a password of this address may be shown: the same text means the same user, server and protection."""
    return repr([*_place(url), sorted((name, str(value)) for name, value in url.query.items() if name not in TIMING)])


def _place(url: URL) -> list[object]:
    engine = url.get_backend_name()
    return [
        FAMILIES.get(engine, engine),
        url.username or "",
        (url.host or "").lower(),
        url.port or PORTS.get(engine, 0),
        socket_of(url),
    ]


def only_stronger(before: URL, after: URL) -> bool:
    """Whether the same user at the same place is reached with the same protection, or with a stricter `sslmode`."""
    if _place(before) != _place(after):
        return False
    postgresql = after.get_backend_name() == "postgresql"
    mode, modes, usual = ("sslmode", SSL_MODES, "prefer") if postgresql else ("ssl_mode", MYSQL_SSL_MODES, "PREFERRED")
    rest = [{k: v for k, v in url.query.items() if k != mode and k not in TIMING} for url in (before, after)]
    old, new = (str(url.query.get(mode, usual)) for url in (before, after))
    return rest[0] == rest[1] and new in modes and old in modes and modes.index(new) >= modes.index(old)
