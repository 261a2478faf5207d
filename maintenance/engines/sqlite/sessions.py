"""The part `Sessions`: who the file is, its tables, and who else has it open."""

from __future__ import annotations

from ..errors import Damaged
from ..messages import Message, msg
from ..parts import Sessions
from ..values import Facts
from .capabilities import VERSION
from .names import folded, spellings, tables_in
from .processes import holders, named
from .target import DatabaseFile


class FileSessions(Sessions):
    """Connections to the file."""

    def __init__(self, file: DatabaseFile) -> None:
        self.file = file

    def facts(self) -> Facts:
        """See Sessions.facts. The inode tells hard links apart from copies; never makes a file."""
        status = self.file.require()
        with self.file.working("opening", self.file.name) as connection:
            # Needs no lock, so that a file in use, or a damaged one, still says who it is.
            connection.execute("SELECT 1").fetchone()
        return Facts(
            version=VERSION,
            identity=f"sqlite:{status.st_dev}:{status.st_ino}",
            data_directory=str(self.file.path.parent),
            is_replica=False,
            size_bytes=self.file.size(),
        )

    def spellings(self) -> dict[str, list[str]]:
        """See Sessions.spellings; folded. Where the schema cannot be read there is no table to name."""
        self.file.require()
        try:
            with self.file.working("listing the tables of", self.file.name) as connection:
                return spellings(tables_in(connection))
        except Damaged:
            return {}

    def folded(self, name: str) -> str:
        """See Sessions.folded."""
        return folded(name)

    def writers(self) -> list[Message]:
        """See Sessions.writers. Only who has the file open now can be told: a file keeps no record of who wrote."""
        return [
            *[msg("{process} has the file open", process=named([pid])) for pid in holders(self.file.path)],
            msg("who wrote earlier is recorded nowhere: a file keeps no record of its writers"),
        ]

    def end_statements(self) -> None:
        """See Sessions.end_statements."""
        self.file.interrupt()
