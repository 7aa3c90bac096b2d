"""One measurement: load a proxy for some seconds and read what it cost from the kernel's accounting."""

import json
import pathlib
import subprocess
import time

from processes import BenchError, Process, program

HERE = pathlib.Path(__file__).resolve().parent


def load(core: int, port: int, path: str, connections: int, seconds: int) -> dict:
    """Runs wrk with one thread on `core`; its figures. Any failed request is an error."""
    answer = subprocess.run(
        [program("taskset"), "-c", str(core), program("wrk"), "-t", "1", "-c", str(connections),
         "-d", f"{seconds}s", "-H", "Host: bench.test", "-s", str(HERE / "load.lua"),
         f"http://127.0.0.1:{port}{path}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + 30,
    )
    lines = [line for line in answer.stdout.splitlines() if line.startswith("{")]
    if answer.returncode != 0 or not lines:
        raise BenchError(f"wrk failed: {answer.stdout}{answer.stderr}")
    return json.loads(lines[-1])


def measure(process: Process, core: int, port: int, path: str, connections: int, seconds: int) -> dict:
    """Loads the proxy and returns one row of figures."""
    process.alive()
    cpu, started = process.cpu_ns(), time.monotonic()
    figures = load(core, port, path, connections, seconds)
    cpu, wall = process.cpu_ns() - cpu, time.monotonic() - started
    requests, errors = figures["requests"], sum(figures["errors"].values())
    if requests == 0:
        raise BenchError(f"{process.name} answered nothing: {figures}")
    return {
        "requests": requests,
        "errors": errors,
        "rps": requests / (figures["duration_us"] / 1e6),
        "cpu_us": cpu / 1000 / requests,
        "busy": cpu / 1e9 / wall,
        "p50_ms": figures["p50_us"] / 1000,
        "p99_ms": figures["p99_us"] / 1000,
        "rss_mb": process.memory_mb(),
    }
