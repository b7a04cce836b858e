from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("collectors", "0015_api_keys")]

    operations = [
        migrations.RemoveField(model_name="backfill", name="idempotency_key"),
        migrations.RemoveField(model_name="backfill", name="asked"),
    ]
