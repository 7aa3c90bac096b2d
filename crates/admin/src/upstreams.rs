//! `/api/v1/upstreams`: every upstream, its TLS settings with the origin of each, and how it fares.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use nuncio_model::{
    AutoSni, CertificateInfo, ClientIdentity, CrlSet, EndpointStatus, ObjectRef, Origin, OtherOrigins,
    Resolve, Roots, Snapshot, TlsOrigins, TlsSettings, TlsVersion, Upstream, UpstreamHttp, UpstreamIndex,
    UpstreamStatus, VerifyMode, hex,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::Admin;

/// Certificates of the snapshot by fingerprint.
type Loaded<'a> = HashMap<&'a str, &'a CertificateInfo>;

/// In the order of the snapshot.
#[derive(Debug, Serialize)]
pub(crate) struct Upstreams<'a> {
    upstreams: Vec<UpstreamView<'a>>,
}

impl<'a> Upstreams<'a> {
    pub(crate) fn of(admin: &Admin, snapshot: &'a Snapshot) -> Self {
        let loaded: Loaded<'_> = snapshot
            .certificates
            .iter()
            .map(|loaded| (&*loaded.info.sha256, &*loaded.info))
            .collect();
        let views = with_status(admin, snapshot);
        Self {
            upstreams: views
                .map(|(upstream, status)| UpstreamView::of(&loaded, upstream, status))
                .collect(),
        }
    }
}

/// Every upstream as configured and as it is now.
pub(crate) fn with_status<'a>(
    admin: &Admin,
    snapshot: &'a Snapshot,
) -> impl Iterator<Item = (&'a Arc<Upstream>, UpstreamStatus)> {
    let indexes = (0..).map(UpstreamIndex);
    indexes
        .zip(&snapshot.upstreams)
        .map(|(index, upstream)| (upstream, admin.live.upstream(snapshot, index)))
}

#[derive(Debug, Serialize)]
struct UpstreamView<'a> {
    name: &'a str,
    mappings: &'a [ObjectRef],
    /// `host:port` as configured.
    address: String,
    resolve: ResolveView<'a>,
    /// `http/1.1`, `h2`, or `negotiated` where ALPN decides.
    http: &'static str,
    /// Absent for cleartext.
    tls: Option<TlsView<'a>>,
    /// The TLSContext is broken, and its last good version serves.
    stale: bool,
    endpoints: Vec<EndpointStatus>,
    /// Most first.
    failures: Vec<FailureCount>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum ResolveView<'a> {
    Fixed(&'a [SocketAddr]),
    Dns(&'a str),
    /// `name.namespace:port`
    Service(String),
}

#[derive(Debug, Serialize)]
struct FailureCount {
    reason: String,
    count: u64,
}

impl<'a> UpstreamView<'a> {
    fn of(loaded: &Loaded<'a>, upstream: &'a Upstream, status: UpstreamStatus) -> Self {
        let identity = &upstream.identity;
        let settings = identity.tls.as_deref().zip(upstream.origins.as_ref());
        Self {
            name: &upstream.name,
            mappings: &upstream.mappings,
            address: format!("{}:{}", identity.host, identity.port),
            resolve: ResolveView::of(&identity.resolve),
            http: match identity.http {
                UpstreamHttp::Http1 => "http/1.1",
                UpstreamHttp::Http2 => "h2",
                UpstreamHttp::Negotiated => "negotiated",
            },
            tls: settings.map(|(settings, origins)| TlsView::of(loaded, settings, upstream, origins)),
            stale: upstream.is_stale(),
            endpoints: status.endpoints,
            failures: status
                .failures
                .into_iter()
                .map(|(reason, count)| FailureCount { reason, count })
                .collect(),
        }
    }
}

impl<'a> ResolveView<'a> {
    fn of(resolve: &'a Resolve) -> Self {
        match resolve {
            Resolve::Fixed(addresses) => Self::Fixed(addresses),
            Resolve::Dns(name) => Self::Dns(name),
            Resolve::Service(key) => Self::Service(format!("{}.{}:{}", key.name, key.namespace, key.port)),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Serialize)]
struct Sourced<'a, T> {
    value: T,
    origin: &'a Origin,
}

fn from<T>(origin: &Origin, value: T) -> Sourced<'_, T> {
    Sourced { value, origin }
}

/// The settings in force; what is left to us is shown as what we make of it.
#[derive(Debug, Serialize)]
struct TlsView<'a> {
    /// The Mapping that has the settings from where they are said to be from; the fields of the others are called the
    /// same, but for those of `other_origins`.
    origins_of: Option<&'a ObjectRef>,
    enabled: Sourced<'a, bool>,
    context: Option<&'a ObjectRef>,
    sni: Sourced<'a, Option<&'a str>>,
    /// Each request decides the server name; `sni` and perhaps `verify_names` are those of one without a name.
    auto_sni: Sourced<'a, bool>,
    verify_mode: Sourced<'a, VerifyMode>,
    verify_names: Sourced<'a, Vec<String>>,
    roots: Sourced<'a, RootsView>,
    crl: Sourced<'a, Option<CrlView>>,
    pins: Sourced<'a, Vec<String>>,
    client_certificate: Sourced<'a, Option<ClientView<'a>>>,
    min_version: Sourced<'a, TlsVersion>,
    max_version: Sourced<'a, TlsVersion>,
    cipher_suites: Sourced<'a, Vec<&'static str>>,
    groups: Sourced<'a, &'a [&'static str]>,
    alpn: Sourced<'a, Vec<&'a str>>,
    /// Mappings that have the same settings from elsewhere.
    #[serde(skip_serializing_if = "<[OtherOrigins]>::is_empty")]
    other_origins: &'a [OtherOrigins],
}

impl<'a> TlsView<'a> {
    fn of(
        loaded: &Loaded<'a>,
        settings: &'a TlsSettings,
        upstream: &'a Upstream,
        origins: &'a TlsOrigins,
    ) -> Self {
        let names = settings.verify.names.iter().map(ToString::to_string).collect();
        let client = settings
            .client
            .as_deref()
            .map(|client| ClientView::of(loaded, client));
        let pins = settings.verify.pins.iter().map(ToString::to_string).collect();
        let crl = settings.verify.crls.as_deref().map(CrlView::of);
        let or_built_in = |origin: &'a Option<Origin>| origin.as_ref().unwrap_or(&Origin::BuiltIn);
        Self {
            origins_of: upstream.mappings.first(),
            other_origins: &upstream.other_origins,
            enabled: from(&origins.enabled, true),
            context: origins.context.as_ref(),
            sni: from(&origins.sni, settings.sni.as_deref()),
            auto_sni: from(or_built_in(&origins.auto_sni), settings.auto_sni != AutoSni::Off),
            verify_mode: from(&origins.verify_mode, settings.verify.mode),
            verify_names: from(&origins.verify_names, names),
            roots: from(&origins.roots, RootsView::of(&settings.verify.roots)),
            crl: from(or_built_in(&origins.crl), crl),
            pins: from(or_built_in(&origins.pins), pins),
            client_certificate: from(or_built_in(&origins.client_certificate), client),
            min_version: from(&origins.min_version, settings.min_version),
            max_version: from(&origins.max_version, settings.max_version),
            cipher_suites: from(&origins.cipher_suites, settings.offered_cipher_suites().collect()),
            groups: from(&origins.groups, settings.offered_groups()),
            alpn: from(&origins.alpn, settings.offered_alpn().collect()),
        }
    }
}

#[derive(Debug, Serialize)]
struct RootsView {
    /// The CA bundle that was configured.
    bundle: Option<BundleView>,
    /// The system's roots.
    system: bool,
}

#[derive(Debug, Serialize)]
struct BundleView {
    certificates: usize,
    /// Over all of them; equal bundles have equal digests.
    sha256: String,
}

impl RootsView {
    fn of(roots: &Roots) -> Self {
        let bundle = roots.bundle.as_ref();
        let bundle = bundle.map(|b| BundleView {
            certificates: b.anchors.len(),
            sha256: hex(&b.digest),
        });
        Self {
            bundle,
            system: roots.system,
        }
    }
}

/// The revocation lists.
#[derive(Debug, Serialize)]
struct CrlView {
    lists: usize,
    /// Over all of them; equal sets have equal digests.
    sha256: String,
}

impl CrlView {
    fn of(crls: &CrlSet) -> Self {
        Self {
            lists: crls.lists.len(),
            sha256: hex(&crls.digest),
        }
    }
}

/// The leaf of a client certificate; `/api/v1/certificates` has the rest under its fingerprint.
#[derive(Debug, Serialize)]
struct ClientView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<&'a str>,
    sha256: String,
    /// Certificates that are sent.
    chain: usize,
}

impl<'a> ClientView<'a> {
    fn of(loaded: &Loaded<'a>, client: &ClientIdentity) -> Self {
        let sha256 = client
            .chain
            .first()
            .map(|leaf| hex(&Sha256::digest(leaf)))
            .unwrap_or_default();
        let info = loaded.get(&*sha256);
        Self {
            subject: info.map(|info| &*info.subject),
            not_after: info.map(|info| &*info.not_after),
            sha256,
            chain: client.chain.len(),
        }
    }
}
