//! Caddy: the TLS stack of Go.

use std::net::SocketAddr;

use super::super::Result;
use super::super::files::Files;
use super::super::foreign::{self, free_address};
use super::{Setup, Version};
use crate::support::program::Running;

pub(super) async fn start(setup: Setup, files: &Files) -> Result<(SocketAddr, Running)> {
    let address = free_address()?;
    let path = files.write("Caddyfile", &config(setup, address, files))?;
    let mut command = foreign::command("caddy")?;
    command.args(["run", "--adapter", "caddyfile", "--config", &path]);
    for variable in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
        command.env(variable, files.folder());
    }
    let program = foreign::start(command, address).await?;
    Ok((address, program))
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
