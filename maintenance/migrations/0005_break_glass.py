"""Break-glass: its reason beside the approval, a permission of its own, and a group for the people who have it."""

from django.apps.registry import Apps
from django.contrib.auth.management import create_permissions
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def create(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    from django.apps import apps as live

    create_permissions(live.get_app_config("maintenance"), verbosity=0, using=editor.connection.alias)
    group, _ = apps.get_model("auth", "Group").objects.get_or_create(name="Break glass")
    permissions = apps.get_model("auth", "Permission").objects
    group.permissions.add(permissions.get(content_type__app_label="maintenance", codename="break_glass"))


class Migration(migrations.Migration):

    dependencies = [
        ('maintenance', '0004_recovery'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='maintenancerun',
            options={'ordering': ['-id'], 'permissions': [('launch_maintenance', 'Can launch a maintenance'), ('approve_maintenance', 'Can approve a maintenance'), ('break_glass', 'Can begin a maintenance without the approval it needs'), ('cancel_maintenance', 'Can cancel a maintenance'), ('allow_data_loss', 'Can allow data loss in a maintenance'), ('read_reports', 'Can read history, reports and trends')], 'verbose_name': 'maintenance run', 'verbose_name_plural': 'maintenance runs'},
        ),
        migrations.AddField(
            model_name='approval',
            name='broken_glass',
            field=models.TextField(blank=True, verbose_name='began without approval because'),
        ),
        migrations.RunPython(create, migrations.RunPython.noop),
    ]
