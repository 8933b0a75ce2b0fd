"""What a slot has of each fill is kept, and what an order filled in part leaves is traded away."""

from decimal import Decimal
from typing import Any

from django.db import migrations, models


def fill_shares(apps: Any, schema_editor: Any) -> None:
    """Part the fills so far by their orders' lots, as they were booked."""
    fills = apps.get_model("bots", "Fill").objects.using(schema_editor.connection.alias)
    for fill in fills.select_related("order").iterator():
        net_lots = sum(fill.order.shares.values())
        fill.shares = {
            slot: str(Decimal(fill.quantity) * lots / net_lots)
            for slot, lots in fill.order.shares.items()
        }
        fill.save(update_fields=["shares"])


class Migration(migrations.Migration):
    dependencies = [("bots", "0005_accounts")]

    operations = [
        migrations.AddField(
            model_name="order",
            name="rests",
            field=models.JSONField(
                default=dict,
                help_text="what each slot held beyond whole lots, traded away with it",
            ),
        ),
        migrations.AddField(
            model_name="fill",
            name="shares",
            field=models.JSONField(
                default=dict, help_text="what each slot has of it, in units"
            ),
        ),
        migrations.RunPython(fill_shares, migrations.RunPython.noop),
    ]
