#!/usr/bin/env python
"""Django's command line; it makes sure the databases a command needs are there first."""

import os
import sys

# Commands that need no server, so they must not start one.
OFFLINE = {
    *("help", "version", "embedded", "makemigrations", "collectstatic", "check", "venue"),
    "limits",
}
# What keeps a command that usually needs them away from all servers.
OFFLINE_OPTIONS = {"-h", "--help", "--version", "--standalone"}


def main() -> None:
    """Start the embedded servers when none are configured, then run the command."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradingsite.settings")
    arguments = sys.argv[1:]
    if arguments and not arguments[0].startswith("run"):
        os.environ.setdefault("LOG_LEVEL", "WARNING")  # a person is looking; services log more
    from tradingsite import environment, private

    private.mask()
    environment.check()
    asks_only = not arguments or OFFLINE_OPTIONS & set(arguments)
    if not asks_only and arguments[0] not in OFFLINE:
        from tradingsite.supervision.startup import prepare

        prepare(arguments[0])
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
