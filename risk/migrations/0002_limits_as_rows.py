"""Each limit of a profile becomes a row of its own; the values of the columns are carried over."""

from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models

COLUMNS = {
    "max_position_size": 0.10,
    "max_portfolio_risk": 0.25,
    "max_drawdown": 0.20,
    "max_daily_loss": 0.05,
    "max_leverage": 1.0,
    "max_open_positions": 10,
    "min_confidence": 0.5,
    "min_notional": 10.0,
    "base_size": 0.02,
    "default_stop": 0.02,
    "reward_risk_ratio": 2.0,
}
ADDED = {
    "max_single_asset": 0.15,
    "max_sector": 0.30,
    "drawdown_warning": 0.15,
    "max_correlation": 0.80,
    "max_volatility": 0.20,
    "min_liquidity": 1_000_000.0,
    "max_stop_distance": 0.50,
    "kelly_fraction": 0.25,
    "kelly_min_trades": 30,
    "volatility_target": 0.05,
}


def columns_to_rows(apps, schema_editor):
    profiles = apps.get_model("risk", "RiskProfile")
    limits = apps.get_model("risk", "RiskLimit")
    for profile in profiles.objects.all():
        values = {name: getattr(profile, name) for name in COLUMNS} | ADDED
        limits.objects.bulk_create(
            limits(profile=profile, name=name, value=value) for name, value in values.items()
        )


def rows_to_columns(apps, schema_editor):
    profiles = apps.get_model("risk", "RiskProfile")
    limits = apps.get_model("risk", "RiskLimit")
    for profile in profiles.objects.all():
        rows = limits.objects.filter(profile=profile, strategy="", name__in=COLUMNS)
        for name, value in rows.values_list("name", "value"):
            setattr(profile, name, type(COLUMNS[name])(value))
        profile.save()


class Migration(migrations.Migration):
    dependencies: ClassVar = [("risk", "0001_initial")]

    operations: ClassVar = [
        migrations.CreateModel(
            name="RiskLimit",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=32)),
                ("strategy", models.CharField(blank=True, help_text="empty: for all", max_length=64)),
                ("value", models.FloatField()),
                ("changed_by", models.CharField(blank=True, max_length=150)),
                ("changed_at", models.DateTimeField(blank=True, help_text="wall time", null=True)),
                ("profile", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="limits", to="risk.riskprofile")),
            ],
            options={
                "ordering": ["profile", "name", "strategy"],
                "constraints": [models.UniqueConstraint(fields=("profile", "name", "strategy"), name="risk_limit_unique")],
            },
        ),
        migrations.CreateModel(
            name="RiskLimitChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=32)),
                ("strategy", models.CharField(blank=True, max_length=64)),
                ("old_value", models.FloatField()),
                ("new_value", models.FloatField()),
                ("changed_by", models.CharField(blank=True, max_length=150)),
                ("reason", models.CharField(blank=True, max_length=200)),
                ("at", models.DateTimeField(help_text="wall time")),
                ("profile", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="changes", to="risk.riskprofile")),
            ],
            options={"ordering": ["-at", "-id"]},
        ),
        migrations.RunPython(columns_to_rows, rows_to_columns),
        *(migrations.RemoveField(model_name="riskprofile", name=name) for name in COLUMNS),
    ]
