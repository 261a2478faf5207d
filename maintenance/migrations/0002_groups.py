"""Four groups of people, and the head of the audit chain."""

from django.apps.registry import Apps
from django.contrib.auth.management import create_permissions
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

GROUPS = {
    "DBA": [
        "launch_maintenance",
        "approve_maintenance",
        "cancel_maintenance",
        "read_reports",
        "view_maintenancerun",
        "view_maintenancesetting",
        "view_databasestate",
    ],
    "Management": ["read_reports", "view_maintenancerun", "view_databasestate"],
    "Maintenance administrators": [
        "add_maintenancesetting",
        "change_maintenancesetting",
        "delete_maintenancesetting",
        "view_maintenancesetting",
        "view_databasestate",
        "view_maintenancerun",
    ],
    "Auditors": ["view_auditentry", "verify_audit", "view_maintenancerun"],
}


def create(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    from django.apps import apps as live

    create_permissions(live.get_app_config("maintenance"), verbosity=0, using=editor.connection.alias)
    group_model = apps.get_model("auth", "Group")
    permission_model = apps.get_model("auth", "Permission")
    for name, codenames in GROUPS.items():
        group, _ = group_model.objects.get_or_create(name=name)
        found = permission_model.objects.filter(content_type__app_label="maintenance", codename__in=codenames)
        assert found.count() == len(codenames), name
        group.permissions.add(*found)
    apps.get_model("maintenance", "AuditHead").objects.get_or_create(pk=1, defaults={"hash": "0" * 64})


class Migration(migrations.Migration):
    dependencies = [
        ("maintenance", "0001_tables"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(create, migrations.RunPython.noop)]
