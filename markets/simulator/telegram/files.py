"""What bots upload: the checks Telegram makes, and the last of the contents."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import PurePath

from markets.simulator.telegram.calls import Refused

MEGABYTE = 1024 * 1024
PHOTO_BYTES = 10 * MEGABYTE
UPLOAD_BYTES = 50 * MEGABYTE
DOWNLOAD_BYTES = 20 * MEGABYTE
KEPT_FILES = 1_000
KEPT_BYTES = 64 * MEGABYTE
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
# Telegram scales a photo to fit this; only a PNG says its own size in its first bytes.
PHOTO_SIDE = 1280


@dataclass(slots=True)
class StoredFile:
    """One uploaded file; its content goes when newer ones need the room."""

    file_id: str
    path: str
    name: str
    mime_type: str
    size: int
    width: int
    height: int
    content: bytes | None


class Files:
    """Keep the last files of one bot, at most KEPT_BYTES of contents."""

    def __init__(self, owner: int) -> None:
        self._owner = owner
        self._numbers = itertools.count()
        self._files: dict[str, StoredFile] = {}

    def add(self, kind: str, name: str, mime_type: str, content: bytes) -> StoredFile:
        """Take a photo or a document; raise Refused as Telegram would."""
        size, width, height = len(content), 0, 0
        if not size:
            raise Refused(400, "Bad Request: file must be non-empty")
        if size > UPLOAD_BYTES:
            raise Refused(413, "Request Entity Too Large")
        if kind == "photo":
            width, height = _photo(content)
        number = next(self._numbers)
        stored = StoredFile(
            file_id=f"{kind}-{self._owner}-{number}",
            path=f"{kind}s/file_{number}{PurePath(name).suffix}",
            name=name,
            mime_type=mime_type,
            size=size,
            width=width,
            height=height,
            content=content,
        )
        self._files[stored.file_id] = stored
        self._make_room()
        return stored

    def get(self, file_id: str) -> StoredFile | None:
        """Return a file by its id."""
        return self._files.get(file_id)

    def at(self, path: str) -> StoredFile | None:
        """Return a file by the path that getFile gave."""
        return next((each for each in self._files.values() if each.path == path), None)

    def _make_room(self) -> None:
        while len(self._files) > KEPT_FILES:
            self._files.pop(next(iter(self._files)))
        kept = 0
        for stored in reversed(self._files.values()):
            kept += len(stored.content or b"")
            if kept > KEPT_BYTES:
                stored.content = None


def _photo(content: bytes) -> tuple[int, int]:
    """Return width and height of a photo that Telegram would take."""
    if len(content) > PHOTO_BYTES:
        raise Refused(
            400,
            f"Bad Request: file of size {len(content)} bytes is too big for a photo; "
            f"the maximum size is {PHOTO_BYTES} bytes",
        )
    if content.startswith(JPEG):
        return PHOTO_SIDE, PHOTO_SIDE
    if not content.startswith(PNG):
        raise Refused(400, "Bad Request: IMAGE_PROCESS_FAILED")
    width = int.from_bytes(content[16:20], "big")
    height = int.from_bytes(content[20:24], "big")
    if not width or not height or width + height > 10_000 or not 1 / 20 <= width / height <= 20:
        raise Refused(400, "Bad Request: PHOTO_INVALID_DIMENSIONS")
    return width, height
