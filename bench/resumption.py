"""Tickets with three endpoints behind one name, each with ticket keys of its own, and a new connection a request."""

import contextlib
import os
import pathlib

import proxies
from aims import at_least, result
from certificates import Authority
from load import Load, only
from processes import free_port
from tls_upstream import TlsUpstream, lines, server

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
SERVICE = "three"
WARM, REQUESTS = 300, 3000
CLIENTS = (1, 16, 64)


def resumption(_names, folder: pathlib.Path, _plan, say) -> dict:
    """The share of resumed handshakes by nginx's log, TLS 1.2 and 1.3, few and many requests at a time."""
    port, target, status, log = free_port(), free_port(), free_port(), folder / "session.log"
    pair = Authority(folder, "resumption").issue(SERVICE, "serverAuth")
    servers = ""
    for number, address in enumerate(ADDRESSES):
        key = folder / f"ticket-{number}.key"
        key.write_bytes(os.urandom(80))
        servers += server(f"{address}:{target} ssl", pair, f"ssl_session_ticket_key {key}; ssl_session_cache off;"
                          f" keepalive_timeout 0; access_log {log} session;")
    manifests = proxies.listener(port) + proxies.endpoints(SERVICE, target, ADDRESSES)
    for version in ("v1.2", "v1.3"):
        manifests += proxies.tls_context(f"max_tls_version: {version}", name=version, lowest=version)
        manifests += proxies.mapping(f"bench-{version}", f"/{version}/", target, host=SERVICE, tls=version)
    rows, aims = [], []
    with contextlib.ExitStack() as stack:
        stack.enter_context(TlsUpstream(folder, 1, status, servers))
        gateway = stack.enter_context(proxies.start_nuncio("nuncio", folder, 0, manifests, target))
        for version in ("v1.2", "v1.3"):
            for clients in CLIENTS:
                share, seen, counted = resumed(gateway, folder, port, version, clients, log)
                rows.append([f"TLS {version[1:]}, {clients} at a time", f"{seen:,}", f"{share:.1%}", f"{counted:.1%}"])
                aims.append(at_least(f"TLS {version[1:]}, {clients} at a time: resumed", share, 0.95, "{:.1%}"))
                say(" ".join(rows[-1]))
    head = ["", "handshakes by nginx's log", "resumed by nginx's log", "resumed by nuncio's metrics"]
    notes = (f"Three addresses of one Service; nginx has a ticket key of its own at each, so that a ticket is good only where it came "
             f"from, and closes after each answer. {WARM} requests to warm up, then {REQUESTS:,}.")
    return result([(head, rows)], aims, notes)


def resumed(gateway, folder: pathlib.Path, port: int, version: str, clients: int, log: pathlib.Path):
    """The resumed share by the peer's log, how many handshakes that is of, and the share by the metrics."""
    def counts() -> tuple[int, int]:
        labels = {"outcome": "ok", "version": f"TLS{version}"}
        name = "nuncio_upstream_handshakes_total"
        return proxies.counted(gateway, name, **labels), proxies.counted(gateway, name, resumed="true", **labels)
    with Load(folder, 1, port, [f"/{version}/"], clients, requests=WARM) as load:
        only(200, load.answers(), WARM, version)
    mark, (all_before, resumed_before) = len(lines(log)), counts()
    with Load(folder, 1, port, [f"/{version}/"], clients, requests=REQUESTS) as load:
        only(200, load.answers(), REQUESTS, version)
    seen = lines(log)[mark:]
    all_after, resumed_after = counts()
    return (sum(line.startswith("r ") for line in seen) / len(seen), len(seen),
            (resumed_after - resumed_before) / max(1, all_after - all_before))
