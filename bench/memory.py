"""Resident memory per TLS connection to the upstream that waits for its next request, beside Envoy's."""

import contextlib
import pathlib
import time

import proxies
from aims import at_most, result
from certificates import Authority
from load import Load, only
from processes import BenchError, Process, free_port, wait_for

SIZES = (500, 1000)
# The answer comes after so long, so that all connections are busy at once.
DELAY_SECONDS = 3
TIMEOUT_SECONDS = 30
WARM = 50
# Requests at a time on one connection of the client.
STREAMS = 100


def memory(names, folder: pathlib.Path, plan, say) -> dict:
    """Opens so many connections upstream with slow answers, lets the clients go, and looks at what stays."""
    chosen = [name for name in ("nuncio", "envoy") if name in names]
    pair = Authority(folder, "memory").issue("memory", "serverAuth")
    port = free_port()
    rows: dict[tuple[str, int], list[dict]] = {(name, size): [] for size in SIZES for name in chosen}
    command = [str(proxies.nuncio_binary()), "echo", "--listen", f"127.0.0.1:{port}", "--tls-cert", str(pair.certificate_file),
               "--tls-key", str(pair.key_file), "--min-tls", "v1.3"]
    with Process("echo", 1, command, folder) as upstream:
        for turn in range(plan.memory_turns):
            for size in SIZES:
                for name in plan.order(chosen, turn):
                    home = folder / f"{name}-{size}-{turn}"
                    home.mkdir()
                    found = one(name, home, port, upstream, size)
                    rows[name, size].append(found)
                    say(f"{name} {size}: {found['idle']:.1f} KB idle, {found['busy']:.1f} KB busy, per connection")
    return report(rows, chosen)


def one(name: str, home: pathlib.Path, upstream_port: int, upstream: Process, size: int) -> dict:
    """A gateway just started: its memory at rest, with `size` requests in flight, and with as many idle connections."""
    process, port = proxies.start(name, home, 0, upstream_port, timeout=TIMEOUT_SECONDS)
    with process:
        wait_for(process, port, "/")
        with Load(home, 1, port, ["/"], WARM, requests=WARM) as load:
            only(200, load.answers(), WARM, name)
        rest, waiting = process.memory_mb(), established(upstream_port)
        # A few HTTP/2 connections from the client, so that theirs hardly count.
        with Load(home, 1, port, [f"/delay/{DELAY_SECONDS * 1000}"], size // STREAMS, requests=size, http2=True, streams=STREAMS) as load:
            until, busy = time.monotonic() + 2 * DELAY_SECONDS, rest
            while load.runs() and time.monotonic() < until:
                busy = max(busy, process.memory_mb())
                time.sleep(0.1)
            only(200, load.answers(), size, name)
        # The clients' connections close.
        time.sleep(2)
        idle, kept = process.memory_mb(), established(upstream_port)
        upstream.alive()
    if kept < size:
        raise BenchError(f"{name} keeps {kept} of {size} connections to the upstream")
    more = kept - waiting
    return {"idle": (idle - rest) * 1024 / more, "busy": (busy - rest) * 1024 / more, "kept": kept, "rest_mb": rest, "idle_mb": idle}


def established(port: int) -> int:
    """Connections to `port` on loopback that are open, by the kernel's table."""
    table = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(1 for line in table if line.split()[2].endswith(f":{port:04X}") and line.split()[3] == "01")


def report(rows: dict, chosen: list[str]) -> dict:
    def median(name: str, size: int, key: str) -> float:
        values = sorted(row[key] for row in rows[name, size])
        return values[len(values) // 2]
    keys = ("rest_mb", "idle_mb", "idle", "busy")
    body = [[f"{name}, {size} connections", *(f"{median(name, size, key):.1f}" for key in keys)] for name, size in rows]
    small, large = SIZES
    aims, slope = [], {}
    for name in chosen:
        more = median(name, large, "kept") - median(name, small, "kept")
        slope[name] = (median(name, large, "idle_mb") - median(name, small, "idle_mb")) * 1024 / more
    def over(size: int) -> float:
        return median("nuncio", size, "idle") / median("envoy", size, "idle")
    if len(chosen) == 2:
        aims = [at_most(f"{size} idle connections: nuncio over Envoy, KB each", over(size), 1.0)
                for size in SIZES]
        aims.append(at_most(f"from {small} to {large}: nuncio over Envoy, KB for each one more", slope["nuncio"] / slope["envoy"], 1.0))
    notes = (f"A gateway just started for each row, {WARM} requests to warm up; then as many requests at once ask for an answer that takes "
             f"{DELAY_SECONDS} s, {STREAMS} on each HTTP/2 connection of the client, which then closes. What stays resident "
             "2 s later over what was before is divided by the connections "
             "that the kernel says are open to the upstream. "
             f"Between {small} and {large}: " + ", ".join(f"{name} {kb:.1f} KB" for name, kb in slope.items()) + " for each one more.")
    head = ["", "MB at rest", "MB with all idle", "KB each, idle", "KB each, busy"]
    return result([(head, body)], aims, notes)
