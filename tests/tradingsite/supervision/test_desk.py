"""The desk's own chores."""

import time
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_django import Settings

from monitoring.dashboard import machine, verdict
from tradingsite import clock
from tradingsite.models import Heartbeat, Notice
from tradingsite.supervision import preparation
from tradingsite.supervision.desk import Desk
from tradingsite.supervision.supervisor import Program


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


@pytest.mark.django_db
def test_what_cannot_start_says_why_in_its_place_and_at_the_top() -> None:
    desk = Desk(StringIO(), [], train=False, only=False)
    why = "refused to start: port 8801 is taken by process 7. It is not tried again: mend that."
    desk._on_trouble(Program("simulator", ()), why, True)
    assert Notice.objects.get(key="refused:simulator").severity == "critical"
    assert Heartbeat.objects.get(service="simulator").state == "refused"
    rows = machine.services("simulated", clock.real())
    row = next(each for each in rows if each.service.name == "simulator")
    assert (row.mark, row.words, row.detail) == ("fail", "refused", why)
    facts = SimpleNamespace(services=rows, real_now=clock.real())
    found = next(verdict._silent(facts))  # type: ignore[arg-type]
    assert found.headline == "simulator refused to start: port 8801 is taken by process 7."


@pytest.mark.django_db
def test_the_banner_comes_when_the_page_answers_however_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = StringIO()
    said: list[str] = []
    desk = Desk(shown, ["dashboard"], train=False, only=False)
    desk._supervised_at = time.monotonic() - 100.0
    answers = iter([False, False, True])
    monkeypatch.setattr(preparation, "answers", lambda address: next(answers))
    boss: Any = SimpleNamespace(say=said.append)
    assert [desk._greet(boss) for _ in range(3)] == [False, False, True]
    assert len(said) == 1 and "does not answer after 100 s" in said[0]
    assert "Nightdesk is up after" in shown.getvalue() and desk.address in shown.getvalue()


def test_the_market_is_stopped_last_and_a_training_is_not_waited_for() -> None:
    desk = Desk(StringIO(), ["simulator", "worker", "gpu-worker", "btc-bot"], False, False)
    programs = {each.name: desk._program(each) for each in desk._services}
    waves = {name: program.wave for name, program in programs.items()}
    assert waves == {"simulator": 0, "worker": 1, "gpu-worker": 1, "btc-bot": 2}
    assert programs["gpu-worker"].env["REMAP_SIGTERM"] == "SIGQUIT"
