from django.db import migrations
from django.utils import timezone

CHUNK = 1000


def begin_fates(apps, schema_editor):
    """A row for every signal that is there already: all are followed from their entry on."""
    signal_model = apps.get_model("signals", "Signal")
    outcome_model = apps.get_model("signals", "SignalOutcome")
    now = timezone.now()
    chunk = []
    signals = signal_model.objects.exclude(direction=0).order_by("pk")
    for pk, at, timeframe, coin_id in signals.values_list(
        "pk", "at", "timeframe", "instrument__coin_id"
    ).iterator(chunk_size=CHUNK):
        base = timeframe if timeframe in ("1m", "5m", "15m") else "1h"
        chunk.append(
            outcome_model(
                signal_id=pk,
                entry_at=at,
                due_at=at,
                series_key=f"candles:{coin_id}:{base}",
                changed_at=now,
            )
        )
        if len(chunk) == CHUNK:
            outcome_model.objects.bulk_create(chunk)
            chunk = []
    outcome_model.objects.bulk_create(chunk)


class Migration(migrations.Migration):

    dependencies = [
        ('signals', '0005_fates_of_signals'),
    ]

    operations = [
        migrations.RunPython(begin_fates, migrations.RunPython.noop),
    ]
