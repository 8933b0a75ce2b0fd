"""Tries that are counted by person: before they are looked at, and in the database."""

import datetime as dt
import threading

import pytest
from django.contrib.auth.models import User
from django.db import connections

from tradingsite import clock
from tradingsite.access import attempts
from tradingsite.access.attempts import ALLOWED, COOL_OFF, Answer, prove
from tradingsite.access.models import WrongAttempts
from tradingsite.models import Notice


@pytest.fixture
def user() -> User:
    return User.objects.create_user("owner")


def wrong() -> bool:
    return False


def right() -> bool:
    return True


@pytest.mark.django_db
def test_used_up_tries_are_told_and_no_oracle(user: User) -> None:
    assert [prove(user, wrong) for _ in range(ALLOWED)] == [Answer.WRONG] * ALLOWED
    notice = Notice.objects.get()
    assert notice.severity == "critical" and "owner" in notice.text

    def looked() -> bool:
        raise AssertionError("it was looked at")

    assert prove(user, looked) is Answer.LOCKED
    assert attempts.is_locked(user)
    attempts.forget(user)
    assert prove(user, right) is Answer.RIGHT


@pytest.mark.django_db
def test_a_right_one_starts_the_count_anew_and_so_does_time(user: User) -> None:
    for _ in range(3):
        for _ in range(ALLOWED - 1):
            assert prove(user, wrong) is Answer.WRONG
        assert prove(user, right) is Answer.RIGHT
    for _ in range(ALLOWED):
        prove(user, wrong)
    # Whether it lies behind or, after a clock that was ahead for a moment, before us.
    for sign in (-1, 1):
        WrongAttempts.objects.update(
            count=ALLOWED, last_at=clock.real() + sign * (COOL_OFF + dt.timedelta(seconds=1))
        )
        assert not attempts.is_locked(user)
        assert prove(user, right) is Answer.RIGHT


@pytest.mark.django_db(transaction=True)
def test_a_burst_is_no_more_than_the_tries_one_has(user: User) -> None:
    together = threading.Barrier(16)
    looked, answers = [], []

    def slow_and_wrong() -> bool:
        looked.append(1)
        return False

    def attempt() -> None:
        together.wait()
        try:
            answers.append(prove(user, slow_and_wrong))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=attempt) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(looked) == ALLOWED
    assert answers.count(Answer.LOCKED) == 16 - ALLOWED
