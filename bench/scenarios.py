"""The scenarios. Each starts its servers, loads them in turn and gives back rows by proxy."""

import contextlib
import dataclasses
import pathlib
import subprocess

import proxies
from measure import load, measure
from processes import BenchError, free_port, get, program
from upstream import NAME, Upstream

PROXY_CORE, LOAD_CORE = 0, 1


@dataclasses.dataclass
class Plan:
    """How long and how often. `full` is the whole length of what is cut short otherwise."""

    rounds: int
    seconds: int
    connections: int
    mappings: int
    full: bool = False
    memory_turns: int = 3

    def order(self, names: list[str], number: int) -> list[str]:
        """The turn of each in a round: rotated, and backwards every other time, so that nobody always follows the same one."""
        turn = number // 2 % len(names)
        names = names[turn:] + names[:turn]
        return names[::-1] if number % 2 else names


def keepalive(names: list[str], folder: pathlib.Path, plan: Plan, say) -> dict:
    """Connections kept alive on both sides, a small answer."""
    return compare(names, folder, plan, say, fresh=False)


def handshake(names: list[str], folder: pathlib.Path, plan: Plan, say) -> dict:
    """The upstream closes after each answer, so that each request needs a full TLS 1.3 handshake."""
    return compare(names, folder, plan, say, fresh=True)


def compare(names: list[str], folder: pathlib.Path, plan: Plan, say, fresh: bool) -> dict:
    rows, seen = {name: [] for name in names}, {}
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(Upstream(folder, LOAD_CORE))
        target = upstream.fresh if fresh else upstream.kept
        running = {}
        for name in names:
            process, port = proxies.start(name, folder, PROXY_CORE, target)
            stack.enter_context(process)
            running[name] = (process, port)
            if not fresh:
                seen[name] = check_features(name, port)
        for number in range(plan.rounds):
            for name in plan.order(names, number):
                process, port = running[name]
                load(LOAD_CORE, port, "/", plan.connections, 1)
                mark, accepted = upstream.mark(), upstream.accepted()
                row = measure(process, LOAD_CORE, port, "/", plan.connections, plan.seconds)
                check_no_errors(name, row)
                if fresh:
                    seen[name] = upstream.check_full_handshakes(mark, row["requests"], name)
                else:
                    check_kept_alive(name, upstream.accepted() - accepted, plan.connections)
                rows[name].append(row)
                say(f"round {number + 1} {name:15} {row['rps']:8.0f}/s {row['cpu_us']:7.1f} µs")
    return {"rows": rows, "seen": seen}


def mappings(_names: list[str], folder: pathlib.Path, plan: Plan, say) -> dict:
    """nuncio alone: the start with many Mappings, and the cost of a request beside that with one."""
    rows: dict[str, list] = {}
    starts: dict[str, list] = {}
    many = f"{plan.mappings} Mappings"
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(Upstream(folder, LOAD_CORE))
        sets = {"1 Mapping": (1, False), many: (plan.mappings, False), f"{many}, Services and EndpointSlices": (plan.mappings, True)}
        running = {}
        for label, (count, resolved) in sets.items():
            rows[label], starts[label] = [], []
            manifests, path = many_mappings(count, resolved, upstream.kept)
            # The last start stays up for the load.
            for attempt in range(plan.rounds):
                port = free_port()
                home = folder / f"mappings-{len(rows)}-{attempt}"
                home.mkdir()
                process = proxies.start_nuncio("nuncio", home, PROXY_CORE, proxies.listener(port) + manifests, upstream.kept)
                start = {"cpu_s": process.cpu_seconds_since_start(), "rss_mb": process.memory_mb(), "peak_mb": process.memory_mb("VmHWM")}
                starts[label].append(start)
                say(f"start {label}: {start['cpu_s']:.2f} s CPU, {start['rss_mb']:.0f} MB")
                if attempt + 1 < plan.rounds:
                    process.__exit__()
            stack.enter_context(process)
            running[label] = (process, port, path)
        for number in range(plan.rounds):
            for label in plan.order(list(sets), number):
                process, port, path = running[label]
                load(LOAD_CORE, port, path, plan.connections, 1)
                row = measure(process, LOAD_CORE, port, path, plan.connections, plan.seconds)
                check_no_errors(label, row)
                rows[label].append(row)
                say(f"round {number + 1} {label:45} {row['rps']:8.0f}/s {row['cpu_us']:7.1f} µs")
    return {"rows": rows, "starts": starts}


def find(_names: list[str], _folder: pathlib.Path, _plan: Plan, say) -> dict:
    """The search for a route alone, without a network: the model's own benchmark."""
    say("building the model's benchmark")
    bench = ["cargo", "bench", "--quiet", "--locked", "--package", "nuncio-model", "--bench", "find"]
    subprocess.run([*bench, "--no-run"], check=True, stdin=subprocess.DEVNULL, cwd=proxies.ROOT, timeout=900)
    answer = subprocess.run(
        [program("taskset"), "-c", str(PROXY_CORE), *bench],
        check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, cwd=proxies.ROOT, timeout=300,
    )
    return {"text": answer.stdout.strip("\n")}


def many_mappings(count: int, resolved: bool, upstream_port: int) -> tuple[str, str]:
    """Manifests with `count` Mappings to as many services, and the path of the one in the middle, which is live."""
    live = count // 2
    parts = [proxies.tls_context("ecdh_curves: [X25519]")]
    for number in range(count):
        name = f"service-{number}"
        host = name if resolved else NAME if number == live else f"{name}.bench.test"
        parts.append(proxies.mapping(name, f"/route-{number}/", upstream_port, host))
        if resolved:
            parts.append(proxies.endpoints(name, upstream_port))
    return "".join(parts), f"/route-{live}/"


def check_features(name: str, port: int) -> str:
    """Asks the upstream through the proxy what it saw, so that all really do the same work."""
    status, body = get(port, "/seen")
    session, forwarded_for, proto, request_id = (body.strip().split("|") + [""] * 4)[:4]
    # Envoy puts the machine's own address in the place of a loopback one, so any address will do.
    if status != 200 or not forwarded_for or proto != "http" or not request_id:
        raise BenchError(f"{name} does not forward what the others do: {status} {body}")
    return session


def check_no_errors(name: str, row: dict):
    if row["errors"]:
        raise BenchError(f"{name}: {row['errors']} failed requests of {row['requests']}")


def check_kept_alive(name: str, accepted: int, connections: int):
    if accepted > 4 * connections:
        raise BenchError(f"{name} opened {accepted} connections to the upstream in one round: it does not keep them alive")
