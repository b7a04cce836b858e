"""The ledger becomes double entry; what was booked once is booked twice."""

import itertools

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import F, Q

import trading.fields

COUNTER_BOOKS = {"deposit": "capital", "fee": "fees", "realised_pnl": "realised_pnl"}


def book_twice(apps, schema_editor):
    """One transaction for each fill and deposit, with cash on one side."""
    Old = apps.get_model("trading", "OldEntry")
    Transaction = apps.get_model("trading", "LedgerTransaction")
    Entry = apps.get_model("trading", "LedgerEntry")
    rows = Old.objects.select_related("fill").order_by("account_id", "fill_id", "id")
    for (account_id, fill_id), group in itertools.groupby(
        rows.iterator(), key=lambda row: (row.account_id, row.fill_id)
    ):
        sides = list(group)
        first = sides[0]
        made = Transaction.objects.create(
            account_id=account_id,
            kind="fill" if fill_id else "deposit",
            key=f"fill:{fill_id}" if fill_id else "deposit",
            fill_id=fill_id,
            at=first.at,
            recorded_at=first.fill.recorded_at if fill_id else first.at,
        )
        amounts = {COUNTER_BOOKS[row.kind]: -row.amount for row in sides}
        amounts["cash"] = -sum(amounts.values())
        Entry.objects.bulk_create(
            Entry(transaction=made, account_id=account_id, book=book, amount=amount)
            for book, amount in amounts.items()
            if amount
        )


class Migration(migrations.Migration):
    dependencies = [("trading", "0002_orders_that_rest")]

    operations = [
        migrations.RenameModel("LedgerEntry", "OldEntry"),
        migrations.AlterField(
            "oldentry",
            "account",
            models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="old_entries",
                db_index=False,
                to="trading.account",
            ),
        ),
        migrations.AlterField(
            "oldentry",
            "fill",
            models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="old_entries",
                db_index=False,
                to="trading.fill",
            ),
        ),
        migrations.CreateModel(
            name="LedgerTransaction",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("deposit", "Deposit"),
                            ("fill", "Fill"),
                            ("funding", "Funding"),
                        ],
                        max_length=8,
                    ),
                ),
                ("key", models.CharField(max_length=64)),
                ("at", models.DateTimeField(help_text="market time")),
                ("recorded_at", models.DateTimeField(help_text="wall time")),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="transactions",
                        to="trading.account",
                    ),
                ),
                (
                    "fill",
                    models.OneToOneField(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="transaction",
                        to="trading.fill",
                    ),
                ),
            ],
            options={"ordering": ["-id"]},
        ),
        migrations.CreateModel(
            name="LedgerEntry",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "book",
                    models.CharField(
                        choices=[
                            ("cash", "Cash"),
                            ("capital", "Capital"),
                            ("fees", "Fees"),
                            ("funding", "Funding"),
                            ("realised_pnl", "Realised Pnl"),
                        ],
                        max_length=12,
                    ),
                ),
                ("amount", trading.fields.MoneyField()),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="entries",
                        to="trading.account",
                    ),
                ),
                (
                    "transaction",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="entries",
                        to="trading.ledgertransaction",
                    ),
                ),
            ],
            options={"ordering": ["-id"], "verbose_name_plural": "ledger entries"},
        ),
        migrations.RunPython(book_twice, migrations.RunPython.noop),
    ]
