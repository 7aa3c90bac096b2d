//! An upstream and its TLS settings, each with where it came from.

use std::net::SocketAddr;

use nuncio_model::{
    AutoSni, CertificateInfo, ClientIdentity, CrlSet, EndpointTable, Origin, Resolve, Roots, TlsOrigins,
    TlsSettings, Upstream, UpstreamHttp, hex,
};
use nuncio_tls::RequestName;
use serde_json::{Value, json};

/// A setting that is in force.
#[derive(Debug)]
pub(super) struct Setting {
    /// As JSON calls it.
    pub(super) name: &'static str,
    /// For programs.
    pub(super) value: Value,
    /// For people.
    pub(super) shown: String,
    /// Who said so.
    pub(super) origin: Origin,
}

/// All TLS settings of a request that is sent with this authority; none for cleartext.
pub(super) fn settings(upstream: &Upstream, authority: &str) -> Option<Vec<Setting>> {
    let configured = upstream.identity.tls.as_deref()?;
    let origins = upstream.origins.as_ref()?;
    let tls = RequestName::of(authority).settings(configured);
    let mut settings = names(&tls, origins);
    settings.extend(offers(&tls, origins));
    Some(settings)
}

/// The server name; where a request decides it, whose it is.
fn sni_shown(tls: &TlsSettings) -> String {
    match (&tls.sni, tls.auto_sni) {
        (Some(name), AutoSni::Off) => name.to_string(),
        (Some(name), _) => format!("{name}, from the Host header"),
        (None, AutoSni::Off) => "none is sent".to_owned(),
        (None, _) => "none is sent: the Host header has no name".to_owned(),
    }
}

fn setting(name: &'static str, value: Value, shown: String, origin: &Origin) -> Setting {
    Setting {
        name,
        value,
        shown,
        origin: origin.clone(),
    }
}

/// Who we say we are and whom we expect.
fn names(tls: &TlsSettings, origins: &TlsOrigins) -> Vec<Setting> {
    let sni = tls.sni.as_deref();
    let mode = tls.verify.mode.as_str();
    let expected: Vec<String> = tls.verify.names.iter().map(ToString::to_string).collect();
    let pins: Vec<String> = tls.verify.pins.iter().map(ToString::to_string).collect();
    let client = tls.client.as_deref().and_then(leaf);
    let shown = match (&tls.client, &client) {
        (None, _) => "none".to_owned(),
        (Some(_), Some(info)) => format!("{}, until {}", info.subject, info.not_after),
        (Some(_), None) => "one that cannot be described".to_owned(),
    };
    vec![
        setting("sni", json!(sni), sni_shown(tls), &origins.sni),
        setting("verify_mode", json!(mode), mode.to_owned(), &origins.verify_mode),
        setting(
            "verify_names",
            json!(expected),
            expected.join(", "),
            &origins.verify_names,
        ),
        setting(
            "roots",
            roots_value(&tls.verify.roots),
            roots_shown(&tls.verify.roots),
            &origins.roots,
        ),
        setting(
            "crl",
            crl_value(tls.verify.crls.as_deref()),
            crl_shown(tls.verify.crls.as_deref()),
            origins.crl.as_ref().unwrap_or(&Origin::BuiltIn),
        ),
        setting(
            "pins",
            json!(pins),
            if pins.is_empty() {
                "none".to_owned()
            } else {
                pins.join(", ")
            },
            origins.pins.as_ref().unwrap_or(&Origin::BuiltIn),
        ),
        Setting {
            name: "client_certificate",
            value: client_value(tls.client.as_deref(), client.as_ref()),
            shown,
            origin: origins.client_certificate.clone().unwrap_or(Origin::BuiltIn),
        },
    ]
}

/// What the hello offers.
fn offers(tls: &TlsSettings, origins: &TlsOrigins) -> Vec<Setting> {
    let (min, max) = (tls.min_version.as_str(), tls.max_version.as_str());
    let suites: Vec<&str> = tls.offered_cipher_suites().collect();
    let alpn: Vec<&str> = tls.offered_alpn().collect();
    vec![
        setting("min_version", json!(min), min.to_owned(), &origins.min_version),
        setting("max_version", json!(max), max.to_owned(), &origins.max_version),
        setting(
            "cipher_suites",
            json!(suites),
            in_words(&suites),
            &origins.cipher_suites,
        ),
        setting(
            "groups",
            json!(tls.offered_groups()),
            in_words(tls.offered_groups()),
            &origins.groups,
        ),
        setting("alpn", json!(alpn), in_words(&alpn), &origins.alpn),
    ]
}

fn in_words(list: &[&str]) -> String {
    if list.is_empty() {
        "none is sent".to_owned()
    } else {
        list.join(", ")
    }
}

/// The certificate that is shown; never the key.
fn leaf(identity: &ClientIdentity) -> Option<CertificateInfo> {
    nuncio_tls::describe(identity.chain.first()?).ok()
}

fn client_value(identity: Option<&ClientIdentity>, leaf: Option<&CertificateInfo>) -> Value {
    let value = |identity: &ClientIdentity| {
        json!({
            "subject": leaf.map(|leaf| &leaf.subject),
            "not_after": leaf.map(|leaf| &leaf.not_after),
            "sha256": leaf.map(|leaf| &leaf.sha256),
            "chain": identity.chain.len(),
        })
    };
    json!(identity.map(value))
}

fn roots_value(roots: &Roots) -> Value {
    let bundle = roots
        .bundle
        .as_ref()
        .map(|bundle| json!({ "certificates": bundle.anchors.len(), "sha256": hex(&bundle.digest) }));
    json!({ "bundle": bundle, "system": roots.system })
}

fn count(roots: &Roots) -> usize {
    roots.bundle.as_ref().map_or(0, |bundle| bundle.anchors.len())
}

fn roots_shown(roots: &Roots) -> String {
    match (count(roots), roots.system) {
        (0, false) => "none".to_owned(),
        (0, true) => "the system's".to_owned(),
        (1, system) => format!("1 CA certificate{}", also(system)),
        (many, system) => format!("{many} CA certificates{}", also(system)),
    }
}

fn also(system: bool) -> &'static str {
    if system { " and the system's" } else { "" }
}

fn crl_value(crls: Option<&CrlSet>) -> Value {
    json!(crls.map(|crls| json!({ "lists": crls.lists.len(), "sha256": hex(&crls.digest) })))
}

fn crl_shown(crls: Option<&CrlSet>) -> String {
    match crls.map_or(0, |crls| crls.lists.len()) {
        0 => "none".to_owned(),
        1 => "1 revocation list".to_owned(),
        many => format!("{many} revocation lists"),
    }
}

/// How the upstream's host becomes addresses.
pub(super) fn address(upstream: &Upstream, endpoints: &EndpointTable) -> String {
    match &upstream.identity.resolve {
        Resolve::Fixed(addresses) => listed(addresses),
        Resolve::Dns(name) => format!("by DNS, {name}"),
        Resolve::Service(key) => {
            let service = format!("Service {}.{}, port {}", key.name, key.namespace, key.port);
            match endpoints.addresses(key) {
                [] => format!("{service}: it has no endpoints"),
                addresses => format!("{service}: {}", listed(addresses)),
            }
        }
    }
}

fn listed(addresses: &[SocketAddr]) -> String {
    addresses
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// What is spoken above TCP or TLS, for people and for programs.
pub(super) fn protocol(upstream: &Upstream) -> (&'static str, &'static str) {
    match upstream.identity.http {
        UpstreamHttp::Http1 => ("HTTP/1.1", "http/1.1"),
        UpstreamHttp::Http2 => ("HTTP/2", "h2"),
        UpstreamHttp::Negotiated => ("what ALPN gives", "negotiated"),
    }
}

/// For programs.
pub(super) fn value(upstream: &Upstream, endpoints: &EndpointTable, authority: &str) -> Value {
    let tls = settings(upstream, authority).map(|settings| {
        let origins = upstream.origins.as_ref();
        let mut tls: serde_json::Map<String, Value> = settings
            .into_iter()
            .map(|one| {
                (
                    one.name.to_owned(),
                    json!({ "value": one.value, "origin": one.origin }),
                )
            })
            .collect();
        tls.insert(
            "enabled".to_owned(),
            json!({ "value": true, "origin": origins.map(|all| &all.enabled) }),
        );
        tls.insert(
            "context".to_owned(),
            json!(origins.and_then(|all| all.context.as_ref())),
        );
        tls.insert("stale".to_owned(), json!(origins.is_some_and(|all| all.stale)));
        tls
    });
    json!({
        "name": upstream.name,
        "host": upstream.identity.host.to_string(),
        "port": upstream.identity.port,
        "address": address(upstream, endpoints),
        "http": protocol(upstream).1,
        "tls": tls,
    })
}
