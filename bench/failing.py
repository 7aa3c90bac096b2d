"""Handshakes that fail, by the thousand: what they leave behind, and what the upstream and the log feel of them."""

import contextlib
import pathlib
import re
import time

import proxies
from aims import Aim, at_most, result
from certificates import Authority
from load import Load, statuses
from processes import Process, free_port, get
from relay import Relay
from tls_upstream import TlsUpstream, lines, server
from upstream import NAME

REQUESTS, CLIENTS, WARM = 10_000, 50, 1000
# What will certainly fail again is asked for at this rate, so that handshakes a second are of several seconds.
STEADY, RATE = 20, 2000
# Of such a failure: the memory of it lasts a quarter of a second at first, and longer each time.
MOST_A_SECOND = 5
# Between two lines of the log about one upstream and reason.
SECONDS_A_LINE = 30
# What an allocator may keep of the peak.
MEMORY_SHARE = 1.10
# Those that are remembered.
REPEATS = ("unknown_issuer", "not_tls")
SETTLE_SECONDS = 10


def failing(_names, folder: pathlib.Path, _plan, say) -> dict:
    """One gateway; upstreams that fail in different ways are asked one after another."""
    ours, theirs = Authority(folder, "trusted"), Authority(folder, "other")
    tls, clear, status, port = free_port(), free_port(), free_port(), free_port()
    servers = server(f"127.0.0.1:{tls} ssl", theirs.issue(NAME, "serverAuth"))
    servers += f'server {{ listen 127.0.0.1:{clear} backlog=4096; location / {{ return 200 "hello\\n"; }} }}'
    rows, aims = [], []
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(TlsUpstream(folder, 1, status, servers))
        reset = stack.enter_context(Relay(None))
        nginx = upstream.accepted
        kinds = {"unknown_issuer": (tls, nginx), "reset_during_handshake": (reset.port, lambda: reset.accepted), "not_tls": (clear, nginx)}
        manifests = proxies.listener(port) + proxies.secret("trusted", ca_crt=ours.pair.certificate)
        manifests += proxies.tls_context("ca_secret: trusted", mode="chain")
        for reason, (target, _) in kinds.items():
            manifests += proxies.mapping(reason.replace("_", "-"), f"/{reason}/", target, host="127.0.0.1")
        gateway = stack.enter_context(proxies.start_nuncio("nuncio", folder, 0, manifests, tls))
        began = time.monotonic()
        for reason in kinds:
            with Load(folder, 1, port, [f"/{reason}/"], CLIENTS, requests=WARM) as load:
                load.answers()
        base = settled(gateway, None)
        for reason, (_, accepted) in kinds.items():
            found = fail(gateway, folder, port, reason, base, accepted)
            say(f"{reason}: {found}")
            rows.append([reason, f"{found['seconds']:.1f}", f"{found['handshakes']:,}", f"{found['counted']:,}",
                         f"{found['rate']:,.1f}", f"{found['answers']:,}",
                         *(f"{before} / {peak} / {after}" for before, peak, after in
                           zip(base, found["peak"], found["after"], strict=True))])
            aims += judged(reason, found, base)
        for row, reason in zip(rows, kinds, strict=True):
            many, told, handshakes, seconds = lines_about(gateway, port, reason, began)
            row.append(f"{many}, of {told:,} failures")
            aims.append(at_most(f"{reason}: lines in the program's log within {seconds:.0f} s", many,
                                1 + seconds // SECONDS_A_LINE, "{:.0f}"))
            aims.append(Aim(f"{reason}: failures that they tell of", f"{told:,}", f"all {handshakes:,}", told == handshakes))
    head = [f"{REQUESTS:,} requests", "seconds", "connections, by the upstream", "handshakes, by the metrics",
            "a second", "answers 503", "descriptors before / most / after",
            "threads", "resident MB", "lines in the program's log"]
    notes = (f"h2load, {WARM:,} requests of each kind to fill what is kept for good, then {REQUESTS:,}. unknown_issuer and not_tls will "
             "certainly repeat, so they are remembered and most requests are answered without a handshake: these come at "
             f"{RATE:,} a second. A reset may be over at the next try, so each request is a handshake: {CLIENTS} clients ask as fast as "
             "answers come. Tasks cannot be seen from outside; each that lives on holds a socket or a timer, which descriptors "
             "and memory show.")
    return result([(head, rows)], aims, notes)


def measured(gateway: Process) -> tuple[int, int, int]:
    return gateway.open_files(), gateway.threads(), round(gateway.memory_mb())


def settled(gateway: Process, base: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """What the gateway holds once it is at rest: when its descriptors are those of `base`, or stay the same."""
    last, until = measured(gateway), time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < until:
        time.sleep(0.5)
        now = measured(gateway)
        if now[0] == (base or last)[0]:
            return now
        last = now
    return last


def fail(gateway: Process, folder: pathlib.Path, port: int, reason: str, base, accepted) -> dict:
    """All the requests to one upstream, and what was seen while they ran."""
    def counted() -> int:
        return proxies.counted(gateway, "nuncio_upstream_handshakes_total", outcome=reason)
    known, before, started, peak = counted(), accepted(), time.monotonic(), base
    steady = {"seconds": REQUESTS // RATE, "rate": RATE} if reason in REPEATS else {"requests": REQUESTS}
    with Load(folder, 1, port, [f"/{reason}/"], STEADY if reason in REPEATS else CLIENTS, **steady) as load:
        while load.runs():
            peak = tuple(max(pair) for pair in zip(peak, measured(gateway), strict=True))
            time.sleep(0.02)
        took, answers, handshakes = time.monotonic() - started, load.answers(), accepted() - before
    after = settled(gateway, base)
    return {"asked": len(answers), "answers": statuses(answers).get(503, 0), "handshakes": handshakes,
            "counted": counted() - known, "seconds": took, "rate": handshakes / took, "peak": peak, "after": after}


def lines_about(gateway: Process, port: int, reason: str, began: float) -> tuple[int, int, int, float]:
    """How many lines of the log there are about a reason, how many failures they tell of, how many there were, and in
    how many seconds. It first waits for the line that tells of those left out so far."""
    def told() -> list[int]:
        about = [line for line in lines(gateway.log) if re.search(rf'reason="?{reason}\b', line)]
        return [int(count) for line in about for count in re.findall(r"left_out=(\d+)", line)]
    time.sleep(max(0.0, began + SECONDS_A_LINE + 2 - time.monotonic()))
    first, until = len(told()), time.monotonic() + SECONDS_A_LINE
    while len(told()) <= first and time.monotonic() < until:
        get(port, f"/{reason}/")
        time.sleep(0.2)
    counts = told()
    handshakes = proxies.counted(gateway, "nuncio_upstream_handshakes_total", outcome=reason)
    return len(counts), len(counts) + sum(counts), handshakes, time.monotonic() - began


def judged(reason: str, found: dict, base) -> list[Aim]:
    aims = [
        Aim(f"{reason}: answers 503", f"{found['answers']:,}", f"all {found['asked']:,}", found["answers"] == found["asked"]),
        Aim(f"{reason}: descriptors afterwards", f"{found['after'][0]} (before: {base[0]})", "as before", found["after"][0] <= base[0]),
        Aim(f"{reason}: threads afterwards", f"{found['after'][1]} (before: {base[1]})", "as before", found["after"][1] <= base[1]),
        at_most(f"{reason}: resident afterwards over before", found["after"][2] / base[2], MEMORY_SHARE),
    ]
    if reason in REPEATS:
        aims.append(at_most(f"{reason}: handshakes a second", found["rate"], MOST_A_SECOND, "{:,.1f}"))
    return aims
