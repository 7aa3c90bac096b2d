//! nginx. It answers 400 where others refuse the handshake for want of a client certificate.

use std::net::SocketAddr;

use super::super::Result;
use super::super::files::Files;
use super::super::foreign::{self, free_address};
use super::{Setup, Version};
use crate::support::program::Running;

pub(super) async fn start(setup: Setup, files: &Files) -> Result<(SocketAddr, Running)> {
    let address = free_address()?;
    let path = files.write("nginx.conf", &config(setup, address, files))?;
    let mut command = foreign::command("nginx")?;
    command.args(["-c", &path]);
    let program = foreign::start(command, address).await?;
    Ok((address, program))
}

fn config(setup: Setup, address: SocketAddr, files: &Files) -> String {
    let folder = files.folder().display();
    let versions = match setup.version {
        None => "TLSv1.2 TLSv1.3",
        Some(Version::Tls12) => "TLSv1.2",
        Some(Version::Tls13) => "TLSv1.3",
    };
    let h2 = if setup.h2 { "http2" } else { "" };
    let keepalive = if setup.close { "0" } else { "600s" };
    let verify = if setup.client_certificate {
        format!("ssl_verify_client on; ssl_client_certificate {folder}/ca.pem;")
    } else {
        String::new()
    };
    format!(
        r#"daemon off;
master_process off;
user root root;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  keepalive_requests 1000000;
  server {{
    listen {address} ssl {h2};
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.key;
    ssl_protocols {versions};
    {verify}
    keepalive_timeout {keepalive};
    add_header x-peer "version=$ssl_protocol sni=$ssl_server_name resumed=$ssl_session_reused http=$server_protocol" always;
    location / {{ return 200 "hello\n"; }}
  }}
}}
"#
    )
}
