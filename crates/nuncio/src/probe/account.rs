//! What a probe found out, before anybody is told.

use std::net::SocketAddr;
use std::time::SystemTime;

use nuncio_model::{
    AutoSni, ClientCertificateReport, Failure, HandshakeReport, Identity, ObjectRef, Origin, Outcome,
    Problem, Roots, TlsOrigins, Unresolved, Upstream, UpstreamHost, VerifyMode, VerifyReport,
};
use nuncio_proxy::EndpointProbe;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::report::parts;

/// Of an upstream without TLS.
pub(super) const CLEARTEXT: &str = "connected in cleartext: there is no https:// in spec.service and no spec.tls, \
                                    so no TLS is spoken";

/// Everything there is to tell.
pub(super) struct Account<'a> {
    /// The Mapping, or the URL that was asked for.
    pub(super) shown: &'a str,
    /// What the manifests say against the Mapping and its TLSContext.
    pub(super) problems: &'a [&'a Problem],
    pub(super) finding: Finding<'a>,
}

/// How far it came.
pub(super) enum Finding<'a> {
    /// Nothing was tried.
    Unresolved(&'a Unresolved),
    /// Each endpoint was, or there is none.
    Probed {
        upstream: &'a Upstream,
        probes: &'a [EndpointProbe],
    },
}

impl Account<'_> {
    /// Whether the gateway could use every endpoint.
    pub(super) fn is_fine(&self) -> bool {
        match &self.finding {
            Finding::Unresolved(_) => false,
            Finding::Probed { probes, .. } => {
                !probes.is_empty() && probes.iter().all(|probe| probe.failure.is_none())
            }
        }
    }
}

/// The report of an endpoint: of its handshake, or of the connection on which none began.
pub(super) fn report(identity: &Identity, probe: &EndpointProbe) -> HandshakeReport {
    match &probe.report {
        Some(report) => report.clone(),
        None => without_handshake(Some(identity), probe.failure.as_ref()),
    }
}

/// The report where nothing was tried.
pub(super) fn report_unresolved(unresolved: &Unresolved) -> HandshakeReport {
    let (what, cure) = parts(&unresolved.message);
    let failure = Failure {
        reason: unresolved.reason,
        message: format!("{what}; nothing was sent to any upstream"),
        remedy: cure.unwrap_or_default().to_owned(),
    };
    without_handshake(None, Some(&failure))
}

fn without_handshake(identity: Option<&Identity>, failure: Option<&Failure>) -> HandshakeReport {
    let outcome = failure.map_or(Outcome::Ok, |failure| Outcome::Failed(failure.reason));
    let tls = identity.and_then(|identity| identity.tls.as_deref());
    let names = tls.map(|tls| tls.verify.names.iter().map(ToString::to_string).collect());
    HandshakeReport {
        outcome,
        message: failure.map_or_else(|| CLEARTEXT.to_owned(), |failure| failure.message.clone()),
        remedy: failure.map(|failure| failure.remedy.clone()).unwrap_or_default(),
        at: OffsetDateTime::from(SystemTime::now())
            .format(&Rfc3339)
            .unwrap_or_default(),
        sni: tls.and_then(|tls| tls.sni.as_deref().map(str::to_owned)),
        version: None,
        cipher: None,
        group: None,
        alpn: None,
        resumed: false,
        hello_retried: false,
        duration_ms: 0.0,
        client_certificate: ClientCertificateReport::default(),
        verify: VerifyReport {
            mode: tls.map_or(VerifyMode::None, |tls| tls.verify.mode),
            result: outcome,
            names: names.unwrap_or_default(),
        },
        peer: Vec::new(),
    }
}

/// Whether each request decides the server name.
pub(super) fn has_auto_sni(upstream: &Upstream) -> bool {
    let tls = upstream.identity.tls.as_deref();
    tls.is_some_and(|tls| tls.auto_sni != AutoSni::Off)
}

/// Why no server name is sent; none where one is, or no TLS is spoken.
pub(super) fn why_no_server_name(upstream: &Upstream) -> Option<String> {
    let tls = upstream.identity.tls.as_deref()?;
    if tls.sni.is_some() {
        return None;
    }
    if tls.auto_sni != AutoSni::Off {
        return Some(
            "each request sends its own host (auto_sni), and no name is known; name one with --host".into(),
        );
    }
    let from = upstream.origins.as_ref().map(|origins| &origins.sni);
    let what = match (from, &upstream.identity.host) {
        (Some(Origin::Field { object, field }), _) if &**field != "spec.service" => {
            format!("{field} of {object} is no DNS name")
        }
        (_, UpstreamHost::Ip(ip)) => format!("the host of spec.service is the address {ip}"),
        (_, UpstreamHost::Name(name)) => format!("`{name}` is no name that can be sent"),
    };
    Some(format!("{what}; set spec.sni to send one"))
}

/// The fields that a remedy names by `spec.` stand in this TLSContext.
pub(super) fn context(origins: &TlsOrigins) -> Option<String> {
    origins.context.as_ref().map(ObjectRef::qualified)
}

/// Subjects of the CA certificates that were configured.
pub(super) fn authorities(roots: &Roots) -> Vec<String> {
    let anchors = roots.bundle.iter().flat_map(|bundle| &bundle.anchors);
    anchors
        .filter_map(|der| nuncio_tls::describe(der).ok())
        .map(|info| info.subject)
        .collect()
}

/// Whole days from now to a time in seconds since 1970; negative when it has passed.
pub(super) fn days_left(end: i64) -> i64 {
    (end - OffsetDateTime::from(SystemTime::now()).unix_timestamp()).div_euclid(24 * 60 * 60)
}

/// Where the connection went.
pub(super) fn address(probe: &EndpointProbe) -> Option<String> {
    probe.address.as_ref().map(SocketAddr::to_string)
}
