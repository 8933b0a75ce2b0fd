"""`make debug S=nifty-bot`: the desk without one service, and that service under a debugger.

The service runs in this terminal under pdb, so that a `breakpoint()` in the code stops there; with
PORT=5678 it waits for an editor to attach (debugpy). Ctrl-C ends it and the desk.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
READY_SECONDS = 900.0
"""The first start on a machine makes a market of years."""


def main(name: str, port: str = "") -> int:
    """Run the desk and the service; return the service's exit code, 2 for an unknown name."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradingsite.settings")
    from tradingsite.supervision.services import PLUMBING, SERVICE_VARIABLE, SERVICES

    known = {service.name: service for service in SERVICES + PLUMBING}
    if name not in known:
        sys.stderr.write(f"no service {name!r}; they are: {', '.join(known)}\n")
        return 2
    folder = Path(os.environ.get("DATA_DIR", ROOT / "var"))
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "up.log"
    command = [sys.executable, "manage.py", "up", "--without", name]
    with log.open("w") as output:
        # A session of its own: Ctrl-C is for the debugger first.
        desk = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, process_group=0)
    sys.stdout.write(f"The desk starts without {name}; it writes to {log}.\n")
    try:
        if not _is_up(desk, log):
            sys.stderr.write(f"it did not come up: see {log}\n")
            return 1
        return subprocess.run(
            [*_debugger(port), *_arguments(known[name].command)],
            cwd=ROOT,
            env={**os.environ, SERVICE_VARIABLE: name},
            check=False,
        ).returncode
    except KeyboardInterrupt:
        return 130
    finally:
        desk.send_signal(signal.SIGINT)
        desk.wait()


def _debugger(port: str) -> list[str]:
    if not port:
        return [sys.executable, "-m", "pdb", "-c", "continue"]
    sys.stdout.write(f"Waiting for an editor on 127.0.0.1:{port} ...\n")
    return [sys.executable, "-m", "debugpy", "--listen", f"127.0.0.1:{port}", "--wait-for-client"]


def _arguments(command: tuple[str, ...]) -> list[str]:
    return list(command) if command[0] == "-m" else ["manage.py", *command]


def _is_up(desk: "subprocess.Popen[bytes]", log: Path) -> bool:
    """Wait until the desk says where its page is."""
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until and desk.poll() is None:
        if "http://" in log.read_text(errors="replace"):
            return True
        time.sleep(0.2)  # a file says nothing when it grows
    return False


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
