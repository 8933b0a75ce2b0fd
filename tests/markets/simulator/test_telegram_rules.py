"""The rules of the simulated Telegram: how fast, how marked up, and how much it keeps."""

import pytest

from markets.simulator.telegram import OWNER_CHAT
from markets.simulator.telegram.accounts import KEPT, Account
from markets.simulator.telegram.files import KEPT_FILES, MEGABYTE, Files
from markets.simulator.telegram.limits import Limits
from markets.simulator.telegram.markup import BadMarkup, parse_html


def test_limits_are_those_of_telegram() -> None:
    now = 0.0
    limits = Limits(lambda: now)
    assert [limits.admit(chat) for chat in range(31)] == [0] * 30 + [1]
    now = 60.0
    assert [limits.admit(1) for _ in range(11)] == [0] * 10 + [1]
    assert [limits.admit(-1) for _ in range(21)] == [0] * 20 + [3]
    now = 61.0
    assert limits.admit(1) == 0
    assert limits.admit(-1) == 2
    passed = 0
    for second in range(61, 3_661):
        now = float(second)
        passed += limits.admit(-1) == 0
    assert 1_199 <= passed <= 1_201  # a group's 20 a minute, for an hour


@pytest.mark.parametrize(
    ("html", "why"),
    [
        ("a </b>", "Unexpected end tag at byte offset 2"),
        ("₹<b>x</i>", 'Unmatched end tag at byte offset 7, expected "</b>", found "</i>"'),
        ("x <b", "Unclosed start tag at byte offset 2"),
        ("<a href='x'", 'Unclosed start tag "a" at byte offset 0'),
        ("5 < 6", 'Unsupported start tag "" at byte offset 2'),
        ("<b>x</b", "Unclosed end tag at byte offset 4"),
        ("<span>x</span>", 'Tag "span" must have class "tg-spoiler" at byte offset 0'),
        ("<br/>", 'Unsupported start tag "br/" at byte offset 0'),
    ],
)
def test_bad_markup_is_named(html: str, why: str) -> None:
    with pytest.raises(BadMarkup) as caught:
        parse_html(html)
    assert str(caught.value) == why


def test_offsets_count_utf16() -> None:
    text, entities = parse_html('🟢 <a href="x">🟢<i>&#8377;</i></a> & <b></b><pre>1 &gt; 0</pre>')
    assert text == "🟢 🟢₹ & 1 > 0"
    assert entities == [
        {"type": "text_link", "url": "x", "offset": 3, "length": 3},
        {"type": "italic", "offset": 5, "length": 1},
        {"type": "pre", "offset": 9, "length": 5},
    ]


def test_only_the_last_messages_are_kept() -> None:
    account = Account("trading", [OWNER_CHAT], Limits())
    for number in range(KEPT + 1):
        account.send(OWNER_CHAT, {"text": str(number)}, None, is_quiet=False)
        account.receive(OWNER_CHAT, OWNER_CHAT, str(number))
    assert len(account.sent) == len(account.updates) == KEPT
    assert next(iter(account.sent.values())).message["text"] == "1"


def test_contents_go_before_the_files_do() -> None:
    files = Files(1)
    content = bytes(40 * MEGABYTE)
    first, second = (files.add("document", "a.bin", "", content) for _ in range(2))
    assert (first.content, second.content) == (None, content)
    for _ in range(KEPT_FILES - 1):
        files.add("document", "b.csv", "text/csv", b"b")
    assert files.get(first.file_id) is None
    assert files.at(second.path) is second
