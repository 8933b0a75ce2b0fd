"""The documents name files that are there, and the picture is of these folders."""

import re
from collections.abc import Iterator

import pytest

from tests import picture
from tests.mirror import PACKAGES, ROOT

DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "findings/README.md"),
    *("docs/architecture.md", "docs/data.md", "docs/security.md"),
)
PATH = re.compile(rf"`((?:{'|'.join((*PACKAGES, 'tests', 'docs', 'templates'))})/[\w./]+)`")
TARGET = re.compile(r"\]\((?!http|#)([^)#]+)")


def named(document: str) -> Iterator[str]:
    """Return the paths that a document names, as code or as links."""
    text = (ROOT / document).read_text()
    yield from PATH.findall(text)
    folder = (ROOT / document).parent
    for target in TARGET.findall(text):
        yield str((folder / target).resolve().relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_that_is_named_is_there(document: str) -> None:
    missing = [path for path in named(document) if not (ROOT / path).exists()]
    assert missing == []


def test_architecture_tells_the_journeys_by_their_files() -> None:
    assert len(set(named("docs/architecture.md"))) > 60


def test_the_picture_has_every_folder() -> None:
    """Sizes may move on; a folder that comes or goes is drawn anew by `make picture`."""
    drawn = set(re.findall(r"<title>([a-z]+\.[a-z_]+) imports", picture.TARGET.read_text()))
    there = {
        f"{package}.{folder}"
        for package, folders in picture.rooms().items()
        for folder, lines in folders.items()
        if folder and lines
    }
    assert drawn == there, "run `make picture`"


def test_a_word_of_the_glossary_is_said_once() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    table = text[text.index("## Our own words") : text.index("## To add something")]
    words = re.findall(r"^\| ([^|]+?) \|", table, re.MULTILINE)[2:]
    assert len(words) == len(set(words)) >= 30
