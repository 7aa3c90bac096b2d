//! An upstream is its whole configuration.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::{ObjectRef, Reason, TlsOrigins, TlsSettings};

/// Position in [`crate::Snapshot::upstreams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamIndex(pub u32);

/// The host part of a `service`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UpstreamHost {
    /// A-label, lower case; a trailing dot is kept where the user wrote one (the lookup is absolute).
    Name(Arc<str>),
    /// An address.
    Ip(IpAddr),
}

impl fmt::Display for UpstreamHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// A port of a Kubernetes Service; the key of its endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Namespace of the Service.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The port that the Mapping asks for.
    pub port: u16,
}

/// How the host becomes socket addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resolve {
    /// These addresses: an IP literal, or `--resolve`.
    Fixed(Arc<[SocketAddr]>),
    /// DNS, for the name given (the host itself, or a Service's `externalName`).
    Dns(Arc<str>),
    /// The endpoints of a Service, from the [`crate::EndpointTable`].
    Service(ServiceKey),
}

/// Which HTTP version is spoken to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamHttp {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 by prior knowledge (cleartext), or over TLS when ALPN gives `h2` or nothing at all.
    Http2,
    /// What ALPN negotiated; HTTP/1.1 when it negotiated nothing.
    Negotiated,
}

/// Everything about an upstream that reaches the wire. Pools and session tickets are keyed by it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Host as configured; never an endpoint's address unless the user wrote one.
    pub host: UpstreamHost,
    /// Port as configured, or the default of the scheme.
    pub port: u16,
    /// How `host` is resolved.
    pub resolve: Resolve,
    /// Absent for cleartext.
    pub tls: Option<Arc<TlsSettings>>,
    /// HTTP version.
    pub http: UpstreamHttp,
}

/// An upstream and who uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Unique in a snapshot and stable across rotations: `https://example-service:443`, followed by
    /// ` (tls-context.default)` where a TLSContext applies. The `upstream` label of metrics.
    pub name: Arc<str>,
    /// What makes it itself.
    pub identity: Arc<Identity>,
    /// Mappings that send to it.
    pub mappings: Vec<ObjectRef>,
    /// Where its TLS settings came from; absent for cleartext.
    pub origins: Option<TlsOrigins>,
}

/// Why a Mapping cannot be served although it matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unresolved {
    /// `tls_config_unresolved` or `service_invalid`.
    pub reason: Reason,
    /// The sentence of the problem that was found.
    pub message: Arc<str>,
}
