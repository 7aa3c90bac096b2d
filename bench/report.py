"""Medians, ratios and tables."""

import pathlib
import re
import statistics
import textwrap

TITLES = {
    "keepalive": "Kept-alive HTTP/1.1, small answer",
    "handshake": "A new full TLS 1.3 handshake upstream per request",
    "mappings": "Many Mappings",
    "find": "The search for a route",
    "rotation": "A client certificate that changes every second",
    "burst": "500 requests at once on a cold upstream",
    "failing": "10,000 failing handshakes",
    "resumption": "Resumption with three endpoints behind one name",
    "bundle": "5,000 upstreams with the same bundle",
    "memory": "Memory per idle TLS connection to the upstream",
    "verification": "Verification mode report against none",
}


def median(rows: list[dict], key: str) -> float:
    return statistics.median(row[key] for row in rows)


def ratios(rows: dict[str, list], of: str, key: str) -> dict[str, float]:
    """The figure of `of` over that of each other, round by round, then the median: noise that
    lasts longer than a round falls out."""
    return {
        other: statistics.median(mine[key] / theirs[key] for mine, theirs in zip(rows[of], rows[other], strict=True))
        for other in rows if other != of
    }


def table(head: list[str], body: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in body])


def figures(rows: dict[str, list]) -> str:
    """One line a proxy: the medians over all rounds."""
    return table(
        ["", "requests/s", "CPU µs/request", "p50 ms", "p99 ms", "resident MB", "core busy", "errors"],
        [[name, f"{median(r, 'rps'):,.0f}", f"{median(r, 'cpu_us'):.1f}", f"{median(r, 'p50_ms'):.2f}",
          f"{median(r, 'p99_ms'):.2f}", f"{median(r, 'rss_mb'):.0f}", f"{median(r, 'busy'):.0%}",
          str(sum(row["errors"] for row in r))] for name, r in rows.items()],
    )


def ratio_table(rows: dict[str, list]) -> str:
    """CPU per request and requests per second of each nuncio over each other proxy."""
    ours = [name for name in rows if name.startswith("nuncio")]
    others = [name for name in rows if not name.startswith("nuncio")]
    if not ours or not others:
        return ""
    body = []
    for name in ours:
        for key, label in (("cpu_us", "CPU per request"), ("rps", "requests/s")):
            found = ratios(rows, name, key)
            body.append([f"{name}: {label}", *(f"{found[other]:.2f}" for other in others)])
    return table(["ratio", *(f"over {other}" for other in others)], body)


def comparison(result: dict) -> str:
    parts = [figures(result["rows"]), ratio_table(result["rows"])]
    seen = ", ".join(f"{name} {session}" for name, session in result["seen"].items())
    parts.append(f"Negotiated: {seen}.")
    return "\n\n".join(part for part in parts if part)


def mappings(result: dict) -> str:
    starts = table(
        ["until ready", "CPU s", "resident MB", "peak MB"],
        [[label, f"{median(s, 'cpu_s'):.2f}", f"{median(s, 'rss_mb'):.0f}", f"{median(s, 'peak_mb'):.0f}"]
         for label, s in result["starts"].items()],
    )
    first, *rest = result["rows"]
    lines = [
        f"CPU per request with {label} over that with {first}: {ratios(result['rows'], label, 'cpu_us')[first]:.2f}."
        for label in rest
    ]
    return "\n\n".join([starts, figures(result["rows"]), " ".join(lines)])


def aimed(result: dict) -> str:
    """Tables, then each aim with what was measured and whether that meets it."""
    parts = [table(head, body) for head, body in result["tables"]]
    parts.append(table(
        ["aim", "measured", "wanted", "verdict"],
        [[aim["what"], aim["measured"], aim["aim"], "met" if aim["met"] else "**missed**"] for aim in result["aims"]]))
    parts.append(textwrap.fill(result["notes"], 116))
    return "\n\n".join(parts)


def missed(result: dict) -> list[str]:
    """The aims that a scenario does not meet."""
    return [f"{aim['what']}: {aim['measured']}, wanted {aim['aim']}" for aim in result.get("aims", []) if not aim["met"]]


def section(name: str, result: dict) -> str:
    """The text of one scenario."""
    if "aims" in result:
        return aimed(result)
    if name == "find":
        return f"```\n{result['text']}\n```"
    return mappings(result) if name == "mappings" else comparison(result)


def write(path: pathlib.Path, name: str, text: str, about: str):
    """Replaces one scenario's part of RESULTS.md; what people wrote around it stays."""
    page = path.read_text()
    marks = (f"<!-- measured: {name} -->", f"<!-- end: {name} -->")
    pattern = re.compile(re.escape(marks[0]) + ".*?" + re.escape(marks[1]), re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{path} has no place for {name}: it needs the lines {marks[0]} and {marks[1]}")
    block = f"{marks[0]}\n{about}\n\n{text}\n{marks[1]}"
    path.write_text(pattern.sub(lambda _: block, page))
