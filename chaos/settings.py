"""The console's own settings, with `chaos.faults` beside its applications."""

from dbmaint_site.settings import *  # noqa: F403
from dbmaint_site.settings import INSTALLED_APPS as ITS_OWN

INSTALLED_APPS = [*ITS_OWN, "chaos.faults.Faults"]
