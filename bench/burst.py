"""Many requests at once on an upstream to which nothing is connected yet."""

import contextlib
import pathlib

import proxies
from aims import Aim, at_most, result
from certificates import Authority
from load import Load, statuses
from processes import free_port
from relay import Relay
from tls_upstream import TlsUpstream, lines, server
from upstream import NAME

REQUESTS = 500
# Handshakes with one upstream that one worker may have under way: nuncio's default.
LIMIT = 16
# Handshakes that one worker may need for an HTTP/2 upstream which allows this many streams a connection. A second one
# is opened because a hundred are taken to be allowed until the peer says so.
H2_LIMIT, STREAMS = 2, 512
# A handshake takes this long, and an answer, as over two round trips and one: without them all would be over
# before it piles up.
HANDSHAKE_SECONDS, ANSWER_SECONDS = 0.08, 0.04


def burst(_names, folder: pathlib.Path, _plan, say) -> dict:
    """Cold starts with HTTP/1.1 and HTTP/2, with one worker and with two."""
    pair = Authority(folder, "burst").issue(NAME, "serverAuth")
    rows, aims = [], []
    for protocol in ("http/1.1", "h2"):
        for workers in (1, 2):
            home = folder / f"{protocol.replace('/', '-')}-{workers}"
            home.mkdir()
            found = cold(home, pair, protocol, workers)
            rows.append([f"{protocol}, {workers} worker{'s' * (workers > 1)}", *(f"{found[key]:,}" for key in
                         ("answered", "most", "handshakes", "counted", "logged")), f"{found['longest']:.2f}"])
            say(f"{protocol} {workers}: {found}")
            name = f"{protocol}, {workers} worker{'s' * (workers > 1)}"
            aims.append(Aim(f"{name}: answers 200", f"{found['answered']:,}", f"all {REQUESTS}", found["answered"] == REQUESTS))
            if protocol == "h2":
                aims.append(at_most(f"{name}: handshakes", found["handshakes"], H2_LIMIT * workers, "{:.0f}"))
            else:
                aims.append(at_most(f"{name}: handshakes under way at once", found["most"], LIMIT * workers, "{:.0f}"))
            aims.append(Aim(f"{name}: handshakes by the peer's log and by nuncio's metrics", f"{found['logged']} and {found['counted']}",
                            "alike", found["logged"] == found["counted"] == found["handshakes"]))
    head = [f"{REQUESTS} requests at once", "answered 200", "most handshakes at once", "connections", "handshakes by the metrics",
            "by nginx's log", "longest answer s"]
    notes = (f"Between nuncio and nginx stands a relay that counts, holds each handshake for {HANDSHAKE_SECONDS * 1e3:.0f} ms and each "
             f"answer for {ANSWER_SECONDS * 1e3:.0f} ms; nginx allows {STREAMS} streams a connection. "
             f"h2load opens {REQUESTS} connections with one request each.")
    return result([(head, rows)], aims, notes)


def cold(folder: pathlib.Path, pair, protocol: str, workers: int) -> dict:
    """One burst on a gateway that was just started."""
    target, status, port, log = free_port(), free_port(), free_port(), folder / "session.log"
    more = f"access_log {log} session if=$first;" + (f" http2_max_concurrent_streams {STREAMS};" if protocol == "h2" else "")
    block = server(f"127.0.0.1:{target} ssl" + (" http2" if protocol == "h2" else ""), pair, more)
    with contextlib.ExitStack() as stack:
        stack.enter_context(TlsUpstream(folder, 1, status, block))
        relay = stack.enter_context(Relay(target, HANDSHAKE_SECONDS, ANSWER_SECONDS))
        manifests = (proxies.listener(port) + proxies.tls_context(f"alpn_protocols: {protocol}")
                     + proxies.mapping("bench", "/", relay.port, extra="timeout_ms: 30000"))
        gateway = stack.enter_context(proxies.start_nuncio("nuncio", folder, "0-1", manifests, relay.port, workers=workers))
        load = stack.enter_context(Load(folder, 1, port, ["/"], REQUESTS, requests=REQUESTS))
        answers = load.answers()
        return {
            "answered": statuses(answers).get(200, 0), "most": relay.most, "handshakes": relay.accepted,
            "counted": proxies.counted(gateway, "nuncio_upstream_handshakes_total", outcome="ok"),
            "logged": len(lines(log)), "longest": max(seconds for _, _, seconds in answers),
        }
