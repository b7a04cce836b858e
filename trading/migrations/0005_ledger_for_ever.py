"""Triggers that let nobody change what is booked.

On SQLite a later change of one of these tables makes it anew, without its triggers: such a
migration has to run `guard` again.
"""

from django.db import migrations

FOR_EVER = ("trading_fill", "trading_ledgertransaction", "trading_ledgerentry")

POSTGRESQL = """
CREATE FUNCTION trading_for_ever() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append only', ERRCODE = 'restrict_violation';
END $$;
CREATE FUNCTION trading_adds_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT sum(amount) FROM trading_ledgerentry
        WHERE transaction_id = NEW.transaction_id) <> 0 THEN
        RAISE EXCEPTION USING
            MESSAGE = 'transaction ' || NEW.transaction_id || ' does not add up to zero',
            ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER trading_entries_add_up AFTER INSERT ON trading_ledgerentry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION trading_adds_up();
"""
POSTGRESQL_BACK = """
DROP TRIGGER trading_entries_add_up ON trading_ledgerentry;
DROP FUNCTION trading_adds_up();
DROP FUNCTION trading_for_ever();
"""


def guard(apps, schema_editor):
    """Refuse updates and deletions of the tables that are for ever."""
    vendor = schema_editor.connection.vendor
    if vendor == "postgresql":
        schema_editor.execute(POSTGRESQL)
        for table in FOR_EVER:
            schema_editor.execute(
                f"CREATE TRIGGER {table}_for_ever BEFORE UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION trading_for_ever()"
            )
    elif vendor == "sqlite":
        for table in FOR_EVER:
            for verb in ("UPDATE", "DELETE"):
                schema_editor.execute(
                    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append only'); END"
                )


def unguard(apps, schema_editor):
    """Take the triggers away."""
    vendor = schema_editor.connection.vendor
    if vendor == "postgresql":
        for table in FOR_EVER:
            schema_editor.execute(f"DROP TRIGGER {table}_for_ever ON {table}")
        schema_editor.execute(POSTGRESQL_BACK)
    elif vendor == "sqlite":
        for table in FOR_EVER:
            for verb in ("update", "delete"):
                schema_editor.execute(f"DROP TRIGGER {table}_no_{verb}")


class Migration(migrations.Migration):
    dependencies = [("trading", "0004_constraints")]

    operations = [
        migrations.RunPython(guard, unguard),
    ]
