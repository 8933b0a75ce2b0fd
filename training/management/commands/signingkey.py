"""Make the key with which PC signs models."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from bots.modelstore.keys import generate_keys


class Command(BaseCommand):
    """Make PC's signing key, once."""

    help = (
        "Make the key with which PC signs every model; PROD trades no other. Its public half is to "
        "be put into PROD's folder of keys by hand, which is what makes it trusted."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the key unless it is there, and say where its public half goes."""
        keys = Path(settings.PC_DIR) / "keys"
        private, public = keys / "signing.pem", keys / "public"
        if settings.MACHINE == "prod":
            raise CommandError("PROD signs nothing: make the key on PC")
        if private.exists():
            self.stdout.write(f"{private} is there already.")
        else:
            public.mkdir(parents=True, exist_ok=True)
            generate_keys(private, public)
            self.stdout.write(f"made {private}")
        self.stdout.write(
            f"Copy what is in {public} into DATA_DIR/prod/keys on PROD, by a way that you trust."
        )
