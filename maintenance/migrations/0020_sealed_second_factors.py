"""Keys of second factors are encrypted, as the passwords of databases are."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from maintenance.models.factor import owner_of_key
from maintenance.conf.secrets import SEALED, open_key, seal_key


def seal(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    devices = apps.get_model("otp_totp", "TOTPDevice").objects
    for device in devices.exclude(key__startswith=SEALED):
        key = seal_key(bytes.fromhex(device.key), owner_of_key(device.user_id))
        devices.filter(pk=device.pk).update(key=key)


def unseal(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    devices = apps.get_model("otp_totp", "TOTPDevice").objects
    for device in devices.filter(key__startswith=SEALED):
        devices.filter(pk=device.pk).update(key=open_key(device.key, owner_of_key(device.user_id)).hex())


class Migration(migrations.Migration):
    dependencies = [("maintenance", "0019_released_by_a_person"), ("otp_totp", "0003_add_timestamps")]
    operations = [
        migrations.CreateModel(
            name="Authenticator",
            fields=[],
            options={"proxy": True, "default_permissions": (), "indexes": [], "constraints": []},
            bases=("otp_totp.totpdevice",),
        ),
        migrations.RunPython(seal, unseal),
    ]
