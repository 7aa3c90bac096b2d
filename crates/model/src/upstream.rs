//! An upstream is its whole configuration.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::Serialize;

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
    /// Where its TLS settings came from, as the first of its Mappings has them; absent for cleartext.
    pub origins: Option<TlsOrigins>,
    /// Mappings that have the same settings from elsewhere: from a field of another name, or another TLSContext.
    pub other_origins: Vec<OtherOrigins>,
}

/// Mappings of an upstream to which the same is to be told of where its settings came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OtherOrigins {
    /// At least one.
    pub mappings: Vec<ObjectRef>,
    /// As the first of them has them.
    pub origins: TlsOrigins,
}

impl Upstream {
    /// Takes in one more Mapping that uses it, with where the settings came from.
    pub fn join(&mut self, mapping: &ObjectRef, origins: Option<TlsOrigins>) {
        if let Some(origins) = origins
            && !self.has_told(mapping, &origins)
        {
            let like = |other: &&mut OtherOrigins| {
                let first = other.mappings.first();
                first.is_some_and(|first| other.origins.say_the_same(first, &origins, mapping))
            };
            match self.other_origins.iter_mut().find(like) {
                Some(other) => other.mappings.push(mapping.clone()),
                None => self.other_origins.push(OtherOrigins {
                    mappings: vec![mapping.clone()],
                    origins,
                }),
            }
        }
        self.mappings.push(mapping.clone());
    }

    fn has_told(&self, mapping: &ObjectRef, origins: &TlsOrigins) -> bool {
        let (own, first) = (self.origins.as_ref(), self.mappings.first());
        own.zip(first)
            .is_some_and(|(own, first)| own.say_the_same(first, origins, mapping))
    }

    /// Where its settings came from, as `mapping` has them.
    pub fn origins_of(&self, mapping: &ObjectRef) -> Option<TlsOrigins> {
        let other = self
            .other_origins
            .iter()
            .find(|other| other.mappings.contains(mapping));
        let (origins, told_of) = match other {
            Some(other) => (&other.origins, &other.mappings),
            None => (self.origins.as_ref()?, &self.mappings),
        };
        Some(match told_of.first() {
            Some(first) => origins.told_of(first, mapping),
            None => origins.clone(),
        })
    }

    /// The same upstream, told of as `mapping` has it.
    pub fn as_of(&self, mapping: &ObjectRef) -> Self {
        Self {
            origins: self.origins_of(mapping),
            ..self.clone()
        }
    }

    /// All that is told of where its settings came from, of the first Mapping first.
    pub fn all_origins(&self) -> impl Iterator<Item = &TlsOrigins> {
        let others = self.other_origins.iter().map(|other| &other.origins);
        self.origins.iter().chain(others)
    }

    /// Whether a TLSContext of any of its Mappings is broken, and its last good version serves.
    pub fn is_stale(&self) -> bool {
        self.all_origins().any(|origins| origins.stale)
    }
}

/// Why a Mapping cannot be served although it matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unresolved {
    /// `tls_config_unresolved` or `service_invalid`.
    pub reason: Reason,
    /// The sentence of the problem that was found.
    pub message: Arc<str>,
}
