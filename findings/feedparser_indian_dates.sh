#!/usr/bin/env bash
# feedparser 6.0.12: the dates of Indian feeds are read as other instants, and none is missing.
#
# RSS feeds of Indian papers write "IST", "05:30 PM" and days as 30-11-2026. feedparser documents many
# forms and gives None for what it cannot read, so a good guess is: the right instant or None.
# Seen instead, each without a word:
#   * "Mon, 30 Nov 2026 17:30:00 IST": 17:30 UTC, five and a half hours late (a date of the future
#     for half of a trading day); with +0530 it is right;
#   * "30 Nov 2026 05:30 PM": 05:30, the half of the day is lost;
#   * "30-11-2026 17:30": a day of the year 2030.
# Output seen: "IST: 17:30 UTC", "+0530: 12:00 UTC", "PM: 05:30", "30-11-2026: 2030-11-20".
# What to do: read such dates oneself, and leave out what then lies in the future.
# Needs PyPI. Exit 0: as seen.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check feedparser==6.0.12
cat > "$folder/seen.py" <<'PYTHON'
import feedparser

FEED = """<?xml version="1.0"?><rss version="2.0"><channel><title>x</title>
<item><title>y</title><pubDate>{}</pubDate></item></channel></rss>"""


def read(date):
    entry = feedparser.parse(FEED.format(date)).entries[0]
    return entry.get("published_parsed")


ist, offset = read("Mon, 30 Nov 2026 17:30:00 IST"), read("Mon, 30 Nov 2026 17:30:00 +0530")
evening, numbers = read("30 Nov 2026 05:30 PM"), read("30-11-2026 17:30")
found = [
    f"IST: {ist.tm_hour:02}:{ist.tm_min:02} UTC",
    f"+0530: {offset.tm_hour:02}:{offset.tm_min:02} UTC",
    f"PM: {evening.tm_hour:02}:{evening.tm_min:02}" if evening else "PM: none",
    f"30-11-2026: {numbers.tm_year}-{numbers.tm_mon:02}-{numbers.tm_mday:02}" if numbers else "30-11-2026: none",
]
print("\n".join(found))
assert found == [
    "IST: 17:30 UTC",
    "+0530: 12:00 UTC",
    "PM: 05:30",
    "30-11-2026: 2030-11-20",
], found
PYTHON
"$folder/venv/bin/python" "$folder/seen.py"
