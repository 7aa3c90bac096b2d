//! HAProxy.

use std::net::SocketAddr;

use super::super::Result;
use super::super::files::Files;
use super::super::foreign::{self, free_address};
use super::Setup;
use crate::support::program::Running;

pub(super) async fn start(setup: Setup, files: &Files) -> Result<(SocketAddr, Running)> {
    let address = free_address()?;
    let path = files.write("haproxy.cfg", &config(setup, address, files))?;
    let mut command = foreign::command("haproxy")?;
    command.args(["-db", "-f", &path]);
    let program = foreign::start(command, address).await?;
    Ok((address, program))
}

fn config(setup: Setup, address: SocketAddr, files: &Files) -> String {
    let folder = files.folder().display();
    let (lowest, highest) = (setup.lowest().as_str(), setup.highest().as_str());
    let alpn = if setup.h2 { "h2,http/1.1" } else { "http/1.1" };
    let close = if setup.close { "option httpclose" } else { "" };
    let verify = if setup.client_certificate {
        format!("ca-file {folder}/ca.pem verify required")
    } else {
        String::new()
    };
    format!(
        r#"global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  {close}
frontend peers
  bind {address} ssl crt {folder}/server.both alpn {alpn} ssl-min-ver {lowest} ssl-max-ver {highest} {verify}
  http-request return status 200 content-type text/plain string "hello" hdr x-peer "version=%[ssl_fc_protocol] sni=%[ssl_fc_sni] resumed=%[ssl_fc_is_resumed] http=HTTP/%[req.ver]"
"#
    )
}
