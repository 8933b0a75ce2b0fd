"""The admin's base classes, and the records of the control database that are nobody's to edit."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as StockGroupAdmin
from django.contrib.auth.admin import UserAdmin as StockUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest
from django_celery_beat import models as beat
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from tradingsite import clock
from tradingsite.access.acts import may
from tradingsite.bound import BoundModel
from tradingsite.errors import cause_in
from tradingsite.models import Heartbeat, JobRun, Notice
from tradingsite.registry import MARKETS

# How unfold colours a state, for every table that has one.
STATE_LABELS = {
    "done": "success",
    "filled": "success",
    "active": "success",
    "running": "info",
    "acked": "info",
    "submitting": "info",
    "partial": "info",
    "cancelled": "warning",
    "denied": "warning",
    "late": "danger",
    "verified": "info",
    "refused": "warning",
    "missed": "warning",
    "skipped": "warning",
    "warning": "warning",
    "failed": "danger",
    "rejected": "danger",
    "unknown": "danger",
    "quarantined": "danger",
    "critical": "danger",
}


RIGHTS = ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")


class ReadOnly:
    """Take away adding, changing and deleting; what is recorded stays as it was recorded."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False."""
        return False


class ReadOnlyAdmin(ReadOnly, ModelAdmin):
    """Show records."""

    list_per_page = 50
    show_full_result_count = False

    @display(description="state", ordering="state", label=STATE_LABELS)
    def shown_state(self, row: Any) -> tuple[str, str]:
        """Return the state and its words, for the coloured label."""
        return row.state, row.get_state_display()


class ReadOnlyInline(ReadOnly, TabularInline):
    """Show the records that belong to another one."""

    extra = 0
    can_delete = False
    show_change_link = False


def markets_here() -> tuple[str, ...]:
    """Return the markets whose database this machine uses."""
    return tuple(slug for slug in MARKETS if slug in settings.DATABASES)


def register_bound(model: type[BoundModel], model_admin: type[ModelAdmin]) -> None:
    """Register a model's proxies, one for each market of this machine."""
    for market in markets_here():
        admin.site.register(model.on(market), model_admin)


def took(started_at: dt.datetime | None, finished_at: dt.datetime | None) -> str:
    """Return how long something took, empty while it runs."""
    if not started_at or not finished_at:
        return ""
    return f"{(finished_at - started_at).total_seconds():.1f} s"


@admin.register(JobRun)
class JobRunAdmin(ReadOnlyAdmin):
    """Show what the scheduled jobs did."""

    list_display = ("job", "scheduled_for", "shown_state", "took", "said")
    list_filter = ("state", "job")
    search_fields = ("job", "detail")
    date_hierarchy = "scheduled_for"

    @display(description="took (real time)")
    def took(self, run: JobRun) -> str:
        """Return how long the run took."""
        return took(run.started_at, run.finished_at)

    @display(description="what it did")
    def said(self, run: JobRun) -> str:
        """Return the run's record in a line."""
        return cause_in(run.detail)[:120]


@admin.register(Notice)
class NoticeAdmin(ReadOnlyAdmin):
    """Show the notices; the only change is to say that one is over."""

    list_display = ("last_at", "shown_severity", "channel", "text", "count", "resolved_at")
    list_filter = ("severity", "channel", ("resolved_at", admin.EmptyFieldListFilter))
    search_fields = ("text", "key")
    actions = ("mark_as_over",)

    @display(description="severity", ordering="severity", label=STATE_LABELS)
    def shown_severity(self, row: Notice) -> tuple[str, str]:
        """Return the severity and its words."""
        return row.severity, row.get_severity_display()

    def has_resolve_permission(self, request: HttpRequest) -> bool:
        """Return whether a person may say that a notice is over."""
        return may(request.user, "resolve_notice")

    @admin.action(description="Mark as over", permissions=["resolve"])
    def mark_as_over(self, request: HttpRequest, queryset: QuerySet[Notice]) -> None:
        """Resolve the chosen notices."""
        changed = queryset.filter(resolved_at__isnull=True).update(resolved_at=clock.real())
        self.message_user(request, f"{changed} marked as over.")


@admin.register(Heartbeat)
class HeartbeatAdmin(ReadOnlyAdmin):
    """Show what each service last said of itself."""

    list_display = ("service", "state", "beat_at", "started_at", "pid", "detail")


# --- What comes from other packages, in this admin's clothes ------------------------------------
for _stock in (
    *(User, Group, beat.PeriodicTask, TOTPDevice),  # a phone's key is nobody's to look at
    *(beat.CrontabSchedule, beat.IntervalSchedule, beat.SolarSchedule, beat.ClockedSchedule),
):
    if admin.site.is_registered(_stock):
        admin.site.unregister(_stock)


def may_do_everything(request: HttpRequest) -> bool:
    """Return whether the signed-in person is a superuser."""
    return bool(getattr(request.user, "is_superuser", False))


def _reaches(request: HttpRequest, person: Any) -> bool:
    """Return whether the signed-in person may touch another one's account."""
    if person is None or may_do_everything(request):
        return True
    return not person.is_superuser and person.get_all_permissions() <= set(
        request.user.get_all_permissions()
    )


@admin.register(User)
class UserAdmin(StockUserAdmin, ModelAdmin):  # type: ignore[type-arg]  # not one at run time
    """Edit who may sign in."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return what only who may do everything edits: rights, which are otherwise a way up."""
        if may_do_everything(request):
            return self.readonly_fields
        return (*self.readonly_fields, *RIGHTS)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False for people who may do more."""
        return _reaches(request, obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False for people who may do more."""
        return _reaches(request, obj) and super().has_delete_permission(request, obj)


@admin.register(Group)
class GroupAdmin(StockGroupAdmin, ModelAdmin):
    """Edit groups of people: for who may do everything, since a group's rights are its members'."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the person may do everything."""
        return may_do_everything(request)

    has_change_permission = has_delete_permission = has_add_permission


@admin.register(beat.PeriodicTask)
class PeriodicTaskAdmin(ModelAdmin):
    """Pause a job; everything else of it is the code's, written again at every start."""

    list_display = ("name", "description", "crontab", "queue", "last_run_at", "enabled")
    list_editable = ("enabled",)
    list_filter = ("enabled", "queue")
    fields = ("name", "description", "task", "crontab", "queue", "last_run_at", "enabled")
    readonly_fields = fields[:-1]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: jobs are made in the code."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: jobs leave with the code."""
        return False
