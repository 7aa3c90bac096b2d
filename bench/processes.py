"""Starts programs, waits until they answer, and ends them by pid whatever happens."""

import contextlib
import http.client
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

READY_SECONDS = 60


class BenchError(Exception):
    """Something that makes the figures worthless; the message says what."""


# Where Debian keeps servers, and where tests/peers/install puts what it installs.
MORE_FOLDERS = f"/usr/sbin:/usr/local/sbin:{pathlib.Path(__file__).resolve().parent.parent}/target/peers/bin"


def program(name: str) -> str:
    """The path of an installed program."""
    found = shutil.which(name) or shutil.which(name, path=MORE_FOLDERS)
    if not found:
        raise BenchError(f"{name} is not installed; tests/peers/install installs all but wrk, which is a package of Debian's")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A running program, pinned to one core or to several (`0-1`), with its output in a file of the working folder."""

    def __init__(self, name: str, core: int | str, command: list[str], folder: pathlib.Path):
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                [program("taskset"), "-c", str(core), *command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=folder,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(timeout=5)
        for pid in [*self.children(), self.child.pid]:
            with contextlib.suppress(ProcessLookupError):
                if self.child.poll() is None or pid != self.child.pid:
                    os.kill(pid, signal.SIGKILL)
        self.child.wait(timeout=5)

    def children(self) -> list[int]:
        """Direct children: the workers of a program with a master."""
        try:
            tasks = list(pathlib.Path(f"/proc/{self.child.pid}/task").iterdir())
            return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            return []

    def pids(self) -> list[int]:
        return [self.child.pid, *self.children()]

    def alive(self):
        if self.child.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise BenchError(f"{self.name} ended with status {self.child.returncode}:\n{tail}")

    def open_files(self) -> int:
        """File descriptors that are open."""
        return sum(len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir())) for pid in self.pids())

    def threads(self) -> int:
        return sum(len(list(pathlib.Path(f"/proc/{pid}/task").iterdir())) for pid in self.pids())

    def cpu_ns(self) -> int:
        """CPU time of every live thread so far, from the scheduler's nanosecond counters."""
        total = 0
        for pid in self.pids():
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    total += int((task / "schedstat").read_text().split()[0])
        return total

    def cpu_seconds_since_start(self) -> float:
        """CPU time including threads that have ended; to the clock tick, a hundredth of a second."""
        ticks = 0
        for pid in self.pids():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_mb(self, which: str = "VmRSS") -> float:
        """Resident memory of all its processes: now (`VmRSS`) or at its highest (`VmHWM`)."""
        total = 0
        for pid in self.pids():
            for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(which + ":"):
                    total += int(line.split()[1])
        return total / 1024


def get(port: int, path: str, host: str = "bench.test") -> tuple[int, str]:
    """One request on a connection of its own: status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


def wait_for(process: Process, port: int, path: str, pause: float = 0.005) -> float:
    """Waits until `path` answers 200 and says how many seconds that took."""
    started = time.monotonic()
    last = "no connection"
    while time.monotonic() - started < READY_SECONDS:
        process.alive()
        try:
            # An admin interface answers to names of its own only.
            is_admin = path.startswith("/ambassador/")
            status, body = get(port, path, "localhost") if is_admin else get(port, path)
            if status == 200:
                return time.monotonic() - started
            last = f"{status} {body[:200]}"
        except (OSError, http.client.HTTPException) as error:
            last = repr(error)
        time.sleep(pause)
    log = process.log.read_text(errors="replace")[-2000:]
    raise BenchError(f"{process.name} did not answer {path} within {READY_SECONDS} s: {last}\n{log}")
