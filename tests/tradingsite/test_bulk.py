"""Rows in bulk into tables of the real PostgreSQL: new, changed, the same, twice, locked."""

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from django.db import connections, transaction

from tradingsite import bulk
from tradingsite.bulk import Counts, TableLocked
from tradingsite.postgresql import timeouts
from tradingsite.postgresql.timeouts import Timeouts

pytestmark = pytest.mark.django_db(databases=["nifty"], transaction=True)

ALIAS, TABLE = "nifty", "bulk_thing"
COLUMNS, KEY = ("name", "at", "price"), ("name", "at")
DAY = dt.date(2026, 6, 1)
Row = tuple[Any, ...]


def run(query: str) -> list[Row]:
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall()) if cursor.description else []


@pytest.fixture(autouse=True)
def table() -> Iterator[None]:
    """Make a table with a key of two columns, a price that may be null, and a source."""
    run(
        f"CREATE TABLE {TABLE} (name text, at date, price numeric(12, 2), "
        f"source text NOT NULL DEFAULT '', PRIMARY KEY (name, at))"
    )
    yield
    run(f"DROP TABLE {TABLE}")


def row(name: str, price: object = "1.00", later: int = 0) -> Row:
    return name, DAY + dt.timedelta(days=later), price


def stored() -> dict[str, Decimal | None]:
    return dict(run("SELECT name, price FROM bulk_thing ORDER BY name, at"))


def put(*rows: Row, **how: Any) -> Counts:
    return bulk.upsert(ALIAS, TABLE, COLUMNS, rows, KEY, **how)


def counts(found: Counts) -> tuple[int, int, int]:
    return found.inserted, found.updated, found.unchanged


def test_rows_are_counted_by_what_came_of_them() -> None:
    assert counts(put(row("a"), row("b"), row("c"))) == (3, 0, 0)
    found = put(row("a"), row("b", "2.00"), row("d"))
    assert (counts(found), found.written) == ((1, 1, 1), 2)
    one, two = Decimal("1.00"), Decimal("2.00")
    assert stored() == {"a": one, "b": two, "c": one, "d": one}


def test_older_servers_count_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(connections[ALIAS]), "pg_version", 170_000)
    assert counts(put(row("a"), row("b"))) == (2, 0, 0)
    assert counts(put(row("a"), row("b", "2.00"), row("c"))) == (1, 1, 1)


def test_an_unchanged_row_is_not_written_again() -> None:
    put(row("a"))
    before = run("SELECT xmin::text FROM bulk_thing")
    assert counts(put(row("a", "1"))) == (0, 0, 1)
    assert run("SELECT xmin::text FROM bulk_thing") == before


def test_of_a_key_that_came_twice_the_last_row_counts() -> None:
    assert counts(put(row("a", "1.00"), row("b"), row("a", "3.00"))) == (2, 0, 0)
    assert stored()["a"] == Decimal("3.00")
    # Many, so that PostgreSQL sorts them in more than one page.
    many = [row(f"n{number % 700:03}", number) for number in range(7_000)]
    assert counts(put(*many)) == (700, 0, 0)
    assert all(stored()[f"n{number:03}"] == 6_300 + number for number in range(700))


def test_a_null_differs_from_a_value_and_not_from_a_null() -> None:
    assert counts(put(row("a", None), row("b", None))) == (2, 0, 0)
    assert counts(put(row("a", None), row("b", "2.00"))) == (0, 1, 1)
    assert counts(put(row("b", None))) == (0, 1, 0)
    assert stored() == {"a": None, "b": None}


def test_a_constant_is_of_all_rows_and_may_be_part_of_the_key() -> None:
    def named(source: str) -> Counts:
        columns, rows = ("at", "price"), [(DAY, "5.00")]
        both = {"name": "a", "source": source}
        return bulk.upsert(ALIAS, TABLE, columns, rows, KEY, constants=both)

    assert counts(named("venue")) == (1, 0, 0)
    assert counts(named("venue")) == (0, 0, 1)
    assert counts(named("file")) == (0, 1, 0)
    assert run("SELECT source, price FROM bulk_thing") == [("file", Decimal("5.00"))]


def test_an_update_may_be_narrowed_or_left_out() -> None:
    put(row("a"), row("b"))
    higher = "excluded.price > stored.price"
    assert counts(put(row("a", "0.50"), row("b", "2.00"), where=higher)) == (0, 1, 1)
    filled = {"price": "COALESCE(stored.price, excluded.price)"}
    assert counts(put(row("a", "9.00"), row("c", "9.00"), update=filled)) == (1, 0, 1)
    assert counts(put(row("a", "9.00"), row("d", "9.00"), update=())) == (1, 0, 1)
    assert [str(price) for price in stored().values()] == ["1.00", "2.00", "9.00", "9.00"]


def test_the_least_value_that_was_written_is_told() -> None:
    put(row("a", later=0), row("a", later=3), row("a", later=5))
    found = put(
        row("a", later=0), row("a", "2.00", later=3), row("a", "2.00", later=5), lowest="at"
    )
    assert found.lowest == DAY + dt.timedelta(days=3)
    assert put(row("a", later=0), lowest="at").lowest is None


def test_several_calls_share_a_transaction_and_what_fails_leaves_nothing() -> None:
    with transaction.atomic(using=ALIAS):
        assert counts(put(row("a"))) == (1, 0, 0)
        assert counts(put(row("b"))) == (1, 0, 0)
        with pytest.raises(psycopg.Error), transaction.atomic(using=ALIAS):
            put(row("c"), row("d", "no number"))
        assert counts(put(row("e"))) == (1, 0, 0)
    assert list(stored()) == ["a", "b", "e"]


def test_no_rows_are_no_work_and_ten_times_the_rows_all_arrive() -> None:
    assert counts(put()) == (0, 0, 0)
    heard: list[int] = []
    rows = [row(f"{number:06}", number) for number in range(50_000)]
    assert counts(put(*rows[:5_000], report=heard.append)) == (5_000, 0, 0)
    assert counts(put(*rows, report=heard.append)) == (45_000, 0, 5_000)
    assert heard[:2] == [2_000, 4_000] and heard[-1] == 50_000
    assert run("SELECT count(*), sum(price) FROM bulk_thing") == [(50_000, sum(range(50_000)))]


def test_a_connection_makes_its_temporary_table_once() -> None:
    put(row("a"))
    query = "SELECT oid FROM pg_class WHERE relname LIKE 'incoming_bulk_thing_%'"
    first = run(query)
    put(row("b"))
    assert len(first) == 1 and run(query) == first


def test_odd_names_are_quoted() -> None:
    run('CREATE TABLE "bulk_Odd table" ("from" text PRIMARY KEY, "a""b" int)')
    try:
        found = bulk.upsert(ALIAS, "bulk_Odd table", ("from", 'a"b'), [("a", 1)], ("from",))
        assert counts(found) == (1, 0, 0)
    finally:
        run('DROP TABLE "bulk_Odd table"')


@pytest.mark.parametrize("update", [None, ()])
def test_a_partitioned_table_is_written_alike(update: tuple[str, ...] | None) -> None:
    run("CREATE TABLE bulk_parts (at date PRIMARY KEY, price int) PARTITION BY RANGE (at)")
    for name, first, end in (("june", "06-01", "07-01"), ("july", "07-01", "08-01")):
        span = f"FROM ('2026-{first}') TO ('2026-{end}')"
        run(f"CREATE TABLE bulk_{name} PARTITION OF bulk_parts FOR VALUES {span}")

    def days(*prices: int) -> Counts:
        rows = [(DAY + dt.timedelta(days=20 * place), price) for place, price in enumerate(prices)]
        return bulk.upsert(ALIAS, "bulk_parts", ("at", "price"), rows, ("at",), update=update)

    try:
        assert counts(days(1, 2)) == (2, 0, 0)
        assert counts(days(1, 5, 3)) == ((1, 1, 1) if update is None else (1, 0, 2))
        assert run("SELECT count(*) FROM bulk_july") == [(1,)]
        assert run("SELECT price FROM bulk_parts ORDER BY at")[1] == (5 if update is None else 2,)
    finally:
        run("DROP TABLE bulk_parts")


@pytest.mark.parametrize(
    ("lock", "within"),
    [
        ("LOCK TABLE bulk_thing IN ACCESS EXCLUSIVE MODE", Timeouts(5.0, 0.2, 15.0)),
        ("UPDATE bulk_thing SET price = 7", Timeouts(5.0, 0.2, 15.0)),
        ("UPDATE bulk_thing SET price = 7", Timeouts(0.2, 5.0, 15.0)),
    ],
)
def test_a_lock_of_another_session_ends_in_a_clear_error(lock: str, within: Timeouts) -> None:
    put(row("a"))
    known = connections[ALIAS].get_connection_params()
    with psycopg.Connection.connect(**{k: v for k, v in known.items() if k in _WHERE}) as other:
        other.execute(lock)
        with timeouts.during(within), pytest.raises(TableLocked) as raised:
            put(row("a", "2.00"), row("b"))
        other.rollback()
    said = str(raised.value)
    assert f"{TABLE} of the database {ALIAS}" in said and "nothing was stored" in said
    assert "timeout" in said and "\n" not in said
    assert stored() == {"a": Decimal("1.00")}
    assert counts(put(row("a", "2.00"), row("b"))) == (1, 1, 0)


_WHERE = {"dbname", "user", "password", "host", "port"}
