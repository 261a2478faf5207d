"""What is encrypted on disk, and who may come in by TLS only: both must be so again after the work."""

from __future__ import annotations

import re

from sqlalchemy.exc import DBAPIError

from . import structure
from .accounts import reaching_accounts
from .connection import Session
from .fingerprints import OUR_TABLES
from .names import canonical
from .target import Server


def encryption(server: Server, side: str | None) -> dict[str, list[str]]:
    """See Verifier.encryption: InnoDB's tablespaces, and the options in a table's definition.

    The definitions are read first: MariaDB lists a tablespace only once its table was opened. Whether an Aria
    table is encrypted no statement tells.
    """
    schema = side or server.schema
    with server.session("reading the encryption of", schema) as session:
        names = [table.name for table in structure.tables(session, schema) if table.transactional]
        names = [name for name in names if side is None or not name.startswith(OUR_TABLES)]
        declared = {name: _declared(session, schema, name) for name in names}
        stored = _on_disk(server, session, schema)
    marks = {canonical(name): [*declared[name], *stored.get(name, [])] for name in names}
    return {name: found for name, found in marks.items() if found}


def _declared(session: Session, schema: str, table: str) -> list[str]:
    try:
        shown = structure.table_definition(session, schema, table)
    except DBAPIError:
        return []
    options: dict[str, str] = dict(OPTION.findall(shown[shown.rfind("\n)") :]))
    wanted = options.get("ENCRYPTED", options.get("ENCRYPTION", "")).upper() in ("YES", "Y")
    return [f"{name}={value}" for name, value in options.items()] if wanted else []


OPTION = re.compile(r"\b(ENCRYPTED|ENCRYPTION|ENCRYPTION_KEY_ID)`?='?(\w+)")


def _on_disk(server: Server, session: Session, schema: str) -> dict[str, list[str]]:
    """Tables of which every tablespace (a partition has its own) is encrypted."""
    files: dict[str, list[tuple[bool, str]]] = {}
    for folder, table, encrypted, key in session.ask(server.capabilities.encrypted_sql):
        if str(folder) == schema:
            files.setdefault(str(table), []).append((bool(encrypted), str(key)))
    return {
        table: [f"encrypted on disk with key {key}" for key in sorted({key for _, key in found})]
        for table, found in files.items()
        if all(encrypted for encrypted, _ in found)
    }


def tls(server: Server) -> dict[str, list[str]]:
    """See Verifier.tls: accounts that reach the schema, and the server as a whole."""
    with server.session("reading who must use TLS for") as session:
        reaching = reaching_accounts(server, session)
        found = {
            f"'{user}'@'{host}'": _demands(*demands)
            for user, host, *demands in session.ask(
                "SELECT user, host, CAST(ssl_type AS CHAR), CONVERT(ssl_cipher USING utf8mb4),"
                " CONVERT(x509_issuer USING utf8mb4), CONVERT(x509_subject USING utf8mb4)"
                " FROM mysql.user WHERE ssl_type <> '' ORDER BY 1, 2"
            )
            if reaching is None or f"'{user}'@'{host}'" in reaching
        }
        required = session.ask("SHOW GLOBAL VARIABLES LIKE 'require_secure_transport'")
    if required and required[0][1] == "ON":
        found["the server"] = ["require_secure_transport"]
    return found


def _demands(kind: str, cipher: str, issuer: str, subject: str) -> list[str]:
    plain = {"ANY": ["REQUIRE SSL"], "X509": ["REQUIRE X509"]}.get(str(kind), [])
    named = {"CIPHER": cipher, "ISSUER": issuer, "SUBJECT": subject}
    return plain + [f"REQUIRE {word} {value}" for word, value in named.items() if value]
