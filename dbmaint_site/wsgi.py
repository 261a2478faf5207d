"""Entry point for gunicorn: `gunicorn dbmaint_site.wsgi`."""

import os

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dbmaint_site.settings")
application = get_wsgi_application()
# gunicorn checks nothing by itself; a console with dangerous settings must not answer.
call_command("check")
