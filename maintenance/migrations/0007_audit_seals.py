"""Signed ends of the audit chain; a chain that is there already is signed as it is."""

import django.utils.timezone
from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def sign(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    from maintenance.auditing.checkpoints import Checkpoint

    heads = apps.get_model("maintenance", "AuditHead").objects
    for head in heads.filter(entries__gt=0):
        heads.filter(pk=head.pk).update(signature=Checkpoint("head", head.entries, head.hash).signature())


class Migration(migrations.Migration):

    dependencies = [
        ("maintenance", "0006_stored_plan"),
    ]

    operations = [
        migrations.CreateModel(
            name='AuditSeal',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('entries', models.BigIntegerField(unique=True)),
                ('hash', models.CharField(max_length=64)),
                ('signature', models.CharField(max_length=128)),
                ('until', models.DateTimeField(verbose_name='until')),
                ('by', models.CharField(max_length=200, verbose_name='who')),
                ('sealed_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='at')),
            ],
            options={
                'db_table': 'audit_seal',
                'default_permissions': (),
            },
        ),
        migrations.AddField(
            model_name='audithead',
            name='signature',
            field=models.CharField(blank=True, max_length=128),
        ),
        migrations.RunPython(sign, migrations.RunPython.noop),
    ]
