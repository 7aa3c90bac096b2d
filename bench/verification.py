"""What verification mode `report` costs over `none`: on kept-alive traffic, and on new handshakes."""

import contextlib
import pathlib
import re
import shutil
import signal
import statistics

import proxies
from aims import at_most, result
from load import Load, only
from measure import load, measure
from processes import BenchError, free_port, program
from report import ratios
from scenarios import LOAD_CORE, PROXY_CORE, Plan, check_no_errors
from upstream import Upstream

# Mode, and what it verifies against: the upstream's own certificate as a root, so that all is well, or the
# system's roots, by which the issuer is unknown.
KINDS = {"none": ("none", ""), "report, all well": ("report", "ca_secret: peer"), "report, unknown issuer": ("report", "")}
AIMS = {"kept alive": 1.02, "new handshakes": 1.10}
# Rounds of CPU time at most: instructions say it better.
ROUNDS = 3
# Requests under valgrind: a first lot that is taken off, and what is counted.
WARM = {"kept alive": 2000, "new handshakes": 200}
COUNTED = {"kept alive": 5000, "new handshakes": 500}
# The library that draws randomness from the jitter of the clock takes as long as that jitter will have it, once a
# start: what it does is left out of the count.
WITHOUT_JITTER = ["--toggle-collect=*jent_measure_jitter*", "--collect-atstart=yes"]


def verification(_names, folder: pathlib.Path, plan: Plan, say) -> dict:
    """CPU time in rounds that take turns, and, where valgrind is installed, instructions without noise."""
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(Upstream(folder, LOAD_CORE))
        targets = {"kept alive": upstream.kept, "new handshakes": upstream.fresh}
        times = {label: timed(folder, upstream, label, target, plan, say) for label, target in targets.items()}
        counts = {}
        if shutil.which("valgrind"):
            counts = {label: {kind: instructions(folder, upstream, label, target, kind, say) for kind in KINDS}
                      for label, target in targets.items()}
    return report(times, counts)


def gateway(home: pathlib.Path, upstream: Upstream, target: int, kind: str, **how):
    home.mkdir()
    mode, more = KINDS[kind]
    port = free_port()
    manifests = proxies.listener(port) + proxies.secret("peer", ca_crt=upstream.certificate.read_text())
    manifests += proxies.tls_context(f"ecdh_curves: [X25519]\n{more}", mode=mode)
    # Under valgrind everything takes long.
    manifests += proxies.mapping("bench", "/", target, extra="timeout_ms: 60000\nconnect_timeout_ms: 60000")
    return proxies.start_nuncio("nuncio", home, PROXY_CORE, manifests, target, **how), port


def timed(folder: pathlib.Path, upstream: Upstream, label: str, target: int, plan: Plan, say) -> dict[str, list]:
    """Rows of figures by kind, each kind once a round."""
    rows: dict[str, list] = {kind: [] for kind in KINDS}
    with contextlib.ExitStack() as stack:
        running = {}
        for number, kind in enumerate(KINDS):
            process, port = gateway(folder / f"{label}-{number}", upstream, target, kind)
            running[kind] = stack.enter_context(process), port
        for number in range(min(plan.rounds, ROUNDS)):
            for kind in plan.order(list(KINDS), number):
                process, port = running[kind]
                load(LOAD_CORE, port, "/", plan.connections, 1)
                row = measure(process, LOAD_CORE, port, "/", plan.connections, plan.seconds)
                check_no_errors(kind, row)
                rows[kind].append(row)
                say(f"round {number + 1} {label}, {kind:25} {row['cpu_us']:7.1f} µs")
    return rows


def instructions(folder: pathlib.Path, upstream: Upstream, label: str, target: int, kind: str, say) -> float:
    """Instructions of the whole process per request: the difference of two runs that differ in their requests."""
    few = total(folder / f"few-{label}-{kind}", upstream, target, kind, WARM[label])
    many = total(folder / f"many-{label}-{kind}", upstream, target, kind, WARM[label] + COUNTED[label])
    each = (many - few) / COUNTED[label]
    say(f"{label}, {kind}: {each:,.0f} instructions a request")
    return each


def total(home: pathlib.Path, upstream: Upstream, target: int, kind: str, requests: int) -> int:
    """Instructions from start to end with so many requests, one after another."""
    counts = home.with_suffix(".callgrind")
    under = [program("valgrind"), "--tool=callgrind", f"--callgrind-out-file={counts}", *WITHOUT_JITTER]
    process, port = gateway(home, upstream, target, kind, under=under)
    with process:
        with Load(home, LOAD_CORE, port, ["/"], 1, requests=requests) as asked:
            only(200, asked.answers(), requests, kind)
        process.child.send_signal(signal.SIGTERM)
        process.child.wait(timeout=60)
    found = re.search(r"^totals: (\d+)", counts.read_text(), re.MULTILINE) if counts.exists() else None
    if not found:
        raise BenchError(f"valgrind told no count:\n{process.log.read_text(errors='replace')[-2000:]}")
    return int(found.group(1))


def report(times: dict, counts: dict) -> dict:
    body, aims = [], []
    for label, rows in times.items():
        for kind, measured in rows.items():
            over = 1 / ratios(rows, "none", "cpu_us").get(kind, 1)
            cells = [f"{statistics.median(row['cpu_us'] for row in measured):.2f}", f"{over:.3f}"]
            if counts:
                instruction_ratio = counts[label][kind] / counts[label]["none"]
                cells += [f"{counts[label][kind]:,.0f}", f"{instruction_ratio:.3f}"]
            body.append([f"{label}: {kind}", *cells])
            if kind != "none":
                aims.append(at_most(f"{label}: {kind} over none, {'instructions' if counts else 'CPU'} a request",
                                    instruction_ratio if counts else over, AIMS[label], "{:.3f}"))
    head = ["", "CPU µs/request", "over none"] + (["instructions/request", "over none"] if counts else [])
    notes = "CPU time is the scheduler's, of rounds that take turns, the ratio within each round. "
    notes += ("Instructions are counted by valgrind (callgrind), of the whole process in user space without what draws randomness, "
              "over requests one after another; they do not depend on what else the machine does, so the aims are held against them."
              if counts else "valgrind is not installed, so instructions were not counted.")
    return result([(head, body)], aims, notes)
