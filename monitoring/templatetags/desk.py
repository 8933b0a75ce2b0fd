"""Template filters over tradingsite.format, and the few tags the pages need."""

from __future__ import annotations

import datetime as dt

from django import template
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.contrib.staticfiles.storage import staticfiles_storage

from bots.execution.netting import (
    BY_OWNER,
    BY_VENUE,
    CROSS,
    FLATTEN,
    LEAVE,
    ROLL_CLOSE,
    ROLL_OPEN,
)
from monitoring.dashboard.machine import slot_title
from monitoring.delivery.said import delivered
from tradingsite import format as fmt
from tradingsite.access.acts import may

register = template.Library()

for _filter in (
    delivered,
    fmt.duration,
    fmt.ist_moment,
    fmt.ist_month,
    fmt.ist_near,
    fmt.ist_time,
    fmt.ist_weekday,
    fmt.money,
    fmt.number,
    fmt.percent,
    fmt.plural,
    fmt.price,
    fmt.quantity,
    fmt.short_rupees,
    slot_title,
):
    register.filter(_filter.__name__, _filter)


@register.filter
def signed_money(amount: fmt.Number | None, currency: str) -> str:
    """Return an amount that shows its plus as well as its minus."""
    return fmt.money(amount, currency, signed=True)


@register.filter
def signed_percent(ratio: float | None) -> str:
    """Return a ratio as per cent that shows its plus as well as its minus."""
    return fmt.percent(ratio, signed=True)


@register.filter
def tone(amount: fmt.Number | None) -> str:
    """Return the class that colours an amount: up, down, or even when there is none."""
    if not amount:
        return "even"
    return "up" if amount > 0 else "down"


@register.filter
def ago(at: dt.datetime | None, now: dt.datetime) -> str:
    """Return how long before `now` something was; both are market times or both real ones."""
    return fmt.ago((now - at).total_seconds()) if at else fmt.NOTHING


@register.filter
def until(at: dt.datetime | None, now: dt.datetime) -> str:
    """Return how long after `now` something will be."""
    return fmt.duration((at - now).total_seconds()) if at else fmt.NOTHING


@register.filter
def for_how_long(at: dt.datetime | None, now: dt.datetime) -> str:
    """Return the span since a moment."""
    return fmt.duration((now - at).total_seconds()) if at else fmt.NOTHING


@register.filter
def step_seconds(seconds: float) -> str:
    """Return a step's length, which is often below a second."""
    return f"{seconds:.1f} s" if seconds < 10 else fmt.duration(seconds)


@register.filter
def side(quantity: fmt.Number) -> str:
    """Return what an order of a signed quantity does."""
    return "Buy" if quantity > 0 else "Sell" if quantity < 0 else "Cross"


@register.filter
def signed_quantity(quantity: fmt.Number | None) -> str:
    """Return a quantity with its sign and without useless zeros; nothing held is 0."""
    sign = "+" if quantity and quantity > 0 else fmt.MINUS if quantity and quantity < 0 else ""
    return f"{sign}{fmt.quantity(quantity)}"


_LEG_TITLES = {
    CROSS: "crossed inside the bot",
    ROLL_CLOSE: "roll: closes the old",
    ROLL_OPEN: "roll: opens the new",
    FLATTEN: "closed at a person's word",
    LEAVE: "left before the square-off",
    BY_VENUE: "closed by the venue",
    BY_OWNER: "closed by the owner",
}


@register.filter
def leg_title(leg: str) -> str:
    """Return what an order was for."""
    return _LEG_TITLES.get(leg, leg)


_ORDER_TAGS = {
    "filled": "tag-ok",
    "acked": "tag-run",
    "partial": "tag-run",
    "submitting": "tag-run",
    "unknown": "tag-fail",
    "late": "tag-fail",
    "rejected": "tag-warn",
    "denied": "tag-warn",
}


@register.filter
def order_tag(state: str) -> str:
    """Return the class that colours an order's state; "" for one that needs nobody's eye."""
    return _ORDER_TAGS.get(state, "")


@register.filter
def share(ratio: float) -> str:
    """Return a ratio as a length in per cent, for SVG."""
    return f"{100 * ratio:.1f}%"


@register.simple_tag
def package_file(name: str) -> str:
    """Return the address of a file from an npm package, "" where the packages are missing."""
    if not settings.CHARTS_INSTALLED:
        return ""
    try:
        return str(staticfiles_storage.url(name))
    except ValueError:  # installed, but not collected yet: the page still works
        return ""


@register.filter
def may_be_offered(user: AbstractBaseUser | AnonymousUser | str, act: str) -> bool:
    """Return whether to show the button of an act: a stranger is asked to sign in behind it."""
    if isinstance(user, str):  # a page without a request has nobody looking
        return False
    return not user.is_authenticated or may(user, act)
