"""Settings of the tests: everything in a scratch folder, nothing of the machine's."""

import os
import tempfile

_scratch = tempfile.mkdtemp(prefix="dbmaint-tests-")
os.environ["DBMAINT_HOME"] = _scratch
os.environ["DBMAINT_CONFIG"] = os.path.join(_scratch, "config.json")
os.environ["DBMAINT_INSECURE"] = "1"
os.environ.pop("DBMAINT_DATABASE_URL", None)

from dbmaint_site.control import database_from_url  # noqa: E402
from dbmaint_site.settings import *  # noqa: E402, F403
from dbmaint_site.settings import DATABASES  # noqa: E402

# A server of PostgreSQL where one is named: Django makes a database test_… there and drops it. Otherwise a file,
# because the heartbeat and the work run in threads with connections of their own.
if "DBMAINT_TEST_DATABASE_URL" in os.environ:
    DATABASES["default"] = database_from_url(os.environ["DBMAINT_TEST_DATABASE_URL"])
else:
    DATABASES["default"]["TEST"] = {"NAME": os.path.join(_scratch, "test.sqlite3")}
    # Nobody pulls the plug of a test: its commits need not wait for the disk.
    DATABASES["default"]["OPTIONS"]["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LOGGING = {"version": 1, "disable_existing_loggers": False}
