//! From a TLSContext and a Mapping to the TLS settings of one upstream.

use std::sync::Arc;

use nuncio_model::{
    Alpn, AutoSni, Origin, Roots, TlsOrigins, TlsSettings, UpstreamHost, UpstreamHttp, Verify, VerifyName,
};

use crate::context::{ContextTls, Protocols, ServerName, Sourced};
use crate::names;
use crate::service::ClusterName;

/// What of a Mapping decides about TLS.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    /// The `https://` of `service`, or `tls`.
    pub(crate) enabled: Origin,
    /// Host of `service`, in its namespace.
    pub(crate) host: &'a UpstreamHost,
    /// Where `host` stands.
    pub(crate) host_origin: Origin,
    /// The Kubernetes Service that `host` means.
    pub(crate) cluster: Option<ClusterName<'a>>,
    /// `host_rewrite`, where it can be a server name; with `auto_sni`, that of `auto_host_rewrite` too.
    pub(crate) host_rewrite: Option<Sourced<ServerName>>,
    /// The authority that is sent is each request's own.
    pub(crate) keeps_authority: bool,
    /// `grpc`
    pub(crate) grpc: Option<Sourced<bool>>,
    /// The context is broken and these are the settings it had.
    pub(crate) stale: bool,
}

/// The settings, where each came from, and the HTTP version that goes with them.
#[derive(Debug)]
pub(crate) struct Originated {
    pub(crate) settings: TlsSettings,
    pub(crate) origins: TlsOrigins,
    pub(crate) http: UpstreamHttp,
}

/// What `host_rewrite` is as a server name (rows S2, S4): without port, and nothing where it is no
/// name at all.
pub(crate) fn server_name(authority: &str) -> Option<ServerName> {
    let host = names::without_port(authority);
    if let Some(ip) = names::ip(host) {
        return Some(ServerName::Ip(ip));
    }
    let name = names::dns_name(host).ok()?;
    let name = name.trim_end_matches('.');
    names::is_server_name(name).then(|| ServerName::Dns(name.into()))
}

/// Puts the settings of one upstream together.
pub(crate) fn originate(tls: &ContextTls, wish: Wish<'_>) -> Originated {
    let (name, sni_origin) = name_sent(tls, &wish);
    let (names, names_origin) = names_verified(tls, &wish, &name, &sni_origin);
    let (offered, http, alpn_origin) = protocols(tls, wish.grpc.as_ref());
    // Where the authority that is sent is always the same, so is the server name.
    let auto_sni = tls.auto_sni.as_ref().filter(|_| wish.keeps_authority);
    let settings = TlsSettings {
        auto_sni: match (auto_sni, &tls.verify_names) {
            (None, _) => AutoSni::Off,
            (Some(_), None) => AutoSni::SentAndVerified,
            (Some(_), Some(_)) => AutoSni::Sent,
        },
        sni: match name {
            _ if auto_sni.is_some() => None,
            ServerName::Dns(name) if names::is_server_name(&name) => Some(name),
            ServerName::Dns(_) | ServerName::Ip(_) => None,
        },
        verify: Verify {
            mode: tls.verify_mode.value,
            names,
            roots: Roots {
                bundle: tls.bundle.as_ref().map(|bundle| Arc::clone(&bundle.value)),
                system: tls.system_roots.is_some(),
            },
            crls: tls.crls.as_ref().map(|crls| Arc::clone(&crls.value)),
            pins: tls
                .pins
                .as_ref()
                .map_or_else(|| Arc::from([]), |pins| Arc::clone(&pins.value)),
        },
        client: tls.client.as_ref().map(|client| Arc::clone(&client.value)),
        min_version: tls.min_version.value,
        max_version: tls.max_version.value,
        cipher_suites: Arc::clone(&tls.cipher_suites.value),
        groups: Arc::clone(&tls.groups.value),
        alpn: offered.spoken,
        foreign_alpn: offered.foreign,
    };
    let origins = TlsOrigins {
        enabled: wish.enabled,
        context: tls.context.clone(),
        stale: wish.stale,
        sni: auto_sni.cloned().unwrap_or(sni_origin),
        auto_sni: auto_sni.cloned(),
        verify_mode: tls.verify_mode.origin.clone(),
        verify_names: auto_sni
            .filter(|_| tls.verify_names.is_none())
            .cloned()
            .unwrap_or(names_origin),
        roots: roots_origin(tls),
        crl: tls.crls.as_ref().map(|crls| crls.origin.clone()),
        pins: tls.pins.as_ref().map(|pins| pins.origin.clone()),
        client_certificate: tls.client.as_ref().map(|client| client.origin.clone()),
        min_version: tls.min_version.origin.clone(),
        max_version: tls.max_version.origin.clone(),
        cipher_suites: tls.cipher_suites.origin.clone(),
        groups: tls.groups.origin.clone(),
        alpn: alpn_origin,
    };
    Originated {
        settings,
        origins,
        http,
    }
}

/// Decision 3: `sni`, else `host_rewrite`, else the host of `service`.
fn name_sent(tls: &ContextTls, wish: &Wish<'_>) -> (ServerName, Origin) {
    if let Some(Sourced { value, origin }) = tls.sni.as_ref().or(wish.host_rewrite.as_ref()) {
        return (value.clone(), origin.clone());
    }
    let name = match wish.host {
        UpstreamHost::Name(name) => ServerName::Dns(match name.strip_suffix('.') {
            Some(name) => name.into(),
            None => Arc::clone(name),
        }),
        UpstreamHost::Ip(ip) => ServerName::Ip(*ip),
    };
    (name, wish.host_origin.clone())
}

/// The configured names, else the name that was asked for by `sni` or `host_rewrite`, else the host of
/// `service` with the other forms that the cluster knows it by (row S13).
fn names_verified(
    tls: &ContextTls,
    wish: &Wish<'_>,
    sent: &ServerName,
    sent_origin: &Origin,
) -> (Arc<[VerifyName]>, Origin) {
    if let Some(Sourced { value, origin }) = &tls.verify_names {
        return (Arc::clone(value), origin.clone());
    }
    let first = match sent {
        ServerName::Dns(name) => VerifyName::Dns(Arc::clone(name)),
        ServerName::Ip(ip) => VerifyName::Ip(*ip),
    };
    let chosen = tls.sni.is_some() || wish.host_rewrite.is_some();
    let names = match wish.cluster.filter(|_| !chosen) {
        Some(cluster) => {
            let forms = cluster.forms().map(|form| VerifyName::Dns(form.into()));
            let others = forms.into_iter().filter(|form| *form != first);
            std::iter::once(first.clone()).chain(others).collect()
        }
        None => Arc::from([first]),
    };
    (names, sent_origin.clone())
}

/// Decision 9: one choice for both what ALPN offers and what is spoken.
fn protocols(tls: &ContextTls, grpc: Option<&Sourced<bool>>) -> (Protocols, UpstreamHttp, Origin) {
    let grpc = grpc.filter(|grpc| grpc.value);
    let (offered, origin) = match (&tls.alpn, grpc) {
        (Some(alpn), _) => (alpn.value.clone(), alpn.origin.clone()),
        (None, Some(grpc)) => (Protocols::spoken([Alpn::H2, Alpn::Http1]), grpc.origin.clone()),
        (None, None) => (Protocols::spoken([Alpn::Http1]), Origin::BuiltIn),
    };
    let http = if grpc.is_some() {
        UpstreamHttp::Http2
    } else if offered.offer_http2() {
        UpstreamHttp::Negotiated
    } else {
        UpstreamHttp::Http1
    };
    (offered, http, origin)
}

fn roots_origin(tls: &ContextTls) -> Origin {
    let bundle = tls.bundle.as_ref().map(|bundle| bundle.origin.clone());
    bundle
        .or_else(|| tls.system_roots.clone())
        .unwrap_or(Origin::BuiltIn)
}
