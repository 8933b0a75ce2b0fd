"""What the desk writes is not for other users of the machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from tradingsite import private


def mode(path: Path) -> int:
    """Return a path's permissions."""
    return path.stat().st_mode & 0o777


def test_what_was_open_is_closed_and_what_was_stricter_stays(tmp_path: Path) -> None:
    root = tmp_path / "var"
    for name, was in {"logs": 0o755, "prod": 0o777, "secrets": 0o700, "embedded": 0o755}.items():
        (root / name).mkdir(parents=True)
        (root / name).chmod(was)
    for name, was in {"clock.json": 0o644, "secret_key": 0o600}.items():
        (root / name).touch()
        (root / name).chmod(was)
    root.chmod(0o755)
    private.shut(root)
    assert {path.name: mode(path) for path in root.iterdir()} == {
        "logs": 0o750,
        "prod": 0o750,
        "secrets": 0o700,
        "embedded": 0o755,
        "clock.json": 0o640,
        "secret_key": 0o600,
    }
    assert mode(root) == (0o751 if os.geteuid() == 0 else 0o750)
    private.shut(root / "nothing")


def test_a_command_writes_nothing_that_others_may_read(tmp_path: Path) -> None:
    script = (
        "import os, sys, runpy\n"
        "sys.argv = ['manage.py', 'version']\n"
        "try:\n    runpy.run_path('manage.py', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "os.mkdir(os.environ['PLACE'] + '/folder')\n"
        "open(os.environ['PLACE'] + '/file', 'w').close()\n"
    )
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=settings.BASE_DIR,
        env={**os.environ, "PLACE": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        umask=0o022,
        check=True,
    )
    assert (mode(tmp_path / "folder"), mode(tmp_path / "file")) == (0o750, 0o640)


@pytest.mark.parametrize("before", [0o022, 0o077])
def test_a_stricter_mask_stays(before: int) -> None:
    was = os.umask(before)
    try:
        private.mask()
        assert os.umask(before) == before | private.UMASK
    finally:
        os.umask(was)
