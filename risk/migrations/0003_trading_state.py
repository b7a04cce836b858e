"""The desk's row, and the changes of trading states, which nobody can change.

On SQLite a later change of the table of changes makes it anew, without its triggers: such a
migration has to run `guard` again.
"""

import django.db.models.deletion
from django.db import migrations, models


TABLE = "risk_tradingstatechange"


def seed(apps, schema_editor):
    """Make the one row."""
    apps.get_model("risk", "Desk").objects.create(pk=1)


def guard(apps, schema_editor):
    """Refuse updates and deletions of the rows that say what happened."""
    vendor = schema_editor.connection.vendor
    if vendor == "postgresql":
        schema_editor.execute(
            "CREATE FUNCTION risk_for_ever() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append only', "
            "ERRCODE = 'restrict_violation'; END $$"
        )
        schema_editor.execute(
            f"CREATE TRIGGER {TABLE}_for_ever BEFORE UPDATE OR DELETE ON {TABLE} "
            "FOR EACH ROW EXECUTE FUNCTION risk_for_ever()"
        )
    elif vendor == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            schema_editor.execute(
                f"CREATE TRIGGER {TABLE}_no_{verb.lower()} BEFORE {verb} ON {TABLE} "
                f"BEGIN SELECT RAISE(ABORT, '{TABLE} is append only'); END"
            )


def unguard(apps, schema_editor):
    """Take the triggers away."""
    vendor = schema_editor.connection.vendor
    if vendor == "postgresql":
        schema_editor.execute(f"DROP TRIGGER {TABLE}_for_ever ON {TABLE}")
        schema_editor.execute("DROP FUNCTION risk_for_ever()")
    elif vendor == "sqlite":
        for verb in ("update", "delete"):
            schema_editor.execute(f"DROP TRIGGER {TABLE}_no_{verb}")


class Migration(migrations.Migration):

    dependencies = [
        ('risk', '0002_limits_as_rows'),
    ]

    operations = [
        migrations.CreateModel(
            name='Desk',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('trading_state', models.CharField(choices=[('active', 'Active'), ('reducing', 'Reducing'), ('halted', 'Halted')], default='active', max_length=8)),
                ('state_reason', models.CharField(blank=True, max_length=200)),
                ('state_changed_by', models.CharField(blank=True, max_length=150)),
                ('state_changed_at', models.DateTimeField(blank=True, help_text='wall time', null=True)),
                ('is_stale', models.BooleanField(default=False, help_text='more than half of what is traded has no fresh price')),
                ('staleness', models.CharField(blank=True, help_text='what is stale, in words', max_length=200)),
                ('turning_since', models.DateTimeField(blank=True, help_text='wall time since which is_stale seems to be wrong', null=True)),
            ],
            options={
                'verbose_name_plural': 'desk',
                'constraints': [models.CheckConstraint(condition=models.Q(('id', 1)), name='desk_is_one')],
            },
        ),
        migrations.CreateModel(
            name='TradingStateChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('from_state', models.CharField(choices=[('active', 'Active'), ('reducing', 'Reducing'), ('halted', 'Halted')], max_length=8)),
                ('to_state', models.CharField(choices=[('active', 'Active'), ('reducing', 'Reducing'), ('halted', 'Halted')], max_length=8)),
                ('cause', models.CharField(choices=[('person', 'Person'), ('drawdown', 'Drawdown'), ('daily_loss', 'daily loss'), ('ledger_mismatch', 'ledger mismatch'), ('errors', 'Errors'), ('staleness', 'Staleness')], max_length=15)),
                ('reason', models.CharField(max_length=200)),
                ('by', models.CharField(blank=True, help_text='empty: the machine', max_length=150)),
                ('details', models.JSONField(default=dict, help_text='the figures that it was decided from')),
                ('at', models.DateTimeField(help_text='wall time')),
                ('market_time', models.DateTimeField()),
                ('profile', models.ForeignKey(blank=True, help_text='empty: all accounts', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='state_changes', to='risk.riskprofile')),
            ],
            options={
                'ordering': ['-id'],
                'indexes': [models.Index(fields=['profile', '-id'], name='state_change_newest')],
            },
        ),
        migrations.RunPython(seed, migrations.RunPython.noop),
        migrations.RunPython(guard, unguard),
    ]
