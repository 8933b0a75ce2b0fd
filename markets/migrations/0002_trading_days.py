"""Seed the exchange's calendar where NIFTY's data lives; afterwards the rows are edited by people."""

import datetime as dt

from django.db import migrations

from markets.domain.calendar import nse_days


def seed(apps, schema_editor):
    alias = schema_editor.connection.alias
    if alias not in {"nifty", "pc_nifty"}:
        return
    model = apps.get_model("markets", "TradingDay")
    at = lambda seconds: None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)
    model.objects.using(alias).bulk_create(
        [
            model(
                date=day.date,
                kind=day.kind,
                opens_at=at(day.opens_at),
                closes_at=at(day.closes_at),
                name=day.name,
                source=day.source,
                verified=day.verified,
            )
            for day in nse_days()
        ],
        batch_size=2000,
    )


class Migration(migrations.Migration):
    dependencies = [("markets", "0001_initial")]
    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
