"""Model versions of each slot, and the history of which one traded when."""

from django.db import models


class ModelVersion(models.Model):
    """One trained model; its folder is immutable, its state moves on."""

    class State(models.TextChoices):
        VERIFIED = "verified"
        ACTIVE = "active"
        RETIRED = "retired"
        QUARANTINED = "quarantined"

    slot = models.CharField(max_length=20)
    number = models.PositiveIntegerField()
    run_id = models.BigIntegerField(help_text="the training run that made it")
    state = models.CharField(max_length=12, choices=State)
    path = models.CharField(max_length=300, help_text="relative to the model store")
    manifest_sha256 = models.CharField(max_length=64)
    trained_from = models.DateTimeField()
    trained_until = models.DateTimeField()
    metrics = models.JSONField(default=dict)
    reason = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["slot", "number"], name="one_version"),
            models.UniqueConstraint(
                fields=["slot"], condition=models.Q(state="active"), name="one_active_per_slot"
            ),
        ]
        ordering = ["slot", "-number"]

    def __str__(self) -> str:
        return f"{self.slot} v{self.number}"


class Activation(models.Model):
    """One switch of the model that trades a slot."""

    class Kind(models.TextChoices):
        REFIT = "refit", "let trade after its training"
        CHOSEN = "chosen", "chosen by a person"
        ROLLBACK = "rollback", "went back to an earlier one"
        DEMOTION = "demotion", "sent back, for it did badly"

    LOCKING = (Kind.ROLLBACK, Kind.DEMOTION)
    """After these no new model trades by itself."""

    slot = models.CharField(max_length=20)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.REFIT)
    model = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="activations")
    at = models.DateTimeField()
    market_at = models.DateTimeField()
    by = models.CharField(max_length=80)
    reason = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"{self.model} from {self.at:%Y-%m-%d %H:%M}Z"
