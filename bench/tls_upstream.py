"""nginx as the upstream of the TLS scenarios: servers that differ in what they ask for and what they log."""

import pathlib

from processes import Process, get, program, wait_for

# `first` is 1 for the first request on a connection: a log with it has a line for each handshake.
CONFIG = """
user root root;
worker_processes 1;
daemon off;
pid {folder}/tls-upstream.pid;
error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_body_temp_path {folder}/tls-body;
  proxy_temp_path {folder}/tls-proxy;
  fastcgi_temp_path {folder}/tls-fastcgi;
  uwsgi_temp_path {folder}/tls-uwsgi;
  scgi_temp_path {folder}/tls-scgi;
  map $connection_requests $first {{ default 0; 1 1; }}
  log_format client '$ssl_client_fingerprint $ssl_client_verify';
  log_format session '$ssl_session_reused $ssl_protocol';
  default_type text/plain;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  http2_max_requests 1000000000;
  {servers}
  server {{
    listen 127.0.0.1:{status};
    location / {{ stub_status; }}
  }}
}}
"""


class TlsUpstream(Process):
    """nginx with the given server blocks, on core `core`."""

    def __init__(self, folder: pathlib.Path, core: int, status: int, servers: str):
        config = folder / "tls-upstream.conf"
        config.write_text(CONFIG.format(folder=folder, status=status, servers=servers))
        super().__init__("tls-upstream", core, [program("nginx"), "-c", str(config)], folder)
        self.status, self.asked = status, 0

    def __enter__(self):
        try:
            wait_for(self, self.status, "/")
        except BaseException:
            self.__exit__()
            raise
        return self

    def accepted(self) -> int:
        """Connections accepted so far by all its servers, but for those that asked for this."""
        self.asked += 1
        return int(get(self.status, "/")[1].splitlines()[2].split()[0]) - self.asked


def server(listen: str, certificate, more: str = "") -> str:
    """A server block that answers hello; `certificate` is a Pair."""
    return f"""
  server {{
    listen {listen} backlog=4096;
    ssl_certificate {certificate.certificate_file};
    ssl_certificate_key {certificate.key_file};
    ssl_protocols TLSv1.2 TLSv1.3;
    {more}
    location / {{ return 200 "hello\\n"; }}
  }}
"""


def lines(path: pathlib.Path) -> list[str]:
    """The lines of a log, none where nothing was logged yet."""
    return path.read_text().splitlines() if path.exists() else []
