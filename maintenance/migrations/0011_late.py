from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("maintenance", "0010_switch")]

    operations = [
        migrations.AddField(
            model_name="runtarget",
            name="late_at",
            field=models.DateTimeField(null=True, verbose_name="told as late"),
        ),
    ]
