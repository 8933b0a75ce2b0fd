"""What `up` makes sure of before the desk starts."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from tradingsite.supervision import preparation
from tradingsite.supervision.preparation import CannotStart, UpLock
from tradingsite.supervision.services import WEB_ADDRESS


def test_a_second_up_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    lock = UpLock(tmp_path)
    assert lock.take() == {}
    lock.say(owns_servers=True, address="http://127.0.0.1:8003/")
    with pytest.raises(CannotStart, match=rf"process {os.getpid()} at http://127.0.0.1:8003/"):
        UpLock(tmp_path).take()
    lock.release()
    assert UpLock(tmp_path).take() == {}


def test_what_a_killed_up_left_is_handed_on(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; sys.path.insert(0, '.')\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'\n"
        "import django; django.setup()\n"
        "from tradingsite.supervision.preparation import UpLock\n"
        f"lock = UpLock(Path({str(tmp_path)!r})); lock.take(); lock.say(owns_servers=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -9
    assert UpLock(tmp_path).take()["owns_servers"] is True


def test_a_half_written_lock_file_is_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "up.lock").write_text('{"pid": 1')
    assert UpLock(tmp_path).take() == {}


def test_a_port_in_use_gives_the_next_free_one() -> None:
    with socket.socket() as taken:
        taken.bind((WEB_ADDRESS, 0))
        taken.listen()
        wanted = taken.getsockname()[1]
        assert (
            wanted < preparation.free_port(WEB_ADDRESS, wanted) <= wanted + preparation.PORTS_TRIED
        )


def test_no_free_port_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "PORTS_TRIED", 0)
    with socket.socket() as taken:
        taken.bind((WEB_ADDRESS, 0))
        taken.listen()
        with pytest.raises(CannotStart, match="set WEB_PORT"):
            preparation.free_port(WEB_ADDRESS, taken.getsockname()[1])


def test_pages_are_collected_when_a_source_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    root = tmp_path / "static"

    def collect(name: str, **options: object) -> None:
        calls.append(name)
        root.mkdir(exist_ok=True)
        (root / "staticfiles.json").write_text("{}")

    monkeypatch.setattr(settings, "STATIC_ROOT", root)
    monkeypatch.setattr(preparation, "call_command", collect)
    assert preparation.collect_static()
    assert not preparation.collect_static()
    # A file from an npm package may be years older than what was collected.
    source = tmp_path / "more"
    source.mkdir()
    (source / "chart.js").write_text("new")
    os.utime(source / "chart.js", (1, 1))
    monkeypatch.setattr(settings, "STATICFILES_DIRS", [str(source)])
    preparation.get_finders.__globals__["get_finder"].cache_clear()
    try:
        assert preparation.collect_static()
    finally:
        preparation.get_finders.__globals__["get_finder"].cache_clear()
    assert calls == ["collectstatic", "collectstatic"]


def test_only_the_simulated_desk_of_embedded_servers_can_be_forgotten() -> None:
    assert not settings.EMBEDDED  # the tests' servers are given by their address
    with pytest.raises(CannotStart, match="only for MODE=simulated on the embedded servers"):
        preparation.forget_everything()
