"""A closed day's file on its way into PC's archive, and the proof that it is there.

PROD puts it into the folder that both use, and PC moves it into its archive, which PROD reads and
cannot change. What the archive gives back is hashed here: PC's word for it is not needed.
"""

import datetime as dt
import os
import shutil
import tempfile
from pathlib import Path

from celery import current_app
from django.conf import settings

from tradingsite import clock
from tradingsite.errors import Degraded
from tradingsite.machines import transfer

FILE_TASK = "markets.tasks.file_options"
SPARE_BYTES = 1 << 16
MESSAGE_EXPIRES_SECONDS = 24 * 3600


def send(day: dt.date, path: Path) -> None:
    """Send a day's file to PC and ask it to file it; nothing where PC is this machine."""
    if not transfer.is_link():
        return
    with tempfile.TemporaryDirectory(dir=_scratch()) as scratch:
        os.link(path, Path(scratch) / path.name)  # a folder of its own, for folders are sent
        transfer.send(Path(scratch), _sent(day))
    current_app.send_task(FILE_TASK, args=[day.isoformat()], expires=MESSAGE_EXPIRES_SECONDS)


def lack(day: dt.date, sha256: str, size_bytes: int) -> str:
    """Return what PC's archive lacks of a day's file, empty where it gives back the very bytes."""
    if not transfer.is_link():
        return ""
    with tempfile.TemporaryDirectory(dir=_scratch()) as scratch:
        back = Path(scratch) / "back"
        try:
            transfer.send(_filed(day), back, size_bytes + SPARE_BYTES)
        except Degraded as error:
            return f"PC's archive does not give it: {error}"
        found = {transfer.sha256(file) for file in back.iterdir() if file.is_file()}
    return "" if sha256 in found else "PC's archive has other bytes"


def file_sent(day: dt.date) -> bool:
    """On PC: move what PROD sent of a day into the archive; return whether there was anything.

    What is there already with other bytes is kept beside it: nothing is ever replaced.
    """
    sent, place = _sent(day), _filed(day)
    if not sent.is_dir():
        return False
    if place.is_dir():
        place.rename(place.with_name(f"{place.name}.before-{clock.real():%Y%m%dT%H%M%S%f}"))
    place.parent.mkdir(parents=True, exist_ok=True)
    # Copied whole and then renamed, so that PROD, which may write in the one, never reaches it.
    transfer.copy(sent, place)
    shutil.rmtree(sent)
    return True


def _sent(day: dt.date) -> Path:
    return transfer.link_folder() / "options" / day.isoformat()


def _filed(day: dt.date) -> Path:
    return transfer.archive_folder() / "options" / day.isoformat()


def _scratch() -> Path:
    folder = Path(settings.PROD_DIR) / "options"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
