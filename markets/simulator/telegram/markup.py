"""Telegram's HTML: the text it shows, its entities, and the complaints a bot must not cause.

Telegram is stricter than a browser: a tag it does not know, a bare `<` or a tag left open refuses
the whole message, so an alert with a careless symbol is an alert that never arrives.
"""

from __future__ import annotations

import re
from html import unescape
from typing import Any, NamedTuple

TYPES = {
    **dict.fromkeys(("b", "strong"), "bold"),
    **dict.fromkeys(("i", "em"), "italic"),
    **dict.fromkeys(("u", "ins"), "underline"),
    **dict.fromkeys(("s", "strike", "del"), "strikethrough"),
    **dict.fromkeys(("tg-spoiler", "span"), "spoiler"),
    **{name: name for name in ("code", "pre", "blockquote")},
    "a": "text_link",
    "tg-emoji": "custom_emoji",
}
_TOKEN = re.compile(
    r"""<(?P<slash>/?)(?P<name>[^\s<>]*)(?P<rest>(?:"[^"]*"|'[^']*'|[^>"'])*)(?P<close>>?)"""
    r"""|&(?:\#x[0-9a-fA-F]{1,6}|\#[0-9]{1,7}|lt|gt|amp|quot);?"""
)
_ATTRIBUTE = re.compile(r"""([\w-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([\w.-]+))""")


class BadMarkup(ValueError):
    """Telegram cannot read the HTML; the message says where, as Telegram does."""


class _Open(NamedTuple):
    name: str
    offset: int
    entity: dict[str, Any]


def utf16_length(text: str) -> int:
    """Return the length in UTF-16 code units, in which Telegram counts offsets."""
    return len(text.encode("utf-16-le")) // 2


def parse_html(html: str) -> tuple[str, list[dict[str, Any]]]:
    """Return the text a reader sees and its entities; raise BadMarkup."""
    parts: list[str] = []
    entities: list[dict[str, Any]] = []
    stack: list[_Open] = []
    read = length = 0
    for token in _TOKEN.finditer(html):
        plain = html[read : token.start()]
        read = token.end()
        if token[0].startswith("&"):
            plain += unescape(token[0])
        parts.append(plain)
        length += utf16_length(plain)
        if token[0].startswith("&"):
            continue
        at = len(html[: token.start()].encode())
        if token["slash"]:
            entities += _close(token, at, stack, length)
        else:
            stack.append(_Open(token["name"].lower(), length, _entity(token, at)))
    if stack:
        raise BadMarkup(f'Can\'t find end tag corresponding to start tag "{stack[-1].name}"')
    parts.append(html[read:])
    return "".join(parts), sorted(entities, key=lambda each: (each["offset"], -each["length"]))


def _entity(token: re.Match[str], at: int) -> dict[str, Any]:
    name = token["name"].lower()
    if not token["rest"] and not token["close"]:
        raise BadMarkup(f"Unclosed start tag at byte offset {at}")
    if name not in TYPES:
        raise BadMarkup(f'Unsupported start tag "{name}" at byte offset {at}')
    if not token["close"]:
        raise BadMarkup(f'Unclosed start tag "{name}" at byte offset {at}')
    attributes = {
        match[1].lower(): unescape(match[2] or match[3] or match[4] or "")
        for match in _ATTRIBUTE.finditer(token["rest"])
    }
    if name == "span" and attributes.get("class") != "tg-spoiler":
        raise BadMarkup(f'Tag "span" must have class "tg-spoiler" at byte offset {at}')
    if name == "a":
        return {"type": "text_link", "url": attributes.get("href", "")}
    if name == "tg-emoji":
        return {"type": "custom_emoji", "custom_emoji_id": attributes.get("emoji-id", "")}
    return {"type": TYPES[name]}


def _close(token: re.Match[str], at: int, stack: list[_Open], length: int) -> list[dict[str, Any]]:
    if not stack:
        raise BadMarkup(f"Unexpected end tag at byte offset {at}")
    if not token["close"]:
        raise BadMarkup(f"Unclosed end tag at byte offset {at}")
    opened, name = stack.pop(), token["name"].lower()
    # `</>` closes whatever is open.
    if name and name != opened.name:
        expected = f'expected "</{opened.name}>", found "</{name}>"'
        raise BadMarkup(f"Unmatched end tag at byte offset {at}, {expected}")
    size = length - opened.offset
    # An entity of nothing, and a link to nowhere, are text like any other.
    if not size or opened.entity.get("url") == "":
        return []
    return [{**opened.entity, "offset": opened.offset, "length": size}]
