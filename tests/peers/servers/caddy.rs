//! Caddy: the TLS stack of Go.

use std::net::{Ipv4Addr, SocketAddr};

use crate::Result;
use crate::files::Files;
use crate::process::{Process, free_port};
use crate::servers::{Setup, Version};

pub(super) fn start(setup: Setup, files: &Files) -> Result<(SocketAddr, Process)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let path = files
        .write("Caddyfile", &config(setup, address, files))?
        .display()
        .to_string();
    let home = files.folder().display().to_string();
    let mut process = Process::start(
        "caddy",
        &["run", "--adapter", "caddyfile", "--config", &path],
        &[
            ("HOME", &home),
            ("XDG_DATA_HOME", &home),
            ("XDG_CONFIG_HOME", &home),
        ],
    )?;
    process.wait_for_port(address)?;
    Ok((address, process))
}

fn config(setup: Setup, address: SocketAddr, files: &Files) -> String {
    let (port, folder) = (address.port(), files.folder().display());
    let version = |version| match version {
        Version::Tls12 => "tls1.2",
        Version::Tls13 => "tls1.3",
    };
    let (lowest, highest) = (version(setup.lowest()), version(setup.highest()));
    let protocols = if setup.h2 { "h1 h2" } else { "h1" };
    let close = if setup.close {
        "header Connection close"
    } else {
        ""
    };
    let verify = if setup.client_certificate {
        format!("client_auth {{\n mode require_and_verify\n trust_pool file {folder}/ca.pem\n }}")
    } else {
        String::new()
    };
    // With client certificates Caddy insists that Host and SNI are alike; what a client may send is no matter here.
    format!(
        r#"{{
  admin off
  auto_https off
  persist_config off
  servers {{
    protocols {protocols}
    strict_sni_host insecure_off
  }}
}}
https://:{port} {{
  bind 127.0.0.1
  tls {folder}/server.pem {folder}/server.key {{
    protocols {lowest} {highest}
    {verify}
  }}
  header x-peer "version={{http.request.tls.version}} sni={{http.request.tls.server_name}} resumed={{http.request.tls.resumed}} http={{http.request.proto}}"
  {close}
  respond "hello"
}}
"#
    )
}
