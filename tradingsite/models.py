"""The desk's own records in the control database: job runs, notices, heartbeats."""

from django.db import models

from tradingsite.scheduling.leases import Leased

PC_SERVICES = ("gpu-worker", "pc-worker")
"""The services whose heartbeats are PC's to write."""


class JobRun(Leased):
    """One scheduled firing of a job; unique, so a second delivery of its message does nothing."""

    class State(models.TextChoices):
        PENDING = "pending"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        SKIPPED = "skipped", "skipped"
        MISSED = "missed"
        NOT_BUILT = "not_built", "not built yet"

    job = models.CharField(max_length=60)
    scheduled_for = models.DateTimeField()
    state = models.CharField(max_length=12, choices=State, default=State.PENDING)
    detail = models.TextField(blank=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    asked_again_at = models.DateTimeField(null=True, editable=False)
    """Real time at which its message was last sent once more."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job", "scheduled_for"], name="one_run_per_firing")
        ]
        indexes = [models.Index(fields=["-scheduled_for"])]
        ordering = ["-scheduled_for"]

    def __str__(self) -> str:
        return f"{self.job} {self.scheduled_for:%Y-%m-%d %H:%M}Z {self.state}"


class Notice(models.Model):
    """Something a person should know; the outbox that delivery drains and the page shows."""

    class Severity(models.TextChoices):
        INFO = "info"
        WARNING = "warning"
        CRITICAL = "critical"

    channel = models.CharField(max_length=20)
    severity = models.CharField(max_length=10, choices=Severity)
    key = models.CharField(max_length=120)
    text = models.TextField()
    count = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField()
    last_at = models.DateTimeField()
    market_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["key"],
                condition=models.Q(resolved_at__isnull=True),
                name="one_open_notice",
            )
        ]
        indexes = [models.Index(fields=["key", "-created_at"]), models.Index(fields=["-last_at"])]
        ordering = ["-last_at"]

    def __str__(self) -> str:
        return f"{self.channel} {self.severity}: {self.text[:80]}"


class Said(models.Model):
    """What a service last said of itself."""

    service = models.CharField(max_length=40, primary_key=True)
    pid = models.IntegerField()
    started_at = models.DateTimeField()
    beat_at = models.DateTimeField()
    state = models.CharField(max_length=20)
    detail = models.CharField(max_length=200, blank=True)
    # By the database, so that a process from before these columns can still say that it lives.
    code = models.CharField(max_length=60, blank=True, db_default="", help_text="its commit")
    config = models.CharField(
        max_length=16, blank=True, db_default="", help_text="hash of its settings"
    )

    class Meta:
        abstract = True
        ordering = ["service"]

    def __str__(self) -> str:
        return f"{self.service} {self.state}"


class Heartbeat(Said):
    """What each service of this machine last said of itself."""


class PcHeartbeat(Said):
    """What PC's services say, in PC's own table: its word, which PROD reads and does not trust."""

    class Meta(Said.Meta):
        constraints = [
            models.CheckConstraint(
                condition=models.Q(service__in=PC_SERVICES), name="heartbeat_of_pcs_own_service"
            )
        ]


class PcNotice(models.Model):
    """A notice that PC leaves for PROD, which takes it over within bounds and deletes it here."""

    key = models.CharField(max_length=80, unique=True)
    severity = models.CharField(max_length=10, choices=Notice.Severity)
    text = models.CharField(max_length=600)
    is_over = models.BooleanField(default=False)
    at = models.DateTimeField()

    class Meta:
        ordering = ["at"]

    def __str__(self) -> str:
        return f"{self.severity}: {self.text[:80]}"
