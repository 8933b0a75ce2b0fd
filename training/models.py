"""Training runs and their seven steps, in the control database.

PC writes some columns of some rows (`training.pc_access.role`); whoever reads those holds them for
words.
"""

from django.db import models

from tradingsite.registry import SLOTS
from tradingsite.scheduling.leases import Leased


def known_slot(name: str) -> models.CheckConstraint:
    """Return the rule that a row's slot is one of the registry: paths are made of it."""
    return models.CheckConstraint(condition=models.Q(slot__in=sorted(SLOTS)), name=name)


class TrainingRun(Leased):
    """One training of one slot, from export to clean-up."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        REFUSED = "refused"
        FAILED = "failed"
        CANCELLED = "cancelled"

    slot = models.CharField(max_length=20)
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    trigger = models.CharField(max_length=40)
    scheduled_for = models.DateTimeField(help_text="market time; a slot is trained once for it")
    until = models.DateTimeField(null=True, help_text="no bar that closes later is used")
    timesteps = models.PositiveIntegerField()
    seed = models.PositiveIntegerField(default=0)
    attempts = models.PositiveIntegerField(default=0)
    recipe = models.JSONField(default=dict, help_text="how it is trained, as PROD decided")
    progress = models.JSONField(default=dict)
    metrics = models.JSONField(default=dict)
    charts = models.JSONField(default=dict, help_text="what training.pipeline.charts draws")
    detail = models.TextField(blank=True)
    model_number = models.PositiveIntegerField(null=True)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["slot", "trigger", "scheduled_for"], name="one_training_per_firing"
            ),
            known_slot("run_of_a_known_slot"),
        ]
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"run {self.pk} of {self.slot}"

    @property
    def figures(self) -> dict[str, float]:
        """Return the numbers of its progress; whatever else PC wrote there is left out."""
        said = self.progress if isinstance(self.progress, dict) else {}
        return {
            name: value
            for name, value in said.items()
            if isinstance(value, int | float) and abs(value) < 1e15
        }


class Copy(models.Model):
    """What PC has of a slot, by its own word: blocks of data by their digests, archived runs."""

    slot = models.CharField(max_length=20, primary_key=True)
    holding = models.JSONField(default=dict)
    archived = models.JSONField(default=list, help_text="numbers of the runs whose bundles it has")
    at = models.DateTimeField()

    class Meta:
        constraints = [known_slot("copy_of_a_known_slot")]
        ordering = ["slot"]
        verbose_name_plural = "copies"

    def __str__(self) -> str:
        return f"PC's copy of {self.slot}"


class Recipe(models.Model):
    """One way of training a slot; the approved one is what its scheduled refits follow."""

    class State(models.TextChoices):
        CANDIDATE = "candidate"
        APPROVED = "approved"
        RETIRED = "retired"

    slot = models.CharField(max_length=20)
    hash = models.CharField(max_length=64)
    settings = models.JSONField()
    state = models.CharField(max_length=10, choices=State, default=State.CANDIDATE)
    decided_by = models.CharField(max_length=80, blank=True)
    decided_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["slot", "hash"], name="one_recipe"),
            models.UniqueConstraint(
                fields=["slot"],
                condition=models.Q(state="approved"),
                name="one_approved_recipe_per_slot",
            ),
        ]
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.slot} {self.settings['hyperparameters']['network']} {self.hash[:8]}"


class Evaluation(Leased):
    """One walk forward of a recipe: a trial, recorded whether it was approved or not."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    recipe = models.ForeignKey(Recipe, on_delete=models.PROTECT, related_name="evaluations")
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    folds = models.PositiveIntegerField()
    seeds = models.PositiveIntegerField()
    since = models.DateTimeField(null=True, help_text="no bar that opens earlier is used")
    until = models.DateTimeField(help_text="no bar that closes later is used")
    progress = models.JSONField(default=dict)
    evidence = models.JSONField(default=dict)
    by_fold = models.JSONField(default=list)
    checks = models.JSONField(default=list)
    refit_range = models.JSONField(default=dict)
    approved = models.BooleanField(null=True)
    sharpe_per_bar = models.FloatField(null=True, help_text="of the median seed, after all costs")
    tested = models.CharField(max_length=64, blank=True, help_text="hash of the bars tested on")
    returns = models.BinaryField(null=True, help_text="of the median seed, float64, a bar each")
    detail = models.TextField(blank=True)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"evaluation {self.pk} of {self.recipe}"


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
