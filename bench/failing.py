"""Handshakes that fail, by the thousand: what they leave behind, and what the upstream and the log feel of them."""

import contextlib
import pathlib
import re
import time

import proxies
from aims import Aim, at_most, none_of, result
from certificates import Authority
from load import Load, statuses
from processes import Process, free_port
from relay import Relay
from tls_upstream import TlsUpstream, lines, server
from upstream import NAME

REQUESTS, CLIENTS, WARM = 10_000, 50, 1000
# How a failure that will certainly repeat is bounded, on one worker and endpoint: the memory of it
# begins with a fraction of a second and grows, so this is generous.
MOST_A_SECOND = 20
# A line at once for what is new, and then one now and then with the count of what it stands for.
MOST_LINES, LINES_A_SECOND = 5, 1
# What an allocator may keep of the peak.
MEMORY_SHARE = 1.10
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
        for reason in kinds:
            with Load(folder, 1, port, [f"/{reason}/"], CLIENTS, requests=WARM) as load:
                load.answers()
        base = settled(gateway, None)
        for reason, (_, accepted) in kinds.items():
            found = fail(gateway, folder, port, reason, base, accepted)
            say(f"{reason}: {found}")
            rows.append([reason, f"{found['handshakes']:,}", f"{found['counted']:,}", f"{found['rate']:,.0f}", f"{found['answers']:,}", f"{found['lines']:,}",
                         *(f"{before} / {peak} / {after}" for before, peak, after in
                           zip(base, found["peak"], found["after"], strict=True))])
            aims += judged(reason, found, base)
    head = [f"{REQUESTS:,} requests", "connections, by the upstream", "handshakes, by the metrics", "a second", "answers 503", "log lines", "descriptors before / most / after",
            "threads", "resident MB"]
    notes = (f"h2load with {CLIENTS} connections as fast as answers come, after {WARM:,} of each kind to fill what is kept for good. "
             "unknown_issuer will certainly repeat, so it is remembered and most requests are answered without a handshake; "
             "a reset and a peer without TLS may be over at the next try, so each request is one. Tasks cannot be seen from "
             "outside; each that lives on holds a socket or a timer, which descriptors and memory show.")
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
    known, before, logged, started, peak = counted(), accepted(), len(lines(gateway.log)), time.monotonic(), base
    with Load(folder, 1, port, [f"/{reason}/"], CLIENTS, requests=REQUESTS) as load:
        while load.runs():
            peak = tuple(max(pair) for pair in zip(peak, measured(gateway), strict=True))
            time.sleep(0.02)
        took, answers, handshakes = time.monotonic() - started, load.answers(), accepted() - before
    after = settled(gateway, base)
    written = lines(gateway.log)[logged:]
    return {"answers": statuses(answers).get(503, 0), "handshakes": handshakes, "counted": counted() - known, "seconds": took,
            "rate": handshakes / took, "lines": len(written), "peak": peak, "after": after,
            "counts": sum(1 for line in written if re.search(r"\d+ (more|times|others|further|failures)|count=\d", line))}


def judged(reason: str, found: dict, base) -> list[Aim]:
    allowed = MOST_LINES + round(LINES_A_SECOND * (found["seconds"] + SETTLE_SECONDS))
    aims = [
        Aim(f"{reason}: answers 503", f"{found['answers']:,}", f"all {REQUESTS:,}", found["answers"] == REQUESTS),
        Aim(f"{reason}: descriptors afterwards", f"{found['after'][0]} (before: {base[0]})", "as before", found["after"][0] <= base[0]),
        Aim(f"{reason}: threads afterwards", f"{found['after'][1]} (before: {base[1]})", "as before", found["after"][1] <= base[1]),
        at_most(f"{reason}: resident afterwards over before", found["after"][2] / base[2], MEMORY_SHARE),
        at_most(f"{reason}: log lines", found["lines"], allowed, "{:.0f}"),
    ]
    if found["lines"] > 1:
        aims.append(none_of(f"{reason}: log lines after the first without a count", found["lines"] - 1 - found["counts"]))
    if reason == "unknown_issuer":
        aims.append(at_most(f"{reason}: handshakes a second", found["rate"], MOST_A_SECOND, "{:,.1f}"))
    return aims
