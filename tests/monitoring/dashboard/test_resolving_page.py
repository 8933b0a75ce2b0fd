"""What only a person can say: whose a difference is, and what became of an order."""

from decimal import Decimal

import pytest
from django.test import Client

from bots.models import Order
from tests.desk import Desk
from tests.monitoring import desks
from tests.monitoring.dashboard.pages import act, lost, stopped, words
from tradingsite.models import Notice

pytestmark = pytest.mark.django_db(databases=desks.ALIASES)


def test_what_nobody_explains_shows_both_numbers_and_is_adopted(staff: Client, desk: Desk) -> None:
    row = stopped()
    text = words(staff.get("/trading/"))
    assert "BTC-PERP is stopped: the ledger has 0.02, the venue has 0.05" in text
    assert "The rest is mine" in text and "Say what it is" not in text
    text = words(staff.get(f"/trading/btc/adopt/{row.pk}/"))
    assert "Books +0.03 BTC-PERP as yours from now on" in text and "At what price" not in text
    row.refresh_from_db()
    assert row.closed_at is None
    assert act(staff, f"btc/adopt/{row.pk}").status_code == 400, "no answer was chosen"
    assert act(staff, f"btc/adopt/{row.pk}", answer="by_owner").status_code == 400
    assert act(staff, f"btc/adopt/{row.pk}", answer="owners").status_code == 302
    row.refresh_from_db()
    assert row.adopted_by == "owner: looked at the venue"
    assert "adopted as yours" in words(staff.get("/trading/"))
    assert "agree there by now" in words(staff.get(f"/trading/btc/adopt/{row.pk}/", follow=True))


@pytest.mark.parametrize("answer", ["by_owner", "by_venue"])
def test_what_was_closed_for_the_bots_is_booked_at_the_price_a_person_gives(
    staff: Client, desk: Desk, answer: str
) -> None:
    desk.trade({"btc-1h": 2})
    row = stopped("0.02", "0.005")
    text = words(staff.get("/trading/"))
    assert "Say what it is" in text and "The rest is mine" not in text
    page = staff.get(f"/trading/btc/adopt/{row.pk}/")
    text = words(page)
    assert "I closed 0.015 of it by hand" in text and "paper closed 0.015 of it" in text
    assert "-0.015 with the btc bot at the price you give" in text and "At what price" in text
    html = page.content.decode()
    assert html.count('type="radio"') == 2 and "checked" not in html
    assert 'name="price" value="60000"' in html, "the last quote, to begin with"
    address = f"btc/adopt/{row.pk}"
    for price in ("", "0", "-5", "59,000", "NaN", "1e12"):
        answered = act(staff, address, answer=answer, price=price)
        assert answered.status_code == 400, price
    assert "59,000" not in words(answered)
    assert desk.lots() == {"btc-1h": 2}
    assert act(staff, address, answer=answer, price="59000.5").status_code == 302
    text = words(staff.get("/trading/"))
    assert "booked the closing of 0.015 with the btc bot at USDC 59000.5" in text
    assert f"closed by the {answer.removeprefix('by_')}" in text
    assert desk.positions()["btc-1h"].quantity == Decimal("0.005")
    told = Notice.objects.filter(key__startswith="closed:btc").get().text
    assert "owner: looked at the venue says so" in told


def test_an_answer_to_numbers_that_have_changed_books_nothing(staff: Client, desk: Desk) -> None:
    row = stopped()
    answered = act(staff, f"btc/adopt/{row.pk}", answer="owners", seen="+0.02 +0.04 0")
    assert answered.status_code == 400
    assert "The numbers have changed while you were reading" in words(answered)
    row.refresh_from_db()
    assert row.closed_at is None


def test_what_may_be_an_order_of_ours_is_no_ones_yet(staff: Client, desk: Desk) -> None:
    order, row = lost(desk), stopped()
    answered = act(staff, f"btc/adopt/{row.pk}", answer="owners")
    assert answered.status_code == 400
    assert f"Order {order.tag} of BTC-PERP is unknown" in words(answered)
    row.refresh_from_db()
    assert row.closed_at is None


def test_an_unknown_order_ends_by_a_persons_word(staff: Client, desk: Desk) -> None:
    order = lost(desk)
    text = words(staff.get("/trading/"))
    assert f"Order {order.tag} may or may not have arrived." in text
    assert "Say what became of it" in text and "is booked" not in text
    assert act(staff, f"btc/giveup/{order.tag}").status_code == 302
    assert desk.story(order)[-1] == "not_placed"
    order.refresh_from_db()
    assert order.message == "owner: looked at the venue says that nothing filled"
    assert f"Order {order.tag}: nothing booked. It is not placed." in words(staff.get("/trading/"))
    assert "not unknown any more" in words(
        staff.get(f"/trading/btc/giveup/{order.tag}/", follow=True)
    )


def test_what_filled_of_an_unknown_order_is_booked_at_its_price(staff: Client, desk: Desk) -> None:
    order = lost(desk)
    address = f"btc/giveup/{order.tag}"
    for changes in (
        {"filled": "0.02", "price": "61000"},  # more than is open of it
        {"filled": "-0.01"},
        {"filled": "0.01", "price": "0"},
        {"filled": "0", "price": "61000"},  # a price of nothing
        {"filled": "ten"},
    ):
        assert act(staff, address, **changes).status_code == 400, changes
    order.refresh_from_db()
    assert order.state == "unknown"
    assert act(staff, address, filled="0.004", price="61000").status_code == 302
    order.refresh_from_db()
    assert (order.state, order.filled_quantity) == ("cancelled", Decimal("0.004"))
    assert desk.positions()["btc-1h"].average_price == 61_000
    text = words(staff.get("/trading/"))
    assert f"Order {order.tag}: 0.004 booked at 61,000.00. It is cancelled." in text


def test_an_order_with_a_booked_part_says_so_and_takes_no_more_than_is_open(
    staff: Client, desk: Desk
) -> None:
    order = lost(desk)
    Order.on("btc").objects.filter(pk=order.pk).update(filled_quantity="0.004")
    assert "0.004 of it is booked, 0.006 is open." in words(staff.get("/trading/"))
    text = words(staff.get(f"/trading/btc/giveup/{order.tag}/"))
    assert "Booked so far +0.004" in text and "Still open of it 0.006" in text
    assert "What filled beyond that" in text and "0 ends it with what is booked" in text
    # What was booked while the page was open is not booked once more.
    answered = act(staff, f"btc/giveup/{order.tag}", filled="0.004", seen="+0.01 0")
    assert answered.status_code == 400
    assert act(staff, f"btc/giveup/{order.tag}", filled="0.01").status_code == 400
    assert act(staff, f"btc/giveup/{order.tag}").status_code == 302
    order.refresh_from_db()
    assert (order.state, order.filled_quantity) == ("cancelled", Decimal("0.004"))
