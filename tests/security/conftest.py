"""People and pages for those who attack."""

from tests.web.conftest import as_

__all__ = ["as_"]
