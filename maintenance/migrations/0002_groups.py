"""The groups of people and machines with their permissions, and the head of the audit chain."""

from django.apps.registry import Apps
from django.contrib.auth.management import create_permissions
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

GROUPS = {
    "DBA": [
        "add_databasestate",
        "add_incident",
        "approve_maintenance",
        "cancel_maintenance",
        "launch_maintenance",
        "read_reports",
        "view_databasestate",
        "view_maintenancerun",
        "view_maintenancesetting",
    ],
    "Management": ["read_reports", "view_databasestate", "view_maintenancerun"],
    "Maintenance administrators": [
        "add_maintenancesetting",
        "change_maintenancesetting",
        "delete_maintenancesetting",
        "view_databasestate",
        "view_incident",
        "view_maintenancerun",
        "view_maintenancesetting",
        "view_notification",
    ],
    "Auditors": ["verify_audit", "view_auditentry", "view_maintenancerun"],
    "Monitoring": ["add_databasestate", "add_incident", "view_databasestate", "view_maintenancerun"],
    "Break glass": ["break_glass"],
}


def create(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    _create_permissions(apps, editor.connection.alias)
    permissions = apps.get_model("auth", "Permission").objects.filter(content_type__app_label="maintenance")
    for name, codenames in GROUPS.items():
        group, _ = apps.get_model("auth", "Group").objects.get_or_create(name=name)
        granted = permissions.filter(codename__in=codenames)
        assert granted.count() == len(codenames), name
        group.permissions.add(*granted)
    apps.get_model("maintenance", "AuditHead").objects.get_or_create(pk=1, defaults={"hash": "0" * 64})


def _create_permissions(apps: Apps, database: str) -> None:
    """Create now what Django creates after all migrations: for an app without `models_module` it would skip."""
    app = apps.get_app_config("maintenance")
    if getattr(app, "models_module", None) is None:
        app.models_module = migrations
    create_permissions(app, verbosity=0, using=database, apps=apps)


class Migration(migrations.Migration):
    dependencies = [
        ("maintenance", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(create, migrations.RunPython.noop)]
