"""The client certificate changes every second while requests go on at a fixed rate."""

import contextlib
import os
import pathlib
import time

import proxies
from aims import Aim, at_least, at_most, none_of, result
from certificates import Authority, Pair
from load import Load, percentile
from processes import free_port
from tls_upstream import TlsUpstream, lines, server
from upstream import NAME

RATE, CLIENTS = 2000, 20
# Seconds without rotation and with it, by turns, and how many turns.
SHORT, FULL = (8, 12, 3), (15, 100, 6)
# Certificates of one second are seen this much later at most.
SETTLE = 2


class Rotation:
    """The gateway's folder of manifests, whose client certificate is replaced."""

    def __init__(self, folder: pathlib.Path, gateway: pathlib.Path, pairs: list[Pair]):
        self.new, self.file = folder / "client.new", gateway / "manifests/client.yaml"
        self.pairs = iter(pairs)
        self.shown: list[str] = []

    def next(self) -> str:
        pair = next(self.pairs)
        self.shown.append(pair.sha1())
        return proxies.secret("client", tls_crt=pair.certificate, tls_key=pair.key)

    def turn(self):
        """Puts the next certificate in its place in one step, as a mounted Secret changes."""
        self.new.write_text(self.next())
        os.replace(self.new, self.file)

    def every_second(self, until: float):
        due = time.time() + 1
        while due < until:
            time.sleep(max(0.0, due - time.time()))
            self.turn()
            due += 1


def rotation(_names, folder: pathlib.Path, plan, say) -> dict:
    """Phases with and without rotation by turns, under one load that never stops."""
    still, rotating, turns = FULL if plan.full else SHORT
    authority = Authority(folder, "clients")
    say(f"making {turns * rotating + 1} client certificates")
    pairs = [authority.issue(f"client-{number}", "clientAuth") for number in range(turns * rotating + 1)]
    port, target, status, seen = free_port(), free_port(), free_port(), folder / "seen.log"
    more = (f"ssl_client_certificate {authority.pair.certificate_file}; ssl_verify_client on;"
            f" access_log {seen} client if=$first;")
    servers = server(f"127.0.0.1:{target} ssl", authority.issue(NAME, "serverAuth"), more)
    home = folder / "nuncio"
    home.mkdir()
    change = Rotation(folder, home, pairs)
    manifests = proxies.listener(port) + proxies.tls_context("secret: client") + proxies.mapping("bench", "/", target)
    with contextlib.ExitStack() as stack:
        stack.enter_context(TlsUpstream(folder, 1, status, servers))
        gateway = proxies.start_nuncio("nuncio", home, 0, manifests, target, more={"client.yaml": change.next()})
        stack.enter_context(gateway)
        before = gateway.memory_mb()
        load = stack.enter_context(Load(
            folder, 1, port, ["/"], CLIENTS, seconds=turns * (still + rotating) + SETTLE, rate=RATE))
        spans = phases(change, still, rotating, turns, say)
        answers = load.answers()
        after = gateway.memory_mb()
        revision = proxies.counted(gateway, "nuncio_config_revision")
    return report(answers, spans, change.shown, lines(seen), (before, after, revision), still + rotating)


def phases(change: Rotation, still: int, rotating: int, turns: int, say) -> list[tuple[str, float, float]]:
    """Lets the phases pass; of each its kind, start and end."""
    time.sleep(1)
    spans = []
    for turn in range(turns):
        start = time.time()
        time.sleep(still - 1)
        spans.append(("still", start, time.time()))
        change.every_second(spans[-1][2] + rotating)
        # Connections of the last certificate settle in the last second.
        spans.append(("rotating", spans[-1][2], time.time() + 0.5))
        time.sleep(1)
        say(f"turn {turn + 1} of {turns}: {len(change.shown)} certificates so far")
    return spans


def report(answers, spans, shown, seen, about, turn_seconds) -> dict:
    took = {"still": [], "rotating": []}
    for start, _, seconds in answers:
        for kind, begin, end in spans:
            if begin <= start < end:
                took[kind].append(seconds * 1e3)
    presented = {line.split()[0] for line in seen}
    missing = [fingerprint for fingerprint in shown if fingerprint not in presented]
    others = sum(1 for _, status, _ in answers if status != 200)
    lengths = {kind: sum(end - begin for k, begin, end in spans if k == kind) for kind in took}
    rate = {kind: len(values) / lengths[kind] for kind, values in took.items()}
    ratio = percentile(took["rotating"], 0.99) / percentile(took["still"], 0.99)
    body = [[kind, f"{lengths[kind]:.0f}", f"{rate[kind]:,.0f}", *(f"{percentile(values, share):.2f}" for share in (0.5, 0.99, 0.999)),
             f"{max(values):.1f}"] for kind, values in took.items()]
    aims = [
        none_of("answers other than 200", others),
        Aim("client certificates that the upstream saw", f"{len(shown) - len(missing):,} of {len(shown):,}", "all", not missing),
        at_most("p99 while rotating over p99 without", ratio, 2.0),
        at_least("requests/s while rotating", rate["rotating"], 0.99 * RATE, "{:,.0f}"),
    ]
    before, after, revision = about
    notes = (f"{len(answers):,} requests over {CLIENTS} connections whose clocks do not tick together; {len(shown) - 1:,} rotations, "
             f"one a second, and {revision:,} configurations served; {len(seen):,} upstream handshakes; resident {before:.0f} MB before, {after:.0f} MB after. "
             f"Phases without rotation and with it take turns of {turn_seconds} s within one load. nginx is the upstream, "
             "requires a certificate and logs its fingerprint at the first request of each connection.")
    return result([(["", "seconds", "requests/s", "p50 ms", "p99 ms", "p99.9 ms", "longest ms"], body)], aims, notes)
