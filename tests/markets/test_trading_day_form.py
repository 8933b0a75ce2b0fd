"""What the admin takes as a day of the exchange: whatever the calendar will take."""

import pytest
from django.forms import modelform_factory

from markets import store
from markets.admin import TradingDayForm
from markets.models import TradingDay
from tests.desk import ist
from tests.histories import seed_days

pytestmark = pytest.mark.django_db(databases=["default", "nifty"])

FIELDS = ("date", "kind", "opens_at", "closes_at", "name", "source", "verified")


@pytest.fixture(autouse=True)
def days(db: None) -> None:
    seed_days("nifty")


def errors(date: str, opens: str, closes: str, kind: str = "special") -> list[str]:
    """Return what the form says against a day."""
    model = TradingDay.on("nifty")
    form = modelform_factory(model, form=TradingDayForm, fields=FIELDS)(
        {
            "date": date,
            "kind": kind,
            "opens_at": opens and ist(opens).isoformat(),
            "closes_at": closes and ist(closes).isoformat(),
            "name": "x",
            "source": "a circular",
            "verified": "on",
        }
    )
    if not form.errors:
        form.save()
    return [str(each) for found in form.errors.values() for each in found]


def test_a_saturday_session_is_taken_and_known_at_once() -> None:
    assert errors("2026-06-06", "2026-06-06 09:15", "2026-06-06 12:30") == []
    session = store.load_calendar("nifty").session_on(ist("2026-06-06 10:00").date())
    assert session and session.closes_at == ist("2026-06-06 12:30").timestamp()


@pytest.mark.parametrize(
    ("opens", "closes", "kind", "said"),
    [
        ("2026-06-06 12:30", "2026-06-06 09:15", "special", "closes after it opens"),
        ("2026-06-07 09:15", "2026-06-07 12:30", "special", "on its own day, 2026-06-06"),
        ("2026-06-05 14:00", "2026-06-06 12:30", "special", "on its own day, 2026-06-06"),
        ("2026-06-06 09:15", "", "special", "needs its opening and closing time"),
        ("2026-06-06 09:15", "2026-06-06 12:30", "holiday", "has no opening or closing"),
        ("2026-06-06 09:15", "2026-06-06 12:30", "party", "not one of the available choices"),
    ],
)
def test_a_day_the_calendar_would_not_take_is_an_error_of_the_form(
    opens: str, closes: str, kind: str, said: str
) -> None:
    assert said in " ".join(errors("2026-06-06", opens, closes, kind))
    assert not TradingDay.on("nifty").objects.filter(date="2026-06-06").exists()


def test_sessions_that_overlap_are_an_error_of_the_form() -> None:
    model = TradingDay.on("nifty")
    # As a row from elsewhere, which no form has seen.
    model.objects.filter(date="2026-06-05").update(closes_at=ist("2026-06-06 10:00"))
    said = errors("2026-06-06", "2026-06-06 09:15", "2026-06-06 12:30")
    assert said == [
        "The calendar does not take it: the sessions of 2026-06-05 and 2026-06-06 overlap."
    ]
