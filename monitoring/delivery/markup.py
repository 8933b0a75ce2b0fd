"""Telegram's HTML: escaped, measured in its units and cut to its length, without a tag broken.

Telegram knows a handful of tags, refuses a whole message over one bare `<`, and counts a message's
4,096 characters in UTF-16 units after the tags are taken out (https://core.telegram.org/bots/api,
"Formatting options").
"""

import html
import re
from collections.abc import Iterator

TEXT_UNITS = 4_096
CAPTION_UNITS = 1_024
_TAG = re.compile(r"<(/?)([a-z]+)[^<>]*>")
_TOKEN = re.compile(r"<[^<>]*>|&(?:lt|gt|amp|quot|#\d+);|\n|.", re.DOTALL)


def safe(text: object) -> str:
    """Return any text as HTML that shows it as it is; every foreign word goes through here."""
    return html.escape(str(text), quote=False)


def units(text: str) -> int:
    """Return the length of plain text in UTF-16 units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def plain(marked: str) -> str:
    """Return what a reader sees of HTML."""
    return html.unescape(_TAG.sub("", marked))


def split(marked: str, limit: int = TEXT_UNITS) -> list[str]:
    """Return HTML in parts of at most so many units; a tag open at a cut is closed and reopened.

    Cuts fall behind the last line, else the last space, that leaves the part at least half full.
    """
    parts: list[str] = []
    rest = marked
    while units(plain(rest)) > limit:
        part, rest = _cut(rest, limit)
        parts.append(part)
    return [*parts, rest] if plain(rest).strip() or not parts else parts


def _cut(marked: str, limit: int) -> tuple[str, str]:
    """Return a part of at most so many units, and what is left."""
    stop = space = line = count = 0
    opened: list[str] = []
    at_stop: dict[int, list[str]] = {}
    for start, end, shown in _tokens(marked):
        if not shown:
            _follow(marked[start:end], opened)
            continue
        count += units(shown)
        if count > limit:
            break
        stop = end
        at_stop[end] = list(opened)
        if count >= limit // 2:
            space = end if shown == " " else space
            line = end if shown == "\n" else line
    stop = line or space or stop
    tags = at_stop[stop]
    closing = "".join(f"</{_name(tag)}>" for tag in reversed(tags))
    return marked[:stop].rstrip() + closing, "".join(tags) + marked[stop:].lstrip("\n ")


def _tokens(marked: str) -> Iterator[tuple[int, int, str]]:
    """Return where each token begins and ends, and what a reader sees of it: nothing of a tag."""
    for token in _TOKEN.finditer(marked):
        is_tag = _TAG.fullmatch(token[0])
        yield token.start(), token.end(), "" if is_tag else html.unescape(token[0])


def _follow(tag: str, opened: list[str]) -> None:
    if tag.startswith("</"):
        opened.pop()
    else:
        opened.append(tag)


def _name(tag: str) -> str:
    found = _TAG.fullmatch(tag)
    assert found is not None  # noqa: S101 - only tags are put on the stack
    return found[2]
