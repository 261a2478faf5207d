"""When a person released what needed an operator: of the releases of before, the audit log tells."""

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def take_from_audit(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    released = apps.get_model("maintenance", "AuditEntry").objects.filter(operation="target.released")
    targets = apps.get_model("maintenance", "RunTarget").objects
    for entry in released.order_by("id").iterator():
        database, _, run = entry.object.rpartition(" in run ")
        targets.filter(database=database, run_id=run).update(released_at=entry.at)


class Migration(migrations.Migration):
    dependencies = [("maintenance", "0018_installation")]
    operations = [
        migrations.AddField(
            model_name="runtarget",
            name="released_at",
            field=models.DateTimeField(null=True, verbose_name="released by a person"),
        ),
        migrations.RunPython(take_from_audit, migrations.RunPython.noop),
    ]
