"""What the strategies said: their configuration, the bar runs and the signals, with their fates."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from signals.forecasts import risk_level
from signals.registry import OUTSIDE


class Direction(models.IntegerChoices):
    """The wanted state."""

    SHORT = -1, "SHORT"
    FLAT = 0, "FLAT"
    LONG = 1, "LONG"


class StrategyOrigin(models.TextChoices):
    """Whose a strategy is."""

    OURS = "ours", "part of the product"
    FILE = "file", "a file in MTS_STRATEGY_DIR"


class StrategyConfig(models.Model):
    """One strategy as the operator runs it. Enabled only with a valid certificate.

    Of a file's strategy the row says what was found in the file when it was last loaded.
    """

    name = models.SlugField(max_length=64, unique=True)
    is_enabled = models.BooleanField(default=False)
    is_wanted = models.BooleanField(
        default=False, help_text="enabled as soon as it has a certificate"
    )
    parameters = models.JSONField(default=dict, blank=True)
    pending = models.JSONField(
        default=dict,
        blank=True,
        help_text="new parameters, who asked for them, and the certificate that they failed",
    )
    weight = models.FloatField(default=1.0)
    assets = models.JSONField(
        default=list, blank=True, help_text="coin ids that it speaks of; all when empty"
    )
    certificate_hash = models.CharField(
        max_length=64, blank=True, help_text="hash of the code and parameters that passed"
    )
    certified_at = models.DateTimeField(null=True, blank=True)
    certificate_detail = models.JSONField(default=dict, blank=True)
    certifying_by = models.CharField(max_length=64, blank=True)
    certifying_until = models.DateTimeField(null=True, blank=True)
    origin = models.CharField(
        max_length=4, choices=StrategyOrigin.choices, default=StrategyOrigin.OURS
    )
    load_error = models.TextField(
        blank=True, help_text="why the file cannot be run; of ours: why a file is passed over"
    )
    file_hash = models.CharField(max_length=64, blank=True, help_text="SHA-256 of the file loaded")
    loaded_at = models.DateTimeField(null=True, blank=True, help_text="wall time")
    declaration = models.JSONField(
        default=dict, blank=True, help_text="what the file declares; its lookback in bars"
    )

    class Meta:
        ordering = ["name"]
        verbose_name = "strategy"
        verbose_name_plural = "strategies"

    def __str__(self) -> str:
        return self.name

    @property
    def certificate_verdict(self) -> str:
        """The newest certificate in words: none, passed, revoked, or what failed at which bar."""
        detail = self.certificate_detail
        if self.certificate_hash:
            return "passed"
        if not detail:
            return "none"
        if not detail.get("failed_check"):
            return "revoked"
        found = " ".join(
            str(part)
            for part in (detail.get("failed_check"), detail.get("failing_bar"))
            if part is not None
        )
        output = detail.get("failing_output")
        return f"failed: {found}" + (f" ({output})" if output else "")


class StrategyChange(models.Model):
    """Who changed what of a strategy's settings. Written in the transaction of the change."""

    strategy = models.ForeignKey(StrategyConfig, on_delete=models.CASCADE, related_name="changes")
    at = models.DateTimeField(help_text="wall time")
    by = models.CharField(max_length=150, help_text="a login's name, or system")
    changes = models.JSONField(help_text="what -> its old and its new value")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.strategy_id} by {self.by} {self.at:%Y-%m-%d %H:%M}"


class RunState(models.TextChoices):
    """Where a bar run stands."""

    RUNNING = "running"
    DONE = "done"


class BarRun(models.Model):
    """One run of all strategies for one closed bar, with the revisions of the series it saw.

    Long work under a lease: `owner` holds it until `leased_until` (database time), and the final
    write is fenced by `attempt`.
    """

    timeframe = models.CharField(max_length=4)
    bar_open_time = models.DateTimeField()
    state = models.CharField(max_length=8, choices=RunState.choices, default=RunState.RUNNING)
    is_complete = models.BooleanField(
        default=True, help_text="false when the run began at the deadline with candles missing"
    )
    revisions = models.JSONField(default=dict)
    failures = models.JSONField(default=dict, help_text="strategy -> what it raised")
    withheld = models.JSONField(
        default=dict,
        help_text="strategy -> coin id -> why the bar could not be computed; * is every instrument",
    )
    durations = models.JSONField(
        default=dict, help_text="strategy -> wall seconds of the pass that this bar was part of"
    )
    signal_count = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField(help_text="wall time")
    finished_at = models.DateTimeField(null=True, help_text="wall time")
    owner = models.CharField(max_length=64, blank=True)
    attempt = models.PositiveIntegerField(default=0)
    leased_until = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-bar_open_time"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["timeframe", "bar_open_time"], name="bar_run_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.timeframe} {self.bar_open_time:%Y-%m-%d %H:%M} {self.state}"


class Signal(models.Model):
    """A change of a strategy's wanted state (or of its stop) at one closed bar.

    One from outside belongs to no run and keeps to no grid: its "bar" ends when it was said.
    """

    strategy = models.CharField(max_length=64)
    instrument = models.ForeignKey(
        "collectors.Instrument", on_delete=models.PROTECT, related_name="signals"
    )
    timeframe = models.CharField(max_length=4)
    bar_open_time = models.DateTimeField()
    at = models.DateTimeField(help_text="the bar's close time, market time")
    direction = models.SmallIntegerField(choices=Direction.choices)
    confidence = models.FloatField()
    price = models.FloatField(help_text="the bar's close")
    stop_loss = models.FloatField(null=True)
    take_profit = models.FloatField(null=True)
    position_size = models.FloatField(null=True, help_text="proposed fraction of equity")
    expires_at = models.DateTimeField(help_text="market time")
    reasons = models.JSONField(default=dict)
    run = models.ForeignKey(
        BarRun, null=True, blank=True, on_delete=models.PROTECT, related_name="signals"
    )
    created_at = models.DateTimeField(help_text="wall time")

    class Meta:
        ordering = ["-at", "-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["strategy", "instrument", "timeframe", "bar_open_time"],
                name="signal_unique",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["instrument", "strategy", "-bar_open_time"]),
            models.Index(
                fields=["at"], condition=models.Q(strategy=OUTSIDE), name="signal_from_outside"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.strategy} {self.instrument_id} {self.signal_type} {self.at:%Y-%m-%d %H:%M}"

    @property
    def signal_type(self) -> str:
        """LONG, SHORT or FLAT."""
        return Direction(self.direction).label

    @property
    def risk_level(self) -> str:
        """low, medium or high by the share of equity lost at the stop."""
        return risk_level(self.price, self.stop_loss, self.position_size)


class OutcomeState(models.TextChoices):
    """How far a signal's fate is known."""

    OPEN = "open", "open: followed"
    WAITING = "waiting", "waiting: bars are missing that may still come"
    DONE = "done"
    UNKNOWABLE = "unknowable", "unknowable: nobody has the bar to enter at"


class Exit(models.TextChoices):
    """What ended a signal's stand, whichever came first."""

    STOP = "stop", "the stop was touched"
    TARGET = "target", "the take-profit was touched"
    STATE = "state", "the next signal"
    HORIZON = "horizon", "seven days passed"


class SignalOutcome(models.Model):
    """What became of a signal, as `signals.outcomes` defines it: for people, never for decisions.

    One row for each signal that is not flat, written with it and completed as candles arrive;
    `revision` is that of the candle series it was last computed from. Returns are fractions in the
    signal's direction, from the open of the bar after the signal's; null while not known.
    """

    signal = models.OneToOneField(
        Signal, on_delete=models.CASCADE, related_name="outcome", primary_key=True
    )
    state = models.CharField(max_length=10, choices=OutcomeState.choices, default=OutcomeState.OPEN)
    detail = models.CharField(max_length=200, blank=True, help_text="what it waits for, or lacks")
    entry_at = models.DateTimeField(help_text="open time of the bar of the entry (market time)")
    entry_price = models.FloatField(null=True, help_text="that bar's open")
    return_1h = models.FloatField(null=True)
    return_4h = models.FloatField(null=True)
    return_1d = models.FloatField(null=True)
    return_3d = models.FloatField(null=True)
    return_7d = models.FloatField(null=True)
    ended_at = models.DateTimeField(
        null=True, help_text="entry of the same strategy's next signal of the instrument"
    )
    exit = models.CharField(max_length=8, choices=Exit.choices, blank=True)
    exit_at = models.DateTimeField(
        null=True, help_text="open time of the bar in which it was touched, or the end"
    )
    exit_price = models.FloatField(null=True)
    result = models.FloatField(null=True, help_text="return from the entry to the exit")
    is_hit = models.BooleanField(
        null=True, help_text="the result is above 0, and the stop was not touched first"
    )
    best_return = models.FloatField(null=True, help_text="largest favourable excursion until then")
    worst_return = models.FloatField(null=True, help_text="largest adverse excursion until then")
    missing_bars = models.PositiveIntegerField(
        default=0, help_text="bars of the stand that nobody has: a touch in them went unseen"
    )
    series_key = models.CharField(max_length=120, help_text="the candle series it is read from")
    revision = models.BigIntegerField(default=-1)
    due_at = models.DateTimeField(
        null=True, help_text="market time of the next bar that it waits for; null when done"
    )
    changed_at = models.DateTimeField(help_text="wall time")

    class Meta:
        ordering = ["-entry_at", "-signal"]
        indexes: ClassVar = [
            models.Index(fields=["entry_at"]),
            models.Index(fields=["due_at"]),
        ]

    def __str__(self) -> str:
        return f"outcome of {self.signal_id}: {self.exit or self.state}"


class InitialState(models.Model):
    """The state in which a strategy was found when it first ran for an instrument.

    It was never said, so a new installation does not enter in the middle of it; the first signal
    is what differs from it. `bar_open_time` is the first bar run, the state is of the bar before.
    """

    strategy = models.CharField(max_length=64)
    instrument = models.ForeignKey(
        "collectors.Instrument", on_delete=models.PROTECT, related_name="+"
    )
    timeframe = models.CharField(max_length=4)
    bar_open_time = models.DateTimeField()
    direction = models.SmallIntegerField(choices=Direction.choices)
    stop_loss = models.FloatField(null=True)

    class Meta:
        ordering = ["strategy", "instrument"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["strategy", "instrument", "timeframe"], name="initial_state_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.strategy} {self.instrument_id} {Direction(self.direction).label}"
