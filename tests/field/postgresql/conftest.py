"""The servers of the engine's own tests."""

from tests.engines.postgresql.conftest import lab, lab_with_checksums, server, server_with_checksums

__all__ = ["lab", "lab_with_checksums", "server", "server_with_checksums"]
