"""The proxies, each set up for the same work: one worker, forwarded headers, no access log, TLS 1.3 to
the upstream without verification, a pool that holds every connection."""

import base64
import json
import pathlib
import re
import subprocess

from processes import BenchError, Process, free_port, get, program, wait_for
from upstream import NAME

ROOT = pathlib.Path(__file__).resolve().parent.parent
ORDER = ["nuncio", "envoy", "nginx", "haproxy"]
# What is noted beside the figures. `nuncio-defaults` differs from `nuncio` in that it offers
# the post-quantum group that nuncio offers when nobody says otherwise; the others offer X25519.
VARIANTS = ["nuncio-defaults"]


def nuncio_binary() -> pathlib.Path:
    binary = ROOT / "target/release/nuncio"
    if not binary.exists():
        raise BenchError("target/release/nuncio is not built: `make build`, or leave it out with --only envoy,nginx,haproxy")
    return binary


def start(name: str, folder: pathlib.Path, core: int, upstream_port: int, timeout: int = 3) -> tuple[Process, int]:
    """Starts a proxy in front of the upstream's port; the process and the port it listens on. Envoy and nuncio
    wait `timeout` seconds for an answer."""
    port = free_port()
    folder = folder / name
    folder.mkdir()
    if name in ("nuncio", "nuncio-defaults"):
        curves = "ecdh_curves: [X25519]" if name == "nuncio" else ""
        manifests = listener(port) + tls_context(curves) + mapping("bench", "/", upstream_port, extra=f"timeout_ms: {timeout * 1000}")
        return start_nuncio(name, folder, core, manifests, upstream_port), port
    command = envoy(folder, port, upstream_port, timeout) if name == "envoy" else COMMANDS[name](folder, port, upstream_port)
    process = Process(name, core, command, folder)
    try:
        wait_for(process, port, "/")
    except BaseException:
        process.__exit__()
        raise
    return process, port


def start_nuncio(
    name: str, folder: pathlib.Path, core: int | str, manifests: str, upstream_port: int, *,
    workers: int = 1, more: dict[str, str] | None = None, under: list[str] | None = None,
) -> Process:
    """Starts nuncio on manifests and waits until it says that it serves them. `more` are further files in its
    folder of manifests, `under` is a command that runs it. The process says where its admin port is."""
    config = folder / "manifests"
    config.mkdir()
    for file, text in {"all.yaml": manifests, **(more or {})}.items():
        (config / file).write_text(text)
    admin = free_port()
    process = Process(name, core, [
        *(under or []), str(nuncio_binary()), "run", "--config", str(config), "--workers", str(workers), "--access-log", "off",
        "--bind", "127.0.0.1", "--admin", f"127.0.0.1:{admin}",
        "--resolve", f"{NAME}:{upstream_port}:127.0.0.1",
    ], folder)
    process.admin = admin
    try:
        wait_for(process, admin, "/ambassador/v0/check_ready")
    except BaseException:
        process.__exit__()
        raise
    return process


def counters(process: Process, name: str) -> list[tuple[dict[str, str], float]]:
    """The samples of one metric of nuncio: labels and value."""
    _, page = get(process.admin, "/metrics", "localhost")
    samples = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", page, re.MULTILINE)
    return [(dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)) for labels, value in samples]


def counted(process: Process, name: str, **labels: str) -> int:
    """The sum of a counter of nuncio over the samples that have these labels."""
    return int(sum(value for found, value in counters(process, name) if labels.items() <= found.items()))


def listener(port: int) -> str:
    return f"""---
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {{name: bench, namespace: default}}
spec: {{port: {port}, protocol: HTTP, securityModel: INSECURE, hostBinding: {{namespace: {{from: ALL}}}}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {{name: bench, namespace: default}}
spec: {{hostname: "*", requestPolicy: {{insecure: {{action: Route}}}}}}
"""


def tls_context(extra: str, name: str = "bench", mode: str = "none", lowest: str = "v1.3") -> str:
    """A TLSContext for TLS 1.3, or from another version on; `extra` are further lines of its spec."""
    lines = "".join(f"  {line}\n" for line in extra.splitlines())
    return f"""---
apiVersion: getambassador.io/v3alpha1
kind: TLSContext
metadata: {{name: {name}, namespace: default}}
spec:
  min_tls_version: {lowest}
  verify: {{mode: {mode}}}
{lines}"""


def secret(name: str, **entries: str) -> str:
    """A Secret; an underscore in a key stands for a dot."""
    lines = "".join(f"  {key.replace('_', '.')}: {base64.b64encode(text.encode()).decode()}\n" for key, text in entries.items())
    return f"---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: default}}\ndata:\n{lines}"


def mapping(name: str, prefix: str, upstream_port: int, host: str = NAME, tls: str = "bench", extra: str = "") -> str:
    """A Mapping to `host`, by its TLSContext; `extra` are further lines of its spec."""
    lines = "".join(f"  {line}\n" for line in extra.splitlines())
    return f"""---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {{name: {name}, namespace: default}}
spec:
  hostname: "*"
  prefix: {prefix}
  rewrite: ""
  service: https://{host}:{upstream_port}
  tls: {tls}
{lines}"""


def endpoints(name: str, upstream_port: int, addresses: tuple[str, ...] = ("127.0.0.1",)) -> str:
    """A Service and the EndpointSlice that leads to the live upstream."""
    listed = ", ".join(f"{{addresses: [{address}], conditions: {{ready: true}}}}" for address in addresses)
    return f"""---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec:
  ports: [{{name: https, port: {upstream_port}, targetPort: {upstream_port}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
endpoints: [{listed}]
ports: [{{name: https, port: {upstream_port}, protocol: TCP}}]
"""


def envoy(folder: pathlib.Path, port: int, upstream_port: int, timeout: int) -> list[str]:
    type_url = "type.googleapis.com/envoy.extensions."
    unlimited = {name: 1_000_000 for name in ("max_connections", "max_pending_requests", "max_requests")}
    config = {"static_resources": {
        "listeners": [{
            "name": "bench",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [{"filters": [{
                "name": "http",
                "typed_config": {
                    "@type": type_url + "filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": "bench",
                    "use_remote_address": True,
                    "generate_request_id": True,
                    "route_config": {"virtual_hosts": [{
                        "name": "bench", "domains": ["*"],
                        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": f"{timeout}s"}}],
                    }]},
                    "http_filters": [{"name": "router", "typed_config": {
                        "@type": type_url + "filters.http.router.v3.Router"}}],
                },
            }]}],
        }],
        "clusters": [{
            "name": "upstream", "type": "STATIC", "connect_timeout": "3s",
            "circuit_breakers": {"thresholds": [unlimited]},
            "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [{"endpoint": {
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": upstream_port}}}}]}]},
            "transport_socket": {"name": "tls", "typed_config": {
                "@type": type_url + "transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": NAME,
                "common_tls_context": {"tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3",
                    "ecdh_curves": ["X25519"]}},
            }},
        }],
    }}
    path = folder / "envoy.json"
    path.write_text(json.dumps(config))
    return [program("envoy"), "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]


def nginx(folder: pathlib.Path, port: int, upstream_port: int) -> list[str]:
    path = folder / "nginx.conf"
    path.write_text(f"""
user root root;
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  upstream upstream {{
    server 127.0.0.1:{upstream_port} max_fails=0;
    keepalive 1024;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass https://upstream;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Request-Id $request_id;
      proxy_ssl_server_name on;
      proxy_ssl_name {NAME};
      proxy_ssl_protocols TLSv1.3;
      proxy_ssl_conf_command Groups X25519;
      proxy_ssl_verify off;
    }}
  }}
}}
""")
    return [program("nginx"), "-c", str(path)]


def haproxy(folder: pathlib.Path, port: int, upstream_port: int) -> list[str]:
    path = folder / "haproxy.cfg"
    path.write_text(f"""
global
  nbthread 1
  maxconn 8192
  ssl-server-verify none
defaults
  mode http
  timeout connect 3s
  timeout client 600s
  timeout server 600s
  option forwardfor
  http-reuse always
frontend bench
  bind 127.0.0.1:{port} backlog 4096
  unique-id-format %[uuid()]
  unique-id-header x-request-id
  http-request set-header x-forwarded-proto http
  default_backend upstream
backend upstream
  server one 127.0.0.1:{upstream_port} ssl verify none sni str({NAME}) ssl-min-ver TLSv1.3 pool-max-conn -1
""")
    return [program("haproxy"), "-db", "-f", str(path)]


COMMANDS = {"nginx": nginx, "haproxy": haproxy}


# How to ask a program for its version, and where the version is in the answer.
VERSIONS = {
    # Its commit: what was measured may be older than what lies here.
    "nuncio": ("--version", r"\((commit \w+)"),
    "envoy": ("--version", r"version: \w+/([0-9.]+)"),
    "nginx": ("-v", r"nginx/(\S+)"),
    "haproxy": ("-v", r"version (\S+)"),
    "wrk": ("-v", r"wrk (\S+)"),
    "h2load": ("--version", r"nghttp2/(\S+)"),
}


def versions(names: list[str]) -> dict[str, str]:
    """The version of each program that took part."""
    found = {}
    for name in [*names, "wrk", "h2load"]:
        flag, pattern = VERSIONS[name]
        path = str(nuncio_binary()) if name == "nuncio" else program(name)
        answer = subprocess.run([path, flag], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        number = re.search(pattern, answer.stdout + answer.stderr)
        found[name] = number.group(1) if number else "of unknown version"
    return found
