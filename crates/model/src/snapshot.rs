//! The whole configuration at one moment.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::{
    ExpiryWarnings, Guards, HostTable, LoadedCertificate, ObjectRef, Problem, RouteTable, Upstream,
    UpstreamIndex,
};

/// What the workers serve. Published whole, never changed.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Counts compiles that were published.
    pub revision: u64,
    /// Ports to serve, ordered by port; no two with one port.
    pub listeners: Vec<Arc<Listener>>,
    /// What requests must pass.
    pub guards: Guards,
    /// Every distinct upstream.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Certificates that were loaded for it.
    pub certificates: Vec<LoadedCertificate>,
    /// What is wrong with the resources it was made from, in the order of the manifests.
    pub problems: Arc<[Problem]>,
    /// What applies to every request.
    pub settings: Settings,
    /// When and how it was made; none until whoever had it compiled says so, for compiling knows no clock.
    pub compiled: Option<Compiled>,
}

/// The making of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// When it was complete.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
}

impl Snapshot {
    /// The upstream at `index`; a snapshot never holds an index that is out of its range.
    pub fn upstream(&self, index: UpstreamIndex) -> &Arc<Upstream> {
        &self.upstreams[index.0 as usize]
    }
}

/// Settings of the `ambassador` Module that apply to every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The `server` response header.
    pub server_name: http::HeaderValue,
    /// Most bytes of request headers that are accepted.
    pub max_request_headers_bytes: usize,
    /// How long a client connection may be idle.
    pub client_idle_timeout: Duration,
    /// `//` in a path becomes `/`.
    pub merge_slashes: bool,
    /// A path with `%2F` or `%5C` is refused.
    pub reject_escaped_slashes: bool,
    /// HTTP/1.0 is served; else it is answered 426.
    pub enable_http10: bool,
    /// A `:port` in the authority that is the listener's own is taken off before hosts are compared.
    pub strip_matching_host_port: bool,
    /// Keep a client's `x-request-id`.
    pub preserve_external_request_id: bool,
    /// No `x-envoy-*` headers are added.
    pub suppress_envoy_headers: bool,
    /// TLS handshakes that a worker may have under way with one upstream; others wait their turn.
    pub upstream_max_handshakes: usize,
    /// Bytes a second that the body of a request must bring; 0 asks for no rate.
    pub min_request_rate: u64,
    /// How long before its end a certificate is warned of.
    pub certificate_expiry_warnings: ExpiryWarnings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server_name: http::HeaderValue::from_static("nuncio"),
            max_request_headers_bytes: 60 * 1024,
            client_idle_timeout: Duration::from_secs(3600),
            merge_slashes: false,
            reject_escaped_slashes: false,
            enable_http10: true,
            strip_matching_host_port: false,
            preserve_external_request_id: false,
            suppress_envoy_headers: false,
            upstream_max_handshakes: 16,
            min_request_rate: 1024,
            certificate_expiry_warnings: ExpiryWarnings::default(),
        }
    }
}

/// How a listener tells a secure request from an insecure one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecurityModel {
    /// By `x-forwarded-proto`.
    Xfp,
    /// Every request is secure.
    Secure,
    /// Every request is insecure.
    Insecure,
}

/// A port that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The Listener, or none for the one that file mode opens by itself.
    pub object: Option<ObjectRef>,
    /// Its name in logs: `name.namespace`, or `http-8080`.
    pub name: Arc<str>,
    /// TCP port on the bind address.
    pub port: u16,
    /// Whether secure.
    pub security_model: SecurityModel,
    /// Trusted proxies in front; decides whose `x-forwarded-for` and `x-forwarded-proto` count.
    pub l7_depth: u32,
    /// Its hosts.
    pub hosts: HostTable,
}

/// What an insecure request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InsecureAction {
    /// 301 to `https`.
    Redirect,
    /// Served like a secure one.
    Route,
    /// 404.
    Reject,
}

/// A Host on a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualHost {
    /// The Host, or none for the one made where no Host exists.
    pub object: Option<ObjectRef>,
    /// As the user wrote it: `*`, `*.a.test`, `a.*`, `a.test`, `a.test:8080`.
    pub hostname: Arc<str>,
    /// For insecure requests.
    pub insecure: InsecureAction,
    /// Its routes; shared with other hosts that have the same ones.
    pub routes: Arc<RouteTable>,
}
