"""What went wrong, in one line."""

import traceback

import pytest
from django.db import connection
from django.db.utils import DatabaseError

from tradingsite.errors import Degraded, cause, cause_in


@pytest.mark.django_db
def test_the_cause_of_a_database_error_is_its_first_line() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 +\n  nothing FROM tradingsite_notice")
    except DatabaseError as error:
        kept, said = traceback.format_exc(limit=-4), cause(error)
    assert kept.strip().endswith("^")  # the last line says nothing
    assert said.startswith('column "nothing" does not exist')
    assert cause_in(kept) == f"ProgrammingError: {said}"


def test_the_cause_of_what_is_raised_from_another_is_the_last_ones() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise Degraded("the list is empty\nmore of it") from error
    except Degraded:
        kept = traceback.format_exc()
    assert cause_in(kept) == "Degraded: the list is empty"


def test_a_sentence_is_its_own_cause() -> None:
    assert cause_in("its worker died 3 times in step train\n") == (
        "its worker died 3 times in step train"
    )
    assert cause_in("") == ""


def test_an_error_without_words_is_called_by_its_name() -> None:
    assert cause(ValueError()) == "ValueError"
