"""A systemd of its own: PID 1 of a set of namespaces, with the units of a test and nothing of the machine's."""

import os
import pty
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT
from tests.e2e.processes import until

SYSTEMD = Path("/lib/systemd/systemd")
#: That of these tests may be in somebody's home, where no other user can read it.
SYSTEM_PYTHON = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
UNITS = "/etc/systemd/system:/run/units"
CGROUPS = next(
    (path for path in map(Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")) if (path / "cgroup.procs").exists()), None
)

# Whatever systemd and the installation write to lives in memory, but what is given as $1, at /opt/kldrift.
# Propagation is shared again within, as systemd hands credentials over by mounts of a child.
_BOOT = """\
set -e
mount --make-rprivate /
umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind "$(tty)" /dev/console
mount -t tmpfs -o mode=755 tmpfs /mnt
for at in etc opt; do
    mkdir -p /mnt/$at/upper /mnt/$at/work
    mount -t overlay -o lowerdir=/$at,upperdir=/mnt/$at/upper,workdir=/mnt/$at/work overlay /$at
done
for at in /run /var/lib /var/cache /var/tmp /etc/systemd/system; do mount -t tmpfs -o mode=755 tmpfs $at; done
mkdir -p /run/lock /run/units /opt/kldrift
mount --bind "$1" /opt/kldrift
for target in sysinit basic multi-user shutdown network-online; do
    printf '[Unit]\\nDefaultDependencies=no\\n' > /run/units/$target.target
done
mount --make-rshared /
exec "$0" --system --unit=multi-user.target --log-target=console --show-status=0
"""
_ENTER = 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"'


def missing() -> str | None:
    """Why there can be none here."""
    if os.geteuid() != 0:
        return "root"
    if not SYSTEMD.exists() or CGROUPS is None:
        return "systemd with cgroup v2"
    absent = [name for name in ("unshare", "nsenter", "systemctl") if shutil.which(name) is None]
    return ", ".join(absent) or None


def packages() -> Path:
    """Where the packages of these tests are."""
    return Path(next(path for path in sys.path if path.endswith("site-packages")))


def installation(folder: Path) -> Path:
    """Makes bin/kldrift for any user: the command with the packages of these tests."""
    command = folder / "bin" / "kldrift"
    command.parent.mkdir(parents=True)
    command.write_text(
        f"#!{SYSTEM_PYTHON} -s\nimport site, sys\n"
        f"site.addsitedir({str(packages())!r})\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from kldrift.cli import main\nmain()\n"
    )
    command.chmod(0o755)
    for parent in (folder, *folder.parents):
        if Path(tempfile.gettempdir()) in parent.parents:  # pytest's are for one user
            parent.chmod(0o755)
    return folder


class Machine:
    """Runs commands beside the systemd whose process id, outside, is `pid`."""

    def __init__(self, pid: int, console: bytearray) -> None:
        self._pid = pid
        self._console = console

    @property
    def console(self) -> str:
        return bytes(self._console).decode(errors="replace")

    def run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(
            ["nsenter", "-t", str(self._pid), "-m", "-p", "-i", "-u", "-n", "-C", *command],
            env={"PATH": os.environ["PATH"], "SYSTEMD_UNIT_PATH": UNITS},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{self.console}"
        return done.stdout

    def show(self, unit: str, key: str) -> str:
        return self.run("systemctl", "show", "--value", "-p", key, unit).strip()


@contextmanager
def booted(installation: Path) -> Iterator[Machine]:
    """A systemd with `installation` at /opt/kldrift; it and all that it started end with it."""
    assert CGROUPS is not None
    group = CGROUPS / f"kldrift-test-{os.getpid()}"
    group.mkdir()
    ours, theirs = pty.openpty()
    namespaces = ["unshare", "-m", "-p", "-C", "-i", "-u", "-n", "--fork", "--mount-proc", "--kill-child"]
    running = subprocess.Popen(
        ["bash", "-c", _ENTER, "enter", str(group), *namespaces, "bash", "-c", _BOOT, str(SYSTEMD), str(installation)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"PATH": os.environ["PATH"], "container": "unshare", "SYSTEMD_UNIT_PATH": UNITS},
        start_new_session=True,
    )
    os.close(theirs)
    console = bytearray()
    reading = threading.Thread(target=_read, args=(ours, console), daemon=True)
    reading.start()
    try:
        machine = Machine(until(lambda: _child(running.pid), 10, "a first process"), console)
        until(lambda: "Startup finished" in machine.console, 30, "the start of systemd")
        machine.run("ip", "link", "set", "lo", "up")
        yield machine
    finally:
        running.kill()  # --kill-child: the first process goes with it, and with that all of its namespace
        running.wait()
        reading.join(10)
        os.close(ours)
        until(lambda: _removed(group), 10, "the end of every process")


def _child(parent: int) -> int | None:
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False).stdout.split()
    return int(found[0]) if found else None


def _read(descriptor: int, console: bytearray) -> None:
    try:
        while block := os.read(descriptor, 4096):
            console += block
    except OSError:  # the other side is closed
        pass


def _removed(group: Path) -> bool:
    try:
        for path, _, _ in os.walk(group, topdown=False):
            Path(path).rmdir()
    except OSError:
        return False
    return True
