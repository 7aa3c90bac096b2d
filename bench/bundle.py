"""Thousands of upstreams that trust the same large bundle."""

import contextlib
import pathlib
import time

import proxies
from aims import at_most, result
from certificates import Authority, bundle
from load import Load, only
from processes import free_port
from tls_upstream import TlsUpstream, server

UPSTREAMS, CERTIFICATES, SECRETS = 5000, 150, 50
MOST_MB = 300
# What the first use of an upstream may cost for the bundle: far less than a parsed store of its own.
MOST_KB_EACH = 1


def shared(text: str, _number: int) -> tuple[str, str]:
    return "shared", text


def own(text: str, number: int) -> tuple[str, str]:
    return f"own-{number % SECRETS}", text


def bundle_size(_names, folder: pathlib.Path, _plan, say) -> dict:
    """Resident memory with every upstream used once: without a bundle, with one Secret, with many that are alike."""
    authority = Authority(folder, "real")
    say(f"making {CERTIFICATES} CA certificates")
    text = bundle(folder, CERTIFICATES - 1) + authority.pair.certificate
    target, status = free_port(), free_port()
    pair = authority.issue("bundle", "serverAuth")
    kinds = {
        "no bundle": (None, "verify none"), "one TLSContext with the bundle": (shared, "verify chain"),
        f"{SECRETS} TLSContexts, each with a Secret of its own, same bytes": (own, "verify chain"),
    }
    rows, used, grown = [], {}, {}
    with contextlib.ExitStack() as stack:
        # Closes after each answer: idle connections are measured by themselves.
        stack.enter_context(TlsUpstream(folder, 1, status, server(f"127.0.0.1:{target} ssl", pair, "keepalive_timeout 0;")))
        for number, (label, (secrets, _)) in enumerate(kinds.items()):
            home = folder / f"bundle-{number}"
            home.mkdir()
            start, used[label], peak = once_each(home, manifests(secrets, text, target), target)
            grown[label] = (used[label] - start) * 1024 / UPSTREAMS
            rows.append([label, f"{start:.0f}", f"{used[label]:.0f}", f"{peak:.0f}", f"{grown[label]:.2f}"])
            say(" ".join(rows[-1]))
    plain, *rest = kinds
    aims = [at_most(f"{label}: resident MB in all", used[label], MOST_MB, "{:.0f}") for label in rest]
    aims += [at_most(f"{label}: KB for a first use, over that without", grown[label] - grown[plain], MOST_KB_EACH) for label in rest]
    notes = (f"{UPSTREAMS:,} Mappings to as many services, each asked once, so that its TLS is built; verification mode `chain`, and the "
             f"upstream's CA is the last of the {CERTIFICATES} in the bundle ({len(text) // 1024} KB of PEM). A parsed store for each "
             f"would show in what the first use of an upstream costs.")
    return result([(["resident MB", "at the start", "each used once", "peak", "KB for the first use of one"], rows)], aims, notes)


def manifests(secrets, text: str, target: int) -> str:
    """All upstreams; `secrets` tells the name and content of the bundle's Secret of each, if it has one."""
    parts, made = [], set()
    if secrets is None:
        parts.append(proxies.tls_context("", name="none"))
    for number in range(UPSTREAMS):
        context, content = secrets(text, number) if secrets else ("none", "")
        if secrets and context not in made:
            made.add(context)
            parts.append(proxies.secret(context, ca_crt=content) + proxies.tls_context(f"ca_secret: {context}", name=context, mode="chain"))
        name = f"service-{number}"
        parts.append(proxies.mapping(name, f"/route-{number}/", target, name, tls=context) + proxies.endpoints(name, target))
    return "".join(parts)


def once_each(home: pathlib.Path, text: str, target: int) -> tuple[float, float, float]:
    """Megabytes at the start, after each upstream was asked once, and at most."""
    port = free_port()
    with proxies.start_nuncio("nuncio", home, 0, proxies.listener(port) + text, target) as gateway:
        start = gateway.memory_mb()
        with Load(home, 1, port, [f"/route-{number}/" for number in range(UPSTREAMS)], 8, requests=UPSTREAMS) as load:
            only(200, load.answers(), UPSTREAMS, "bundle")
        time.sleep(1)
        used = proxies.counted(gateway, "nuncio_upstream_handshakes_total", outcome="ok")
        if used < UPSTREAMS:
            raise proxies.BenchError(f"only {used} handshakes for {UPSTREAMS} upstreams")
        return start, gateway.memory_mb(), gateway.memory_mb("VmHWM")
