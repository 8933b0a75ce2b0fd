"""The databases, their homes and the router."""

from io import StringIO

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections

from bots.models import Order, OrderEvent
from markets.models import Bar
from tradingsite import databases
from tradingsite.databases import HOMES, Router
from tradingsite.models import JobRun

ALL = ("default", *databases.TRADING, *databases.TRAINING.values())


def test_five_trading_databases_and_one_for_control() -> None:
    assert len(databases.TRADING) == 5
    assert databases.aliases("prod") == ("default", *databases.TRADING)
    assert databases.aliases("pc") == ("default", "pc_nifty", "pc_btc")
    assert set(databases.aliases("single")) == set(ALL)


def test_a_url_becomes_a_server_for_each_alias() -> None:
    made = databases.settings_for("postgresql://me:p%40ss@db.example:6000", "prod")
    assert made["nifty"]["NAME"] == "nightdesk_nifty"
    assert {one["PASSWORD"] for one in made.values()} == {"p@ss"}
    assert {(one["HOST"], one["PORT"], one["USER"]) for one in made.values()} == {
        ("db.example", "6000", "me")
    }


def test_a_url_of_another_database_is_refused() -> None:
    with pytest.raises(ValueError, match="must start with postgresql://, was mysql://"):
        databases.settings_for("mysql://me@here", "prod")


def test_every_home_is_a_database_and_every_app_has_one() -> None:
    labels = {config.label for config in apps.get_app_configs()}
    assert set(HOMES) <= labels
    for homes in HOMES.values():
        assert set(homes) <= set(ALL)


def test_a_model_of_several_databases_must_be_told_which() -> None:
    with pytest.raises(LookupError, match=r'Bar lives in nifty, btc.*Bar\.on\("nifty"\)'):
        Bar.objects.first()
    with pytest.raises(LookupError, match=r"bots\.Order"):
        Order.objects.create(bot="nifty")


def test_a_model_of_one_database_goes_there_by_itself() -> None:
    assert Router().db_for_read(JobRun) == "default"
    assert Router().db_for_write(User) == "default"
    assert Router().db_for_read(Order.on("btc")) == "btc"


def test_a_row_leads_to_the_database_it_came_from() -> None:
    order = Order.on("btc")(tag="x")
    order._state.db = "btc"
    assert Router().db_for_read(OrderEvent, instance=order) == "btc"


@pytest.mark.django_db(databases=ALL)
def test_each_database_has_its_own_tables_and_no_others() -> None:
    tables = {alias: set(connections[alias].introspection.table_names()) for alias in ALL}
    assert {"markets_bar", "bots_order"} <= tables["nifty"]
    assert tables["nifty"] == tables["btc"]
    assert "markets_bar" in tables["pc_nifty"] and "bots_order" not in tables["pc_nifty"]
    assert tables["pc_nifty"] == tables["pc_btc"]
    assert {"auth_user", "tradingsite_jobrun", "training_trainingrun"} <= tables["default"]
    assert not {"markets_bar", "bots_order"} & tables["default"]
    for alias in ("straddle", "options", "allocator"):
        assert not {"auth_user", "markets_bar", "bots_order"} & tables[alias]


@pytest.mark.django_db(databases=list(settings.DATABASES))
def test_every_model_has_its_migration() -> None:
    said = StringIO()
    call_command("makemigrations", check=True, dry_run=True, stdout=said)
    assert said.getvalue() == "No changes detected\n"
