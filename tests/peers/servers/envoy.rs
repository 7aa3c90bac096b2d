//! Envoy: the TLS stack of BoringSSL. It does not say whether a session was resumed.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::super::Result;
use super::super::files::Files;
use super::super::foreign::{self, free_address};
use super::{Setup, Version};
use crate::support::program::Running;

const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions";

pub(super) async fn start(setup: Setup, files: &Files) -> Result<(SocketAddr, Running)> {
    let address = free_address()?;
    let path = files.write("envoy.json", &config(setup, address, files).to_string())?;
    let mut command = foreign::command("envoy")?;
    command.args([
        "-c",
        &path,
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "-l",
        "error",
    ]);
    let program = foreign::start(command, address).await?;
    Ok((address, program))
}

fn config(setup: Setup, address: SocketAddr, files: &Files) -> Value {
    json!({"static_resources": {"listeners": [{
        "name": "peers",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": address.port()}},
        // Reads the SNI.
        "listener_filters": [{"name": "tls_inspector", "typed_config": {
            "@type": format!("{EXTENSIONS}.filters.listener.tls_inspector.v3.TlsInspector"),
        }}],
        "filter_chains": [{
            "transport_socket": {"name": "tls", "typed_config": transport(setup, files)},
            "filters": [{"name": "http", "typed_config": connection_manager(setup)}],
        }],
    }]}})
}

fn transport(setup: Setup, files: &Files) -> Value {
    let version = |version| match version {
        Version::Tls12 => "TLSv1_2",
        Version::Tls13 => "TLSv1_3",
    };
    let file = |name: &str| json!({"filename": files.path(name)});
    let alpn = if setup.h2 {
        json!(["h2", "http/1.1"])
    } else {
        json!(["http/1.1"])
    };
    let mut common = json!({
        "alpn_protocols": alpn,
        "tls_params": {
            "tls_minimum_protocol_version": version(setup.lowest()),
            "tls_maximum_protocol_version": version(setup.highest()),
        },
        "tls_certificates": [{"certificate_chain": file("server.pem"), "private_key": file("server.key")}],
    });
    if setup.client_certificate {
        common["validation_context"] = json!({"trusted_ca": file("ca.pem")});
    }
    json!({
        "@type": format!("{EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext"),
        "require_client_certificate": setup.client_certificate,
        "common_tls_context": common,
    })
}

fn connection_manager(setup: Setup) -> Value {
    let requests = if setup.close { 1 } else { 0 };
    let seen = "version=%DOWNSTREAM_TLS_VERSION% sni=%REQUESTED_SERVER_NAME% http=%PROTOCOL%";
    json!({
        "@type": format!("{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "peers",
        "common_http_protocol_options": {"max_requests_per_connection": requests},
        "route_config": {"virtual_hosts": [{
            "name": "peers", "domains": ["*"],
            "response_headers_to_add": [{"header": {"key": "x-peer", "value": seen}}],
            "routes": [{
                "match": {"prefix": "/"},
                "direct_response": {"status": 200, "body": {"inline_string": "hello"}},
            }],
        }]},
        "http_filters": [{"name": "router", "typed_config": {
            "@type": format!("{EXTENSIONS}.filters.http.router.v3.Router"),
        }}],
    })
}

/// How Envoy stands beside the gateway, in front of the same upstream.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Proxy {
    /// Empty path segments are dropped.
    pub(in super::super) merge_slashes: bool,
    /// So many proxies in front are trusted.
    pub(in super::super) trusted_hops: u32,
}

/// Starts Envoy as a proxy, set up as Emissary-ingress does it.
pub(in super::super) async fn start_proxy(
    proxy: Proxy,
    upstream: SocketAddr,
    files: &Files,
) -> Result<(SocketAddr, Running)> {
    let address = free_address()?;
    let name = format!("envoy-{}.json", address.port());
    let path = files.write(&name, &proxy_config(proxy, address, upstream).to_string())?;
    let mut command = foreign::command("envoy")?;
    command.args(["-c", &path, "--concurrency", "1", "--disable-hot-restart"]);
    command.args(["-l", "error"]);
    let program = foreign::start(command, address).await?;
    Ok((address, program))
}

fn proxy_config(proxy: Proxy, address: SocketAddr, upstream: SocketAddr) -> Value {
    let at = |address: SocketAddr| json!({"socket_address": {"address": "127.0.0.1", "port_value": address.port()}});
    json!({"static_resources": {
        "listeners": [{
            "name": "peers",
            "address": at(address),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": {
                "@type": format!("{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
                "stat_prefix": "peers",
                "normalize_path": true,
                "merge_slashes": proxy.merge_slashes,
                "use_remote_address": true,
                // What it refuses it need not wait for.
                "delayed_close_timeout": "0s",
                "xff_num_trusted_hops": proxy.trusted_hops,
                "route_config": {"virtual_hosts": [{
                    "name": "peers", "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}],
                }]},
                "http_filters": [{"name": "router", "typed_config": {
                    "@type": format!("{EXTENSIONS}.filters.http.router.v3.Router"),
                }}],
            }}]}],
        }],
        "clusters": [{
            "name": "upstream",
            "type": "STATIC",
            "load_assignment": {"cluster_name": "upstream", "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": at(upstream)}}]},
            ]},
        }],
    }})
}
