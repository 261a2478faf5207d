"""People, pages and consoles for those who attack."""

from tests.acceptance.conftest import console, migrated
from tests.web.conftest import as_

__all__ = ["as_", "console", "migrated"]
