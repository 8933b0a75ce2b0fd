"""Cut as Telegram counts: the simulated Telegram's own parser must take every part."""

import random

import pytest

from markets.simulator.telegram.markup import parse_html
from monitoring.delivery import markup

PIECES = (
    *("<b>", "</b>", "<i>", "</i>", "<code>", "</code>", "word ", "line\n", "&lt;x&gt; ", "🔴 "),
    *("₹18,420 ", "ends. ", "averylongwordwithoutanyspace", "&amp;"),
)


def seen(parts: list[str]) -> str:
    return "".join(parse_html(each)[0] for each in parts)


def made(rng: random.Random, count: int) -> str:
    """Return valid HTML of random pieces."""
    opened: list[str] = []
    out = []
    for _ in range(count):
        piece = rng.choice(PIECES)
        if piece.startswith("</"):
            if not opened or opened[-1] != piece[2:-1]:
                continue
            opened.pop()
        elif piece.startswith("<") and piece != "<x>":
            if piece[1:-1] in opened:
                continue
            opened.append(piece[1:-1])
        out.append(piece)
    return "".join(out) + "".join(f"</{name}>" for name in reversed(opened))


@pytest.mark.parametrize("seed", range(60))
def test_every_part_is_valid_and_short_and_nothing_is_lost(seed: int) -> None:
    rng = random.Random(seed)
    html, limit = made(rng, 400), rng.choice((64, 100, 257))
    parts = markup.split(html, limit)
    for part in parts:
        text, _ = parse_html(part)
        assert markup.units(text) <= limit
        assert text.strip()
    assert "".join(seen(parts).split()) == "".join(parse_html(html)[0].split())


def test_a_cut_falls_between_lines_and_bold_goes_on() -> None:
    html = f"<b>{'a' * 30}\n{'b' * 30}</b>"
    assert markup.split(html, 40) == [f"<b>{'a' * 30}</b>", f"<b>{'b' * 30}</b>"]


def test_units_are_those_of_utf_16() -> None:
    assert markup.units("🔴") == 2
    assert markup.units("₹") == 1
    assert [markup.units(markup.plain(each)) for each in markup.split("🔴" * 5, 4)] == [4, 4, 2]


def test_what_fits_is_one_part_and_nothing_is_none() -> None:
    assert markup.split("x" * 4_096) == ["x" * 4_096]
    assert len(markup.split("x" * 4_097)) == 2
    assert markup.split("") == [""]


@pytest.mark.parametrize("text", ["<b>", "a & b", "x < 3 > y", "&lt;", "</pre>", '"'])
def test_foreign_text_is_shown_as_it_is(text: str) -> None:
    html = markup.safe(text)
    assert parse_html(html) == (text, [])
    assert markup.plain(html) == text
