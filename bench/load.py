"""Loads that wrk cannot make: a fixed rate, a fixed number, many at once. h2load makes them."""

import contextlib
import pathlib
import subprocess
import time

from processes import BenchError, program


class Load:
    """A running load by h2load, which writes a line for each answer. `clients` connections, each with one request
    at a time, or `streams` where `http2`. With a `rate` each client is a program of its own: the clocks of the
    clients of one h2load tick together, which would make bursts of what is to be a steady rate. They start a tick
    and a bit after each other, so that their ticks are spread evenly."""

    def __init__(self, folder: pathlib.Path, core: int, port: int, paths: list[str], clients: int, *,
                 requests: int = 0, seconds: int = 0, rate: int = 0, http2: bool = False, streams: int = 1):
        uris = folder / "h2load.uris"
        uris.write_text("".join(f"http://127.0.0.1:{port}{path}\n" for path in paths))
        programs = clients if rate else 1
        command = [program("taskset"), "-c", str(core), program("h2load"), "-t", "1", "-c", str(clients // programs), "-i", str(uris)]
        command += ["-m", str(streams)] if http2 else ["--h1"]
        command += ["-D", str(seconds)] if seconds else ["-n", str(requests)]
        command += ["--rps", f"{rate / clients:g}"] if rate else []
        self.limit = seconds + 120
        self.logs = [folder / f"h2load-{number}.log" for number in range(programs)]
        self.children = []
        tick = clients / rate if rate else 0
        for number, log in enumerate(self.logs):
            log.unlink(missing_ok=True)
            if number:
                time.sleep(tick * (1 + 1 / clients))
            self.children.append(subprocess.Popen(
                [*command, "--log-file", str(log)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            if child.poll() is None:
                child.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=5)
            child.stdout.close()

    def runs(self) -> bool:
        return any(child.poll() is None for child in self.children)

    def answers(self) -> list[tuple[float, int, float]]:
        """Waits for the end: of each request its start (seconds since 1970), status (-1: none) and seconds."""
        for child in self.children:
            output, _ = child.communicate(timeout=self.limit)
            if child.returncode != 0:
                raise BenchError(f"h2load failed: {output[-2000:]}")
        rows = []
        for log in self.logs:
            for line in log.read_text().splitlines():
                start, status, took = line.split("\t")[:3]
                rows.append((int(start) / 1e6, int(status), int(took) / 1e6))
        return rows


def statuses(answers: list[tuple[float, int, float]]) -> dict[int, int]:
    """How many answers there are of each status."""
    counts: dict[int, int] = {}
    for _, status, _ in answers:
        counts[status] = counts.get(status, 0) + 1
    return counts


def only(status: int, answers: list, requests: int, what: str):
    """Fails unless all requests were answered with `status`."""
    found = statuses(answers)
    if found != {status: requests}:
        raise BenchError(f"{what}: {requests} answers {status} were expected, found {found}")


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
