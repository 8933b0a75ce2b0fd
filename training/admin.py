"""The admin over training runs and their seven steps."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from tradingsite.admin import ReadOnlyAdmin, ReadOnlyInline, took
from tradingsite.errors import Degraded
from training.models import Evaluation, Recipe, TrainingRun, TrainingStep


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
    actions = ("cancel",)

    @admin.action(description="Cancel", permissions=["cancel"])
    def cancel(self, request: HttpRequest, runs: QuerySet[TrainingRun]) -> None:
        """End open runs; a worker stops within seconds and publishes nothing."""
        # Here, for every process loads the admins, and most need none of what training needs.
        from training.pipeline import runs as pipeline_runs

        for run in runs:
            try:
                self.message_user(
                    request,
                    f"{pipeline_runs.cancel(run.pk, request.user.get_username())} is cancelled",
                )
            except Degraded as error:
                self.message_user(request, str(error), level="warning")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may change runs."""
        return request.user.has_perm("training.change_trainingrun")

    @display(description="took (real time)")
    def took(self, run: TrainingRun) -> str:
        """Return how long the run took."""
        return took(run.started_at, run.finished_at)

    @display(description="what came of it")
    def said(self, run: TrainingRun) -> str:
        """Return the last line of the run's record."""
        lines = run.detail.strip().splitlines()
        return lines[-1][:120] if lines else ""


@admin.register(Recipe)
class RecipeAdmin(ReadOnlyAdmin):
    """Show recipes; one is approved by `manage.py evaluate`, by its verdict or in words."""

    list_display = ("slot", "network", "short_hash", "shown_state", "decided_by", "reason")
    list_filter = ("slot", "state")

    @display(description="network")
    def network(self, recipe: Recipe) -> str:
        """Return its network."""
        return str(recipe.settings["hyperparameters"]["network"])

    @display(description="hash")
    def short_hash(self, recipe: Recipe) -> str:
        """Return enough of its hash to name it by."""
        return recipe.hash[:8]


@admin.register(Evaluation)
class EvaluationAdmin(ReadOnlyAdmin):
    """Show trials: all of them, whatever came of them."""

    list_display = ("id", "recipe", "shown_state", "sharpe", "approved", "took", "detail")
    list_filter = ("recipe__slot", "state", "approved")
    list_select_related = ("recipe",)
    exclude = ("returns",)

    @display(description="net Sharpe a year")
    def sharpe(self, row: Evaluation) -> str:
        """Return its median seed's Sharpe ratio beside buy-and-hold's."""
        seen = row.evidence
        return f"{seen['sharpe']:+.2f} (hold {seen['hold_sharpe']:+.2f})" if seen else ""

    @display(description="took (real time)")
    def took(self, row: Evaluation) -> str:
        """Return how long it took."""
        return took(row.started_at, row.finished_at)
