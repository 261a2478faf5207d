"""Which admin site this installation has."""

from django.contrib.admin.apps import AdminConfig


class ConsoleAdminConfig(AdminConfig):
    default_site = "dbmaint_site.admin.ConsoleSite"
