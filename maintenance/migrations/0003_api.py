"""The key of an API request, and a group for the machine that monitors the databases."""

from django.apps.registry import Apps
from django.conf import settings
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

POSTING = "add_databasestate"
MONITORING = [POSTING, "view_databasestate", "view_maintenancerun"]


def monitoring(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    group_model = apps.get_model("auth", "Group")
    known = apps.get_model("auth", "Permission").objects.filter(content_type__app_label="maintenance")
    group, _ = group_model.objects.get_or_create(name="Monitoring")
    group.permissions.add(*known.filter(codename__in=MONITORING))
    group_model.objects.get(name="DBA").permissions.add(known.get(codename=POSTING))


class Migration(migrations.Migration):
    dependencies = [
        ("maintenance", "0002_groups"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        migrations.AddField(
            model_name="maintenancerun",
            name="request_key",
            field=models.CharField(editable=False, max_length=200, null=True, verbose_name="key of the request"),
        ),
        migrations.AddConstraint(
            model_name="maintenancerun",
            constraint=models.UniqueConstraint(fields=("requested_by", "request_key"), name="one_run_a_request_key"),
        ),
        migrations.RunPython(monitoring, migrations.RunPython.noop),
    ]
