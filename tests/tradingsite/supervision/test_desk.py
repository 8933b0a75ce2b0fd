"""The desk's own chores."""

from io import StringIO
from pathlib import Path

import pytest
from pytest_django import Settings

from tradingsite.models import Notice
from tradingsite.supervision.desk import Desk


@pytest.mark.django_db
def test_what_valkey_could_not_read_is_told_of_once(tmp_path: Path, settings: Settings) -> None:
    settings.DATA_DIR = tmp_path
    desk = Desk(StringIO(), [], train=False, only=False)
    desk._tell_of_damage()
    assert not Notice.objects.exists()
    aside = tmp_path / "embedded" / "valkey" / "appendonlydir.damaged-17"
    aside.mkdir(parents=True)
    for run in (desk, desk, Desk(StringIO(), [], train=False, only=False)):
        run._tell_of_damage()
    notice = Notice.objects.get()
    assert notice.severity == "warning" and notice.count == 1 and str(aside) in notice.text
