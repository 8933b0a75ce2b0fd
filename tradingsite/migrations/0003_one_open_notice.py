"""One open notice a key. Two writers could make two of them until now: the newest stays open."""

from django.db import migrations, models

# No writer may put another double between the two steps; readers go on.
LOCK = "LOCK TABLE tradingsite_notice IN SHARE ROW EXCLUSIVE MODE"
END_DOUBLES = """
WITH newest AS (
    SELECT DISTINCT ON (key) id, key FROM tradingsite_notice
    WHERE resolved_at IS NULL ORDER BY key, last_at DESC, id DESC
)
UPDATE tradingsite_notice AS notice SET resolved_at = notice.last_at
FROM newest
WHERE notice.key = newest.key AND notice.resolved_at IS NULL AND notice.id <> newest.id
"""


class Migration(migrations.Migration):

    dependencies = [
        ('tradingsite', '0002_code_of_services'),
    ]

    operations = [
        migrations.RunSQL([LOCK, END_DOUBLES], migrations.RunSQL.noop),
        migrations.AddConstraint(
            model_name='notice',
            constraint=models.UniqueConstraint(
                condition=models.Q(('resolved_at__isnull', True)),
                fields=('key',),
                name='one_open_notice',
            ),
        ),
    ]
