"""Open a file by its bytes and not by its name: text, JSON, a workbook or Parquet, packed or not.

What no bars can be read from is refused by what it is, with what to do.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

HEAD_BYTES = 65_536
_SNIFFED_BYTES = 16
_GZIP, _ZIP, _PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_REFUSED: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF: contract notes and statements hold no bars"),
    (b"\xd0\xcf\x11\xe0", "a workbook of the old .xls kind: save it as XLSX or CSV"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"BZh", "packed by bzip2: unpack it first"),
    (b"\xfd7zXZ", "packed by xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd: unpack it first"),
    (b"SQLite format 3", "an SQLite database: export the table as CSV"),
    (b"\x89HDF", "an HDF5 file: write it as CSV or Parquet"),
    (b"ARROW1", "a Feather file: write it as CSV or Parquet"),
    (b"\x80\x04", "a pickle, which may run code of its own: write it as CSV or Parquet"),
    (b"\x80\x05", "a pickle, which may run code of its own: write it as CSV or Parquet"),
    (b"PK\x05\x06", "a zip archive without a file in it"),
)


class BadFile(ValueError):
    """A file that is refused whole; the message names the file, the line and the reason."""


@dataclass(frozen=True, slots=True)
class Part:
    """Hold one table of a file: the file itself, or a member of the zip archive that it is."""

    path: Path
    kind: str
    """csv, json, xlsx or parquet."""
    member: str = ""

    @property
    def name(self) -> str:
        """Return how the table is called in messages."""
        return f"{self.path}, {self.member} in it" if self.member else str(self.path)

    @property
    def stem(self) -> str:
        """Return the table's own file name, which may say what its columns do not."""
        return PurePosixPath(self.member).name if self.member else self.path.name

    @contextmanager
    def opened(self) -> Iterator[tuple[BinaryIO, IO[bytes]]]:
        """Open the unpacked bytes, and those of the file beneath, whose place tells the progress.

        Raises BadFile where the packing is damaged.
        """
        with _raw(self.path) as raw, _naming_file(self.name):
            if self.member:
                with zipfile.ZipFile(raw) as archive, archive.open(self.member) as stream:
                    yield _plain(cast(BinaryIO, stream)), raw
            else:
                yield _plain(cast(BinaryIO, raw)), raw

    def head(self) -> bytes:
        """Return the first bytes, unpacked."""
        with self.opened() as (stream, _):
            return stream.read(HEAD_BYTES)

    def encoding(self, head: bytes) -> str:
        """Return how the text is encoded, by its first bytes; what is not UTF-8 is told later."""
        if head.startswith(_UTF16):
            return "utf-16"
        try:
            head.decode("utf-8")
        except UnicodeDecodeError as error:
            # Polish stooq of old; a character cut off at the end of the head is no sign.
            if error.start < len(head) - 4 and "Otwarcie" in head.decode("cp1250", "replace"):
                return "cp1250"
        return "utf-8-sig"


def parts_of(path: Path) -> list[Part]:
    """Return the tables in a file; raise BadFile for what holds none that can be read."""
    with _raw(path) as raw, _naming_file(str(path)):
        start = raw.read(_SNIFFED_BYTES)
        raw.seek(0)
        if start.startswith(_ZIP):
            return _of_zip(path, cast(BinaryIO, raw))
        with _naming_file(str(path)):
            head = _plain(cast(BinaryIO, raw)).read(HEAD_BYTES)
    return [Part(path, _kind(str(path), head))]


def checked_sum(path: Path) -> str | None:
    """Hold a file against the .CHECKSUM beside it; return its digest, None where there is none."""
    beside = path.with_name(path.name + ".CHECKSUM")
    if not beside.is_file():
        return None
    words = beside.read_text(encoding="utf-8", errors="replace").split()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not words or words[0].lower() != digest:
        raise BadFile(
            f"{path}: it is not the file that {beside.name} tells of (sha256 {digest[:12]}... is "
            "not the one there); download both again"
        )
    return digest


@contextmanager
def opened(path: Path) -> Iterator[tuple[io.TextIOBase, IO[bytes]]]:
    """Open a text file, packed by gzip or not, and the bytes beneath; raise BadFile for neither."""
    with _raw(path) as raw, _naming_file(str(path)):
        yield io.TextIOWrapper(_plain(cast(BinaryIO, raw)), encoding="utf-8-sig", newline=""), raw


@contextmanager
def _raw(path: Path) -> Iterator[IO[bytes]]:
    try:
        raw = path.open("rb")
    except FileNotFoundError as error:
        raise BadFile(f"{path}: no such file") from error
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror}") from error
    with raw:
        yield raw


@contextmanager
def _naming_file(name: str) -> Iterator[None]:
    """Tell damage to the packing, or text that is none, as BadFile."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadFile(f"{name}: the gzip file is cut off or damaged ({error})") from error
    except zipfile.BadZipFile as error:
        raise BadFile(f"{name}: the zip file is cut off or damaged ({error})") from error
    except (NotImplementedError, RuntimeError) as error:
        # zipfile: a password, or a packing that Python does not know.
        raise BadFile(f"{name}: the zip file cannot be opened ({error})") from error
    except UnicodeDecodeError as error:
        raise BadFile(f"{name}: not UTF-8 text at byte {error.start}") from error


def _plain(stream: BinaryIO) -> BinaryIO:
    """Return the stream, or what gzip has packed in it."""
    start = stream.read(2)
    stream.seek(0)
    return cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if start == _GZIP else stream


def _of_zip(path: Path, raw: BinaryIO) -> list[Part]:
    with zipfile.ZipFile(raw) as archive:
        names = [each.filename for each in archive.infolist() if not each.is_dir()]
        if "xl/workbook.xml" in names:
            return [Part(path, "xlsx")]
        members = [name for name in sorted(names) if _is_data(name)]
        if not members:
            raise BadFile(f"{path}: the zip file holds no file to read")
        found = []
        for member in members:
            part = Part(path, "csv", member)
            with archive.open(member) as stream:
                start = stream.read(_SNIFFED_BYTES)
            if start.startswith(_ZIP):
                raise BadFile(f"{part.name}: a zip file in a zip file; unpack the outer one first")
            with archive.open(member) as stream:
                head = _plain(cast(BinaryIO, stream)).read(HEAD_BYTES)
            found.append(Part(path, _kind(part.name, head), member))
        return found


def _is_data(name: str) -> bool:
    parts = PurePosixPath(name).parts
    is_hidden = parts[0] == "__MACOSX" or parts[-1].startswith(".")
    return not is_hidden and not name.endswith((".CHECKSUM", ".md", ".pdf"))


def _kind(name: str, head: bytes) -> str:
    for start, what in _REFUSED:
        if head.startswith(start):
            raise BadFile(f"{name}: this is {what}")
    if head.startswith(_PARQUET):
        return "parquet"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:200].lower()
    if text.startswith((b"<!doctype", b"<html", b"<head")):
        raise BadFile(
            f"{name}: this is a web page and not the file, as servers send where one is missing or "
            "a login has ended; download it again"
        )
    if text.startswith(b"<?xml"):
        raise BadFile(f"{name}: this is XML, which no bars are read from; save it as CSV or XLSX")
    return "json" if text.startswith((b"{", b"[")) else "csv"


Report = Callable[[int], None]
