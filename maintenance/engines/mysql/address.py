"""The registered address: what of it reaches the driver and the native programs, and what never does.

An address is input. The driver would also take statements to run first, files to send and flags from it; so its
parameters go by the allow-list of `addresses`. And a server is believed nothing before it has proven who it is: it gets
no file, and the password as it stands by no plugin. MariaDB's library has such plugins ready (mysql_clear_password,
dialog); the driver is kept from them by an option file of ours, the programs by a plugin folder that does not hold
them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import MySQLdb
from MySQLdb.constants import CLIENT
from sqlalchemy import URL

from .. import addresses, programs
from ..errors import Unable
from ..messages import msg

FILES = ("ssl_ca", "ssl_capath", "ssl_cert", "ssl_key")
VERIFIED = frozenset(("VERIFY_CA", "VERIFY_IDENTITY"))
CONNECT_SECONDS = 10
LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))

SCRAMBLING = ("mysql_native_password", "client_ed25519", "parsec")
"""Client plugins that prove knowledge of the password without giving it away."""
SEALING = ("caching_sha2_password", "sha256_password")
"""Those that send the password itself, sealed with TLS or with a key that the server has named: only to a server that
has proven who it is, or that no network lies before."""


def parameters(url: URL) -> dict[str, str]:
    """Return what follows the question mark. Raises AddressRefused, by name, for what may not stand there."""
    addresses.refuse(url)
    return {name: str(value) for name, value in url.query.items()}


def ssl_mode(url: URL) -> str | None:
    """Return one of MYSQL_SSL_MODES; None where the address says nothing of TLS.

    With authorities alone the certificate's chain is verified and TLS demanded, but not the name in it.
    """
    given = parameters(url)
    if "ssl_mode" in given:
        return given["ssl_mode"]
    asked = given.get("ssl") == "true"
    return "REQUIRED" if asked or "ssl_ca" in given or "ssl_capath" in given else None


def plugins(url: URL) -> tuple[str, ...]:
    """Return the client plugins that may answer this server."""
    given = parameters(url)
    near = "unix_socket" in given or (url.host or "localhost") in LOOPBACK
    proven = ssl_mode(url) in VERIFIED or "server_public_key_path" in given
    return (*SCRAMBLING, *SEALING) if near or proven else SCRAMBLING


def connect(url: URL, read_seconds: int, first: str) -> MySQLdb.Connection:
    """Open a connection on which the statement `first` was run before any other.

    Raises MySQLdb's errors; Unable for an address that is not allowed, and where TLS is demanded and not offered.
    """
    given, mode = parameters(url), ssl_mode(url)
    seconds = ("connect_timeout", "write_timeout")
    options: dict[str, object] = {name: int(given[name]) for name in seconds if name in given}
    options.setdefault("connect_timeout", CONNECT_SECONDS)
    options["read_timeout"] = max(read_seconds, int(given.get("read_timeout", 0)))
    if mode is not None:
        options["ssl_mode"] = mode
    if certificates := {name.removeprefix("ssl_"): given[name] for name in FILES if name in given}:
        options["ssl"] = certificates
    for name in ("unix_socket", "server_public_key_path"):
        if name in given:
            options[name] = given[name]
    if "unix_socket" not in given:
        options.update(host=url.host or "127.0.0.1", port=url.port or 3306)
    with _option_file(plugins(url)) as file:
        connection = MySQLdb.connect(
            user=url.username or "",
            password=str(url.password or ""),
            charset="utf8mb4",
            read_default_file=str(file),
            local_infile=0,
            # A question of an operator must not end its read-only transaction and go on.
            multi_statements=False,
            init_command=first,
            **options,
        )
    if mode in ("REQUIRED", *VERIFIED) and not connection.server_capabilities & CLIENT.SSL:
        # The library would go on in the clear.
        connection.close()  # type: ignore[no-untyped-call]
        raise Unable("connecting to", url.host or "", msg("TLS is demanded, and the server does not offer it"))
    return connection


@contextmanager
def _option_file(allowed: tuple[str, ...]) -> Iterator[Path]:
    """The only option file the driver reads; no parameter of its own names the plugins that may be used."""
    with tempfile.NamedTemporaryFile("w", prefix="dbmaint-", suffix=".cnf") as file:
        file.write(f"[client]\nrestricted-auth={','.join(allowed)}\n")
        file.flush()
        yield Path(file.name)


# -- native programs -------------------------------------------------------------------------------


def environment(url: URL) -> dict[str, str]:
    """Return what a native program needs in its environment: it reads the password nowhere else but in files."""
    # MySQL's programs read a login file of their own whatever they are told of option files.
    ours = {"MYSQL_TEST_LOGIN_FILE": os.devnull}
    return {**ours, "MYSQL_PWD": str(url.password)} if url.password else ours


def arguments(url: URL, program: str) -> list[str]:
    """Return the arguments by which this native program reaches the server as the driver does."""
    given, mode = parameters(url), ssl_mode(url)
    ours = _mariadbs(url, mode) if is_mariadbs(program) else _mysqls(given, mode)
    local = ["--local-infile=0"] if Path(program).name in CLIENTS else []
    return ["--no-defaults", *way(url), *ours, *local]


def way(url: URL) -> list[str]:
    """Return the arguments that lead to the server, for any of the programs, by hand too."""
    given = parameters(url)
    user = [f"--user={url.username}"] if url.username else []
    certificates = [f"--{name.replace('_', '-')}={given[name]}" for name in FILES if name in given]
    if "unix_socket" in given:
        return [f"--socket={given['unix_socket']}", *user]
    return ["--protocol=tcp", f"--host={url.host or '127.0.0.1'}", f"--port={url.port or 3306}", *user, *certificates]


CLIENTS = ("mariadb", "mysql")
"""Programs that could send a file of ours; the others do not know how."""


def _mariadbs(url: URL, mode: str | None) -> list[str]:
    demanded = {"DISABLED": ["--skip-ssl"], "REQUIRED": ["--ssl"]}
    verified = ["--ssl", "--ssl-verify-server-cert"] if mode in VERIFIED else demanded.get(mode or "", [])
    return [f"--plugin-dir={plugin_folder(plugins(url))}", *verified]


def _mysqls(given: dict[str, str], mode: str | None) -> list[str]:
    key = [f"--server-public-key-path={given[name]}" for name in ("server_public_key_path",) if name in given]
    return ["--enable-cleartext-plugin=0", *key, *([f"--ssl-mode={mode}"] if mode else [])]


@cache
def is_mariadbs(program: str) -> bool:
    """Whether a program is MariaDB's, by its name or by what it says of itself; MySQL's take other options."""
    return (
        Path(program).name.startswith("maria")
        or "mariadb" in programs.run([program, "--no-defaults", "--version"]).lower()
    )


@cache
def _made(allowed: tuple[str, ...], process: int) -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="dbmaint-plugins-")
    for name in allowed:
        found = next((path for place in PLACES for path in sorted(Path("/usr").glob(f"{place}/{name}.so"))), None)
        if found is not None:
            (Path(folder.name) / found.name).symlink_to(found)
    return folder


PLACES = ("lib/*/libmariadb3/plugin", "lib*/mysql/plugin", "lib*/mariadb/plugin", "local/lib/mariadb/plugin")
"""Where MariaDB's packages put the plugins of its clients, below /usr."""


def plugin_folder(allowed: tuple[str, ...]) -> Path:
    """Return a folder that holds the allowed plugins alone. It lives as long as this process."""
    folder = Path(_made(allowed, os.getpid()).name)
    if not folder.is_dir():
        _made.cache_clear()
        folder = Path(_made(allowed, os.getpid()).name)
    return folder
