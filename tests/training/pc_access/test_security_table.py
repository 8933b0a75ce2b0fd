"""docs/security.md says what the code does: its figures and names are those of the code."""

import re

import pytest
from django.conf import settings

from tests.sshd import RRSYNC
from tradingsite.machines import pc_notices, ssh, transfer
from tradingsite.models import PcNotice
from training.models import Evaluation, Recipe, TrainingRun, TrainingStep
from training.pc_access import queue as pc_queue
from training.pc_access import role as pc_role
from training.pipeline import folders

TEXT = " ".join((settings.BASE_DIR / "docs" / "security.md").read_text().split())
README = (settings.BASE_DIR / "README.md").read_text()


@pytest.mark.parametrize(
    "said",
    [
        f"at most {pc_role.CONNECTIONS} connections",
        f"{pc_notices.NEW_AN_HOUR} new notices an hour",
        f"{PcNotice._meta.get_field('text').max_length} characters each",
        f"{transfer.LIMIT_BYTES >> 20} MB a bundle",
        f"user `{pc_queue.USER}`",
        f"the queues `{pc_queue.QUEUES[0]}` and `{pc_queue.QUEUES[1]}`",
        "rrsync -munge .../pc/link",
        "rrsync -ro .../pc/archive",
    ],
)
def test_the_table_says_it(said: str) -> None:
    assert said in TEXT


def test_the_words_of_the_table_are_the_figures_of_the_code() -> None:
    assert (folders.QUARANTINED_PER_SLOT, "the newest two of a slot" in TEXT) == (2, True)
    assert (ssh.LONGEST_SECONDS, "half an hour" in TEXT) == (1_800, True)
    assert (pc_role.LONGEST_SECONDS, "two minutes at a time" in TEXT) == (120, True)
    rights = {each.table: each for each in pc_role.RIGHTS}
    steps = re.findall(r"\d", rights[TrainingStep].with_check.partition("OR")[0])
    assert f"steps {', '.join(steps[:-1])} and {steps[-1]}" in TEXT
    assert not rights[Recipe].update and rights[TrainingRun].using == rights[Evaluation].using


def test_the_readme_gives_the_keys_that_the_tests_try() -> None:
    assert f'command="{RRSYNC} -munge /srv/nightdesk/var/pc/link",restrict' in README
    assert f'command="{RRSYNC} -ro /srv/nightdesk/var/pc/archive",restrict' in README
    assert settings.PC_ROLE.endswith("pc")
