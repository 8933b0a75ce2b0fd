"""A permission for each act, and a group that has them all, for who owns the desk beside the first."""

from django.db import migrations

OWNER_GROUP = "owner"


def make(apps, schema_editor):
    options = apps.get_model("access", "Act")._meta
    types = apps.get_model("contenttypes", "ContentType").objects
    kind, _ = types.get_or_create(app_label="access", model="act")
    group, _ = apps.get_model("auth", "Group").objects.get_or_create(name=OWNER_GROUP)
    # Django makes permissions only after all migrations, and finds these then.
    permissions = apps.get_model("auth", "Permission").objects
    for codename, name in options.permissions:
        permission, _ = permissions.get_or_create(
            content_type=kind, codename=codename, defaults={"name": name}
        )
        group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [
        ("access", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(make, migrations.RunPython.noop)]
