//! HAProxy.

use std::net::{Ipv4Addr, SocketAddr};

use crate::Result;
use crate::files::Files;
use crate::process::{Process, free_port};
use crate::servers::Setup;

pub(super) fn start(setup: Setup, files: &Files) -> Result<(SocketAddr, Process)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let path = files.write("haproxy.cfg", &config(setup, address, files))?;
    let mut process = Process::start("haproxy", &["-db", "-f", &path.display().to_string()], &[])?;
    process.wait_for_port(address)?;
    Ok((address, process))
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
