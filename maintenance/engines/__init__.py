"""The door to target databases: `open_engine` picks the product from the URL."""

from __future__ import annotations

from importlib import import_module

from sqlalchemy import URL

from . import addresses
from .base import Engine
from .values import Limits, Tag

ENGINES: dict[str, str] = {
    "postgresql": "maintenance.engines.postgresql:PostgreSQL",
    "mysql": "maintenance.engines.mysql:open_server",
    "mariadb": "maintenance.engines.mysql:open_server",
    "sqlite": "maintenance.engines.sqlite:SQLite",
}
"""URL scheme -> what makes the engine from (url, tag, limits). Imported on first use."""


def open_engine(url: URL, tag: Tag, limits: Limits) -> Engine:
    """Return the engine of the product that the URL names; does not connect.

    Raises LookupError for a product we do not know, AddressRefused for an address that says more than it may.
    """
    scheme = url.get_backend_name()
    if scheme not in ENGINES:
        raise LookupError(f"{scheme} is not supported; use one of {', '.join(sorted(ENGINES))}")
    addresses.refuse(url)
    module, _, factory = ENGINES[scheme].partition(":")
    made = getattr(import_module(module), factory)(url, tag, limits)
    assert isinstance(made, Engine)
    return made
