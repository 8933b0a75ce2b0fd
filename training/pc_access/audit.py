"""Whether PC's role in the control database is what it must be, as doctor asks."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import connection

from training.pc_access.role import CONNECTIONS, EXTRA_TABLES, REVOKED_FUNCTIONS, RIGHTS


def faults() -> list[str] | None:
    """Return what of PC's role is not as it must be; None where there is no such role."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls OR rolreplication, "
            "rolconnlimit FROM pg_roles WHERE rolname = %s",
            [settings.PC_ROLE],
        )
        row = cursor.fetchone()
        if row is None:
            return None
        found = []
        if row[0]:
            found.append("it has powers over the whole server")
        if not 0 <= row[1] <= CONNECTIONS:
            found.append("its connections are not limited")
        return found + _server_faults(cursor) + _table_faults(cursor)


def _server_faults(cursor: Any) -> list[str]:
    """Return what it may do beside the control database's tables and should not."""
    found = []
    cursor.execute(
        "SELECT datname FROM pg_database WHERE (has_database_privilege(%s, oid, 'CONNECT') "
        "AND datname <> %s) OR has_database_privilege(%s, oid, 'TEMPORARY') ORDER BY 1",
        [settings.PC_ROLE, settings.DATABASES["default"]["NAME"], settings.PC_ROLE],
    )
    if names := [each[0] for each in cursor.fetchall()]:
        found.append(f"it may sign in to, or make tables in, {', '.join(names)}")
    cursor.execute(
        "SELECT count(*) FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace "
        "AND proname ~ %s AND has_function_privilege(%s, oid, 'EXECUTE')",
        [REVOKED_FUNCTIONS, settings.PC_ROLE],
    )
    if cursor.fetchone()[0]:
        found.append("it may take advisory locks or make large objects")
    return found


def _table_faults(cursor: Any) -> list[str]:
    """Return where its rights to tables, columns and rows differ from RIGHTS."""
    found = []
    expected, granted = _expected_privileges(), _granted_privileges(cursor)
    if more := sorted(granted - expected):
        found.append(f"it may do more than it needs: {'; '.join(map(' '.join, more[:3]))}")
    if less := sorted(expected - granted):
        found.append(f"it lacks what it needs: {'; '.join(map(' '.join, less[:3]))}")
    # A right to columns without a policy is one to every row.
    cursor.execute(
        "SELECT relname FROM pg_class WHERE relname = ANY(%s) AND NOT relrowsecurity",
        [[each.table._meta.db_table for each in RIGHTS if each.insert or each.update]],
    )
    if names := [each[0] for each in cursor.fetchall()]:
        found.append(f"its rows are not told apart in {', '.join(names)}")
    return found


def _expected_privileges() -> set[tuple[str, ...]]:
    expected: set[tuple[str, ...]] = {("SELECT on", name) for name in EXTRA_TABLES}
    for right in RIGHTS:
        table = right.table._meta.db_table
        expected.add(("SELECT on", table))
        for verb, columns in (("INSERT", right.insert), ("UPDATE", right.update)):
            expected |= {(verb, "of", f"{table}.{column}") for column in columns}
    return expected


def _granted_privileges(cursor: Any) -> set[tuple[str, ...]]:
    cursor.execute(
        "SELECT acl.privilege_type, class.relname FROM pg_class class, "
        "aclexplode(class.relacl) acl WHERE acl.grantee IN (0, (SELECT oid FROM pg_roles "
        "WHERE rolname = %s)) AND class.relnamespace = 'public'::regnamespace",
        [settings.PC_ROLE],
    )
    granted = {(f"{verb} on", table) for verb, table in cursor.fetchall()}
    cursor.execute(
        "SELECT acl.privilege_type, class.relname, attname FROM pg_attribute "
        "JOIN pg_class class ON class.oid = attrelid, aclexplode(attacl) acl "
        "WHERE acl.grantee IN (0, (SELECT oid FROM pg_roles WHERE rolname = %s)) "
        "AND class.relnamespace = 'public'::regnamespace",
        [settings.PC_ROLE],
    )
    return granted | {(verb, "of", f"{table}.{name}") for verb, table, name in cursor.fetchall()}
