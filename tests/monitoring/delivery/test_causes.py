from monitoring.delivery.causes import CAUSES, cause_of, may_be_an_effect


def test_what_follows_from_an_open_cause_is_told_under_it() -> None:
    assert cause_of("job:options-collector", {"kite:sign-in"}) == "kite:sign-in"
    assert cause_of("undecided:nifty-15m", {"service:nifty-bot"}) == "service:nifty-bot"
    assert cause_of("undecided:btc-1h", {"service:nifty-bot"}) is None
    assert cause_of("disk", {"queue:away", "kite:sign-in"}) is None


def test_the_farthest_cause_speaks() -> None:
    found = cause_of("undecided:nifty-1h", {"service:nifty-bot", "planned:work", "held:nifty-bot"})
    assert found == "planned:work"


def test_a_notice_is_not_its_own_cause() -> None:
    assert cause_of("service:beat", {"service:beat"}) is None
    assert cause_of("clock:jumped", {"clock:jumped", "service:beat"}) is None


def test_two_that_could_cause_each_other_end() -> None:
    keys = {"service:simulator", "queue:away", "service:beat", "service:worker"}
    assert cause_of("beat:silent", keys) in keys


def test_only_effects_are_worth_a_wait() -> None:
    assert may_be_an_effect("beat:silent")
    assert not may_be_an_effect("order:nifty:1")
    assert not may_be_an_effect("halt:nifty")


def test_money_is_never_an_effect() -> None:
    money = ("order:", "halt:", "exit:", "left:", "daily-loss:", "closed:", "adopted:", "flatten:")
    for key in money:
        assert cause_of(f"{key}nifty", [f"{cause}x" for cause in CAUSES]) is None
