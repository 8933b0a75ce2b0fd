"""The admin over the options' database: it shows rows, and changes none."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from markets.options import archive, storage
from markets.options.models import ArchivedDay, CollectedMinute, Gap, Instrument
from tests.markets.options.desk import MONDAY
from tests.markets.options.test_storage import NAMES, OPENS, batch

pytestmark = pytest.mark.django_db(databases=["default", "options"])


def test_tables_are_shown_and_nothing_is_edited(
    client: Client, settings: object, tmp_path: object
) -> None:
    settings.PC_DIR = tmp_path  # type: ignore[attr-defined]  # pytest-django's
    client.force_login(User.objects.create_superuser("owner"))
    storage.store(batch(OPENS, (0, 1)), storage.Known())
    archive.archive(MONDAY)
    for model, shown in (
        (Gap, NAMES[4]),
        (ArchivedDay, "options-2026-06-01.parquet"),
        (CollectedMinute, "09:15"),
        (Instrument, NAMES[0]),
    ):
        name = f"admin:options_{model._meta.model_name}"
        page = client.get(reverse(f"{name}_changelist"))
        assert page.status_code == 200
        row = model._default_manager.first()
        assert row is not None
        assert client.get(reverse(f"{name}_change", args=[row.pk])).status_code == 200
        assert shown in page.content.decode() or model is CollectedMinute
        assert client.get(reverse(f"{name}_add")).status_code == 403
        assert client.post(reverse(f"{name}_delete", args=[row.pk])).status_code == 403
