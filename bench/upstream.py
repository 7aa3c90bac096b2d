"""The TLS upstream that every proxy is put in front of: nginx, TLS 1.3, one cipher, a small answer."""

import pathlib
import subprocess

from processes import BenchError, Process, free_port, get, program, wait_for

CIPHER = "TLS_AES_128_GCM_SHA256"
NAME = "bench-upstream"
# What one handshake leaves in the log: version, `r` when resumed else `.`, request number on its
# connection, cipher, group.
LOG_FORMAT = "$ssl_protocol $ssl_session_reused $connection_requests $ssl_cipher $ssl_curve"

CONFIG = """
user root root;
worker_processes 1;
daemon off;
pid {folder}/upstream.pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/upstream-body;
  proxy_temp_path {folder}/upstream-proxy;
  fastcgi_temp_path {folder}/upstream-fastcgi;
  uwsgi_temp_path {folder}/upstream-uwsgi;
  scgi_temp_path {folder}/upstream-scgi;
  log_format handshake '{log_format}';
  default_type text/plain;
  keepalive_requests 1000000000;

  ssl_certificate {folder}/upstream.crt;
  ssl_certificate_key {folder}/upstream.key;
  ssl_protocols TLSv1.3;
  ssl_conf_command Ciphersuites {cipher};
  ssl_conf_command Groups X25519;

  server {{  # kept alive
    listen 127.0.0.1:{kept} ssl backlog=4096;
    keepalive_timeout 600s;
    location / {{ return 200 "hello\\n"; }}
    location = /seen {{
      return 200 "$ssl_protocol $ssl_cipher $ssl_curve|$http_x_forwarded_for|$http_x_forwarded_proto|$http_x_request_id\\n";
    }}
  }}
  server {{  # a full handshake a request: it closes after each answer and leaves nothing to resume
    listen 127.0.0.1:{fresh} ssl backlog=4096;
    keepalive_timeout 0;
    ssl_session_tickets off;
    ssl_session_cache off;
    location / {{ access_log {folder}/handshakes.log handshake; return 200 "hello\\n"; }}
  }}
  server {{  # how many connections were accepted
    listen 127.0.0.1:{status};
    location / {{ stub_status; }}
  }}
}}
"""


class Upstream:
    """The running upstream."""

    def __init__(self, folder: pathlib.Path, core: int):
        self.kept, self.fresh, self.status = free_port(), free_port(), free_port()
        self.certificate = folder / "upstream.crt"
        self.handshakes = folder / "handshakes.log"
        make_certificate(folder)
        config = folder / "upstream.conf"
        config.write_text(CONFIG.format(
            folder=folder, cipher=CIPHER, log_format=LOG_FORMAT,
            kept=self.kept, fresh=self.fresh, status=self.status,
        ))
        self.process = Process("upstream", core, [program("nginx"), "-c", str(config)], folder)

    def __enter__(self):
        try:
            wait_for(self.process, self.status, "/")
        except BaseException:
            self.process.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.__exit__()

    def accepted(self) -> int:
        """Connections accepted so far, those of the status page included."""
        return int(get(self.status, "/")[1].splitlines()[2].split()[0])

    def mark(self) -> int:
        """A position in the handshake log."""
        return self.handshakes.stat().st_size if self.handshakes.exists() else 0

    def check_full_handshakes(self, since: int, requests: int, who: str) -> str:
        """Fails unless every request since `since` had a full TLS 1.3 handshake to itself; says which kind."""
        with self.handshakes.open("rb") as log:
            log.seek(since)
            lines = log.read().decode().splitlines()
        if len(lines) < requests:
            raise BenchError(f"{who}: {requests} answers, but the upstream saw only {len(lines)} requests")
        kinds = {tuple(line.split()) for line in lines}
        if len(kinds) != 1:
            raise BenchError(f"{who}: not all handshakes were alike: {sorted(kinds)[:5]}")
        version, reused, number, cipher, group = kinds.pop()
        if (version, reused, number) != ("TLSv1.3", ".", "1"):
            raise BenchError(f"{who}: not one full TLS 1.3 handshake a request: {version} {reused} {number}")
        return f"{version} {cipher} {group}"


def make_certificate(folder: pathlib.Path):
    """A self-signed P-256 certificate for the upstream's name."""
    subprocess.run(
        [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}",
         "-keyout", str(folder / "upstream.key"), "-out", str(folder / "upstream.crt")],
        check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=30,
    )
