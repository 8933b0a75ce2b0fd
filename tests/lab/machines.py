"""Build the two machines, cut the link between them, and take both down again.

Each machine is a network namespace with the desk's own embedded PostgreSQL; PROD has the control
database and Valkey, PC an sshd that takes PROD's key. Processes are the real ones: Celery workers,
rsync, ssh. Needs root, ip, sshd, ssh, ssh-keygen and rsync.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tradingsite.supervision.services import PLUMBING, SERVICE_VARIABLE

CHECKOUT = Path(__file__).resolve().parents[2]
PROD_ADDRESS, PC_ADDRESS = "10.231.77.1", "10.231.77.2"
POSTGRES, VALKEY, SSH = 5432, 6379, 2222
TOOLS = ("ip", "sshd", "ssh", "ssh-keygen", "rsync", "nsenter")
RRSYNC = "/usr/bin/rrsync"

_SETUP = "import django, json, sys; django.setup()\n"


@dataclass
class Machine:
    """One of the two: where it runs, what it is told, and what was started on it."""

    name: str
    namespace: str
    folder: Path
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def command(self, *words: str) -> list[str]:
        """Return a command as it runs on this machine."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def told(self) -> dict[str, str]:
        """Return the environment of what runs here."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {**kept, "PYTHONPATH": str(CHECKOUT), **self.environment}

    def manage(self, *words: str) -> str:
        """Run a command of the desk's here and return what it said."""
        return self._run(sys.executable, "-W", "ignore", "manage.py", *words)

    def python(self, script: str, *arguments: str) -> Any:
        """Run a script on this machine's Django and return the JSON that it prints."""
        said = self._run(sys.executable, "-W", "ignore", "-c", _SETUP + script, *arguments)
        return json.loads(said.strip().splitlines()[-1])

    def start(self, name: str, *words: str) -> None:
        """Start a process that stays; its words go into a log of its name."""
        log = (self.folder / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(
            self.command(*words),
            cwd=CHECKOUT,
            env=self.told(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def start_worker(self, queues: str) -> None:
        """Start a Celery worker, as the desk's services table does."""
        (service,) = (each for each in PLUMBING if queues in each.command)
        self.environment[SERVICE_VARIABLE] = service.name
        self.start(queues, sys.executable, "-W", "ignore", *service.command)
        del self.environment[SERVICE_VARIABLE]

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """End a process and all it started."""
        process = self.processes.pop(name)
        os.killpg(process.pid, how)
        process.wait()

    def log(self, name: str) -> str:
        """Return what a process has said."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def _run(self, *words: str) -> str:
        answer = subprocess.run(
            self.command(*words),
            cwd=CHECKOUT,
            env=self.told(),
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode:
            raise RuntimeError(f"on {self.name}: {answer.stderr[-1_500:]}")
        return answer.stdout


@dataclass
class Lab:
    """The two machines and the link between them."""

    prod: Machine
    pc: Machine

    def cut(self) -> None:
        """Take the link down."""
        _ip("netns", "exec", self.prod.namespace, "ip", "link", "set", "nd-prod", "down")

    def mend(self) -> None:
        """Bring the link back."""
        _ip("netns", "exec", self.prod.namespace, "ip", "link", "set", "nd-prod", "up")

    @contextmanager
    def full_disk(self, machine: Machine, process: str, place: Path) -> Iterator[None]:
        """Have a folder, as a process sees it, on a disk that is too small."""
        place.mkdir(parents=True, exist_ok=True)
        # What runs in a network namespace has mounts of its own.
        inside = ("nsenter", "-t", str(machine.processes[process].pid), "-m")
        small = ("mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place))
        subprocess.run([*inside, *small], check=True)
        try:
            yield
        finally:
            subprocess.run([*inside, "umount", "-l", str(place)], check=True)


def missing_tools() -> list[str]:
    """Return what this machine lacks for a laboratory."""
    lacks = [tool for tool in TOOLS if shutil.which(tool, path=_path()) is None]
    if os.geteuid() != 0:
        lacks.append("root")
    return lacks


def may_make_networks() -> bool:
    """Return whether this machine lets us make networks and mounts, as some containers do not."""
    name = f"nd-probe-{secrets.token_hex(3)}"
    inside = f"ip netns exec {name} sh -c"
    probe = (
        f"ip netns add {name} && ip -n {name} link add nd-a type veth peer name nd-b && "
        f"{inside} 'mount -t tmpfs tmpfs /tmp && umount /tmp'"
    )
    made = subprocess.run(["sh", "-c", probe], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    return made.returncode == 0


@contextmanager
def laboratory(folder: Path) -> Iterator[Lab]:
    """Build both machines in a folder, with their workers running, and remove them afterwards."""
    tag = secrets.token_hex(3)
    names = f"nd-prod-{tag}", f"nd-pc-{tag}"
    folder.chmod(0o755)
    machines = []
    try:
        _build_network(*names)
        for name, namespace in zip(("prod", "pc"), names, strict=True):
            place = folder / name
            place.mkdir()
            place.chmod(0o755)
            common = {
                "DJANGO_SETTINGS_MODULE": "tradingsite.settings",
                "MODE": "paper",
                "MACHINE": name,
                "DATA_DIR": str(place / "var"),
                "MODEL_POLICY": "newest",
                "LOG_LEVEL": "WARNING",
                "SECRET_KEY": "of the laboratory",
            }
            machines.append(Machine(name, namespace, place, common))
        lab = Lab(*machines)
        _start_prod(lab.prod)
        _start_pc(lab)
        lab.prod.start_worker("prod,collect")
        lab.prod.start("monitor", sys.executable, "-W", "ignore", "manage.py", "runmonitor")
        for queue in ("gpu", "pc"):
            lab.pc.start_worker(queue)
        yield lab
    finally:
        for machine in machines:
            for name in list(machine.processes):
                machine.kill(name)
            subprocess.run(
                machine.command(sys.executable, "manage.py", "embedded", "stop"),
                cwd=CHECKOUT,
                env=machine.told(),
                capture_output=True,
                check=False,
            )
        for namespace in names:
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)


def wait(until: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for something to come true; raise AssertionError saying what did not."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.3)


def _build_network(prod: str, pc: str) -> None:
    for namespace in (prod, pc):
        _ip("netns", "add", namespace)
        _ip("-n", namespace, "link", "set", "lo", "up")
    _ip("link", "add", "nd-prod", "netns", prod, "type", "veth", "peer", "nd-pc", "netns", pc)
    for namespace, device, address in (
        (prod, "nd-prod", PROD_ADDRESS),
        (pc, "nd-pc", PC_ADDRESS),
    ):
        _ip("-n", namespace, "address", "add", f"{address}/30", "dev", device)
        _ip("-n", namespace, "link", "set", device, "up")


def _start_prod(prod: Machine) -> None:
    """Start PROD's servers, migrate, and let the tunnel's end reach them."""
    prod.manage("embedded", "start")
    prod.manage("migratedbs")
    for name, port in (("postgres", POSTGRES), ("valkey", VALKEY)):
        target = _addresses(prod)["ports"][name]
        relay = str(CHECKOUT / "tests" / "lab" / "relay.py")
        prod.start(name, sys.executable, relay, PROD_ADDRESS, str(port), str(target))
    prod.environment |= {
        "PC_SSH": f"root@{PC_ADDRESS}:{SSH}",
        "PC_SSH_KEY": str(prod.folder / "pc_ssh_key"),
        "PC_SSH_READ_KEY": str(prod.folder / "pc_ssh_read_key"),
        "PC_KNOWN_HOSTS": str(prod.folder / "pc_known_hosts"),
    }


def _start_pc(lab: Lab) -> None:
    """Start PC's server and sshd, and let both machines know each other."""
    prod, pc = lab.prod, lab.pc
    password, of_queue = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
    said = {"PC_ROLE_PASSWORD": password, "PC_QUEUE_PASSWORD": of_queue}
    prod.environment |= said
    prod.manage("pcrole", "--apply")
    for name in said:
        del prod.environment[name]
    pc.environment |= {
        "CONTROL_DATABASE_URL": f"postgresql://nightdesk_pc:{password}@{PROD_ADDRESS}:{POSTGRES}",
        "REDIS_URL": f"redis://nightdesk_pc:{of_queue}@{PROD_ADDRESS}:{VALKEY}/0",
    }
    pc.manage("embedded", "start")
    pc.manage("migratedbs")
    pc.manage("signingkey")
    keys = prod.folder / "var" / "prod" / "keys"
    shutil.copytree(pc.folder / "var" / "pc" / "keys" / "public", keys, dirs_exist_ok=True)
    _start_sshd(prod, pc)


def _start_sshd(prod: Machine, pc: Machine) -> None:
    place = pc.folder / "ssh"
    place.mkdir()
    host_key = place / "host_key"
    keys = {"PC_SSH_KEY": "-munge {}/link", "PC_SSH_READ_KEY": "-ro {}/archive"}
    for path in (host_key, *(Path(prod.environment[name]) for name in keys)):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    for name in ("link", "archive"):  # rrsync wants its folder to be there
        (pc.folder / "var" / "pc" / name).mkdir(parents=True, exist_ok=True)
    with (place / "authorized_keys").open("w") as file:
        for name, words in keys.items():
            public = Path(prod.environment[name] + ".pub").read_text()
            command = f"{RRSYNC} {words.format(pc.folder / 'var' / 'pc')}"
            file.write(f'command="{command}",restrict {public}')
    pinned = host_key.with_suffix(".pub").read_text()
    Path(prod.environment["PC_KNOWN_HOSTS"]).write_text(f"[{PC_ADDRESS}]:{SSH} {pinned}")
    (place / "sshd_config").write_text(
        f"Port {SSH}\nListenAddress {PC_ADDRESS}\nHostKey {host_key}\n"
        f"AuthorizedKeysFile {place / 'authorized_keys'}\nPidFile {place / 'pid'}\n"
        "PermitRootLogin prohibit-password\nPasswordAuthentication no\nUsePAM no\nStrictModes no\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    sshd = shutil.which("sshd", path=_path())
    assert sshd is not None
    pc.start("sshd", sshd, "-D", "-e", "-f", str(place / "sshd_config"))


def _addresses(machine: Machine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (machine.folder / "var" / "embedded" / "addresses.json").read_text()
    )
    return found


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
