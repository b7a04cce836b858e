"""What is gone, and what must hold."""

import django.db.models.deletion
from django.db import migrations, models

import trading.fields


class Migration(migrations.Migration):
    dependencies = [
        ("collectors", "0013_stream_shards"),
        ("signals", "0008_strategy_files"),
        ("trading", "0003_double_entry"),
    ]

    operations = [
        migrations.DeleteModel("OldEntry"),
        migrations.RemoveField("order", "trigger_bar"),
        migrations.RemoveField("position", "exits_from"),
        migrations.CreateModel(
            name='ExecutionAttempt',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('outcome', models.CharField(choices=[('done', 'Done'), ('failed', 'Failed')], max_length=6)),
                ('error', models.CharField(blank=True, max_length=300)),
                ('duration_ms', models.FloatField()),
                ('at', models.DateTimeField(help_text='wall time')),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='FundingPayment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('quantity_steps', models.BigIntegerField(help_text='signed, as held at the funding time')),
                ('mark_price', models.FloatField(help_text='that it was reckoned with')),
                ('rate', models.FloatField(help_text='that it was reckoned with')),
                ('amount', trading.fields.MoneyField(help_text='received; negative: paid')),
                ('at', models.DateTimeField(help_text="the exchange's funding time (market time)")),
                ('recorded_at', models.DateTimeField(help_text='wall time')),
            ],
            options={
                'ordering': ['-at', '-id'],
            },
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('status', 'working')), fields=['account', 'instrument'], name='order_working'),
        ),
        migrations.AddIndex(
            model_name='position',
            index=models.Index(condition=models.Q(('quantity_steps', 0), _negated=True), fields=['account'], name='position_open'),
        ),
        migrations.AddIndex(
            model_name='trade',
            index=models.Index(fields=['account', 'strategy'], name='trade_of_strategy'),
        ),
        migrations.AddConstraint(
            model_name='fill',
            constraint=models.UniqueConstraint(fields=('order', 'trigger'), name='fill_once_per_trigger'),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.UniqueConstraint(fields=('transaction', 'book'), name='entry_once_per_book'),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(('amount', 0), _negated=True), name='entry_not_empty'),
        ),
        migrations.AddConstraint(
            model_name='ledgertransaction',
            constraint=models.UniqueConstraint(fields=('account', 'key'), name='transaction_once'),
        ),
        migrations.AddConstraint(
            model_name='order',
            constraint=models.UniqueConstraint(condition=models.Q(('key', ''), _negated=True), fields=('account', 'key'), name='order_once_per_key'),
        ),
        migrations.AddConstraint(
            model_name='order',
            constraint=models.CheckConstraint(condition=models.Q(('quantity_steps__gt', 0), ('filled_steps__gte', 0), ('filled_steps__lte', models.F('quantity_steps'))), name='order_quantity_possible'),
        ),
        migrations.AddField(
            model_name='executionattempt',
            name='account',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='attempts', to='trading.account'),
        ),
        migrations.AddField(
            model_name='executionattempt',
            name='order',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='trading.order'),
        ),
        migrations.AddField(
            model_name='executionattempt',
            name='signal',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='signals.signal'),
        ),
        migrations.AddField(
            model_name='fundingpayment',
            name='account',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='funding', to='trading.account'),
        ),
        migrations.AddField(
            model_name='fundingpayment',
            name='position',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='funding', to='trading.position'),
        ),
        migrations.AddField(
            model_name='fundingpayment',
            name='settlement',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='payments', to='collectors.fundingrate'),
        ),
        migrations.AddIndex(
            model_name='executionattempt',
            index=models.Index(fields=['account', '-id'], name='attempt_newest'),
        ),
        migrations.AddConstraint(
            model_name='fundingpayment',
            constraint=models.UniqueConstraint(fields=('account', 'settlement'), name='funding_payment_once'),
        ),
    ]
