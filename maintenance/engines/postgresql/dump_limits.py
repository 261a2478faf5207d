"""What an account that is no superuser cannot create again, and so cannot restore from a dump."""

from __future__ import annotations

from sqlalchemy import Connection

from .capabilities import Capabilities
from .definitions import OURS
from .sql import ask

SPACES = """
SELECT DISTINCT t.spcname, has_tablespace_privilege(%(me)s::oid, t.oid, 'CREATE') FROM pg_tablespace t
JOIN (SELECT reltablespace AS oid FROM pg_class
      UNION ALL SELECT dattablespace FROM pg_database WHERE datname = current_database()) u USING (oid)
WHERE t.spcname NOT IN ('pg_default', 'pg_global') ORDER BY 1
"""
"""Tablespaces that are named in a dump, and whether the account may create in them."""

EXTENSIONS = """
SELECT format('extension %I', e.extname) FROM pg_extension e
LEFT JOIN pg_available_extension_versions v ON v.name = e.extname AND v.version = e.extversion
WHERE e.extname <> 'plpgsql' AND coalesce(v.superuser, true)
"""
"""plpgsql is in every new database."""

KINDS = f"""
WITH own AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
objects AS (
  SELECT 'pg_event_trigger'::regclass AS class, oid, format('event trigger %I', evtname) AS object FROM pg_event_trigger
  UNION ALL SELECT 'pg_publication'::regclass, oid, format('publication %I', pubname) FROM pg_publication
    WHERE puballtables
  UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, format('foreign data wrapper %I', fdwname)
    FROM pg_foreign_data_wrapper
  UNION ALL SELECT 'pg_proc'::regclass, p.oid, format('function %I.%I', n.nspname, p.proname)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
    JOIN pg_roles r ON r.oid = p.proowner WHERE {OURS} AND (r.rolsuper OR NOT l.lanpltrusted)
  UNION ALL SELECT 'pg_namespace'::regclass, n.oid, format('schema %I', n.nspname)
    FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner WHERE {OURS} AND n.nspname <> 'public' AND r.rolsuper
  UNION ALL SELECT 'pg_class'::regclass, c.oid, format('%I.%I', n.nspname, c.relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.oid = c.relowner
    WHERE {OURS} AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND (r.rolsuper
      OR NOT pg_has_role(c.relowner, n.nspowner, 'USAGE') AND NOT (n.nspname = 'public' AND n.nspowner = 10))
  UNION ALL SELECT 'pg_type'::regclass, t.oid, format('type %I.%I', n.nspname, t.typname)
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace JOIN pg_roles r ON r.oid = t.typowner
    WHERE {OURS} AND r.rolsuper AND t.typtype IN ('d', 'e', 'r'))
SELECT object FROM objects WHERE (class, oid) NOT IN (SELECT classid, objid FROM own) ORDER BY object
"""
"""Kinds that are for superusers, whatever belongs to one, and what belongs to another role than its schema: its owner
may not create there when it is given to him, as grants come last. An extension brings its own along. Before version
15 the schema `public` belongs to role 10 and is open to everybody.
https://www.postgresql.org/docs/current/sql-commands.html, statement by statement."""

SUBSCRIPTIONS = """
SELECT format('subscription %I', subname) FROM pg_subscription
WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1
"""


def for_superusers(connection: Connection, capabilities: Capabilities) -> list[str]:
    """Return the objects by name, without the tables that `grants` has given away."""
    trusted = " AND NOT coalesce(v.trusted, false)" if capabilities.trusted_extensions else ""
    statements = (f"{EXTENSIONS}{trusted} ORDER BY 1", SUBSCRIPTIONS, KINDS)
    return [str(name) for statement in statements for (name,) in ask(connection, statement)]
