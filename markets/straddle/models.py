"""The straddle database: what is wanted, what was followed, tick by tick, and what is missing.

Prices are whole paise. A tick takes 93 bytes with its key, which is also its only index.
"""

from __future__ import annotations

from django.db import models

from markets.straddle.underlyings import STRADDLE, STRANGLE

THE_ROW = 1


class Wanted(models.Model):
    """Whether the jobs want the tracker to run: one row, which the service obeys."""

    id = models.SmallIntegerField(primary_key=True, default=THE_ROW)
    is_wanted = models.BooleanField(default=False)
    since = models.DateTimeField()
    """The market's time of the firing that said so."""
    job = models.CharField(max_length=40)
    job_run = models.BigIntegerField()
    """The run's row in the control database."""

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=THE_ROW), name="one_wanted")]
        verbose_name_plural = "wanted"

    def __str__(self) -> str:
        return f"{'wanted' if self.is_wanted else 'not wanted'} since {self.since:%Y-%m-%d %H:%M}Z"


class Series(models.Model):
    """One pair of options from the time its strikes became the wanted ones until they were not."""

    class Kind(models.TextChoices):
        STRADDLE = STRADDLE, "straddle"
        STRANGLE = STRANGLE, "strangle"

    id = models.AutoField(primary_key=True)
    underlying = models.CharField(max_length=20)
    expiry = models.DateField()
    kind = models.CharField(max_length=10, choices=Kind)
    width = models.PositiveSmallIntegerField()
    """Strikes from the money to each leg."""
    strike = models.IntegerField()
    """The money as the series began, in paise."""
    call_strike = models.IntegerField()
    put_strike = models.IntegerField()
    since = models.DateTimeField()
    until = models.DateTimeField(null=True)
    end = models.CharField(max_length=20, blank=True)
    """Why it ended: re-centred, stopped, or cut short by the tracker's own end."""

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["underlying", "expiry", "width", "strike", "since"], name="one_series"
            )
        ]
        ordering = ["-since", "underlying", "width"]
        verbose_name_plural = "series"

    def __str__(self) -> str:
        strikes = " ".join(
            f"{strike / 100:g}" for strike in dict.fromkeys((self.put_strike, self.call_strike))
        )
        return f"{self.underlying} {self.expiry} {strikes} {self.kind}"


class Tick(models.Model):
    """The premium of a series as one message left it; prices are whole paise."""

    # Time first, so that rows arrive at the key's end: by series first its pages stay half empty,
    # and a tick takes 130 bytes instead of 93. Few series are open at a time.
    pk = models.CompositePrimaryKey("ts", "series_id", "number")
    series = models.ForeignKey(Series, models.CASCADE, db_index=False, related_name="ticks")
    ts = models.DateTimeField()
    """The exchange's time, to the second."""
    number = models.SmallIntegerField()
    """Counts the messages of one second, from 0."""
    call = models.IntegerField()
    put = models.IntegerField()
    premium = models.IntegerField()
    spot = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.ts:%Y-%m-%d %H:%M:%S}Z {self.premium / 100:.2f}"


class Gap(models.Model):
    """A time, the exchange's, of which ticks are missing."""

    began_at = models.DateTimeField()
    ended_at = models.DateTimeField()
    rows = models.BigIntegerField(null=True)
    """How many were lost, where that is known."""
    reason = models.CharField(max_length=200)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["began_at", "reason"], name="one_straddle_gap")
        ]
        ordering = ["-began_at"]

    def __str__(self) -> str:
        return f"{self.began_at:%Y-%m-%d %H:%M:%S}Z to {self.ended_at:%H:%M:%S}Z: {self.reason}"


class TrackerState(models.Model):
    """How the tracker stands, as its parent last wrote it: one row."""

    id = models.SmallIntegerField(primary_key=True, default=THE_ROW)
    child_pid = models.IntegerField(null=True)
    started_at = models.DateTimeField(null=True)
    """When the child was started, in real time."""
    message_at = models.DateTimeField(null=True)
    """When the last message with ticks came, in real time."""
    written_at = models.DateTimeField()
    state = models.CharField(max_length=30)
    sentence = models.CharField(max_length=300, blank=True)
    stored = models.BigIntegerField(default=0)
    """Ticks that this child stored."""
    waiting = models.BigIntegerField(default=0)
    """Ticks in its memory that are not stored yet."""
    lost = models.BigIntegerField(default=0)
    empty = models.BigIntegerField(default=0)
    """Ticks that were not believed, by reason."""
    absurd = models.BigIntegerField(default=0)
    stale = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=THE_ROW), name="one_state")]
        verbose_name_plural = "tracker state"

    def __str__(self) -> str:
        return f"{self.state}: {self.sentence}"
