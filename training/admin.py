"""The admin over training runs and their seven steps."""

from __future__ import annotations

from django.contrib import admin
from unfold.decorators import display

from tradingsite.admin import ReadOnlyAdmin, ReadOnlyInline, took
from training.models import TrainingRun, TrainingStep


class StepInline(ReadOnlyInline):
    """Show the steps of a run."""

    model = TrainingStep
    fields = ("number", "name", "started_at", "took", "detail")
    readonly_fields = fields

    @display(description="took")
    def took(self, step: TrainingStep) -> str:
        """Return how long the step took."""
        return took(step.started_at, step.finished_at)


@admin.register(TrainingRun)
class TrainingRunAdmin(ReadOnlyAdmin):
    """Show training runs."""

    list_display = (
        *("id", "slot", "shown_state", "trigger", "scheduled_for", "timesteps", "model_number"),
        *("took", "said"),
    )
    list_filter = ("slot", "state", "trigger")
    search_fields = ("detail",)
    inlines = (StepInline,)

    @display(description="took (real time)")
    def took(self, run: TrainingRun) -> str:
        """Return how long the run took."""
        return took(run.started_at, run.finished_at)

    @display(description="what came of it")
    def said(self, run: TrainingRun) -> str:
        """Return the last line of the run's record."""
        lines = run.detail.strip().splitlines()
        return lines[-1][:120] if lines else ""
