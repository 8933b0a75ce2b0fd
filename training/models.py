"""Training runs and their seven steps, in the control database."""

from django.db import models

from tradingsite.leases import Leased


class TrainingRun(Leased):
    """One training of one slot, from export to clean-up."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        REFUSED = "refused"
        FAILED = "failed"

    slot = models.CharField(max_length=20)
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    trigger = models.CharField(max_length=40)
    scheduled_for = models.DateTimeField(help_text="market time; a slot is trained once for it")
    until = models.DateTimeField(null=True, help_text="no bar that closes later is used")
    timesteps = models.PositiveIntegerField()
    seed = models.PositiveIntegerField(default=0)
    attempts = models.PositiveIntegerField(default=0)
    progress = models.JSONField(default=dict)
    metrics = models.JSONField(default=dict)
    detail = models.TextField(blank=True)
    model_number = models.PositiveIntegerField(null=True)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["slot", "trigger", "scheduled_for"], name="one_training_per_firing"
            )
        ]
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"run {self.pk} of {self.slot}"


class TrainingStep(models.Model):
    """One of the seven steps of a run, with its times and what it did."""

    run = models.ForeignKey(TrainingRun, on_delete=models.CASCADE, related_name="steps")
    number = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=20)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    detail = models.TextField(blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="one_step")]
        ordering = ["run", "number"]

    def __str__(self) -> str:
        return f"{self.number} {self.name}"
