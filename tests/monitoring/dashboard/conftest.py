"""A desk and who owns it."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.desk import Desk
from tests.monitoring.dashboard.pages import PASSWORD


@pytest.fixture
def desk(set_market: Callable[..., None]) -> Desk:
    made = Desk("btc", set_market, "2026-06-02 13:42")
    made.quote(60_000.0)
    return made


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("owner", password=PASSWORD))
    return client
