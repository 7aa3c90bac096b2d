//! A probe for programs: the handshake report of the public interface, and more beside it.

use nuncio_model::{HandshakeReport, TlsSettings, Upstream};
use nuncio_proxy::EndpointProbe;
use serde_json::{Map, Value, json};

use super::account::{self, Account, Finding};

/// One endpoint: its report, with everything else beside it. Several or none: a list of them, each with its
/// address and report.
pub(super) fn render(account: &Account<'_>) -> String {
    let mut whole = match &account.finding {
        Finding::Unresolved(unresolved) => {
            let mut report = object(&account::report_unresolved(unresolved));
            // Nobody knows what would have been in force.
            report["verify"]["mode"] = Value::Null;
            report.insert("verdicts".to_owned(), json!([]));
            report
        }
        Finding::Probed { upstream, probes } => match probes {
            [probe] => endpoint(upstream, probe),
            several => {
                let entry = |probe| json!({ "address": account::address(probe), "last_handshake": endpoint(upstream, probe) });
                Map::from_iter([("endpoints".to_owned(), several.iter().map(entry).collect())])
            }
        },
    };
    for (name, value) in shared(account) {
        whole.insert(name.to_owned(), value);
    }
    format!("{:#}", Value::Object(whole))
}

/// What is the same for all endpoints.
fn shared(account: &Account<'_>) -> [(&'static str, Value); 6] {
    let upstream = match &account.finding {
        Finding::Unresolved(_) => None,
        Finding::Probed { upstream, .. } => Some(*upstream),
    };
    let tls = upstream.and_then(|upstream| upstream.identity.tls.as_deref());
    let origins = upstream.and_then(|upstream| upstream.origins.as_ref());
    [
        ("target", json!(account.shown)),
        ("upstream", json!(upstream.map(|upstream| &upstream.name))),
        ("tls_context", json!(origins.map(|origins| &origins.context))),
        (
            "offered",
            json!(upstream.zip(tls).map(|(upstream, tls)| offered(upstream, tls))),
        ),
        ("judged_by", json!(tls.map(judged_by))),
        ("problems", json!(account.problems)),
    ]
}

fn offered(upstream: &Upstream, tls: &TlsSettings) -> Value {
    let mut offered = json!(nuncio_tls::offer(tls));
    offered["auto_sni"] = json!(account::has_auto_sni(upstream));
    offered["no_sni_because"] = json!(account::why_no_server_name(upstream));
    offered
}

fn judged_by(tls: &TlsSettings) -> Value {
    let roots = nuncio_tls::judging_roots(tls);
    json!({ "ca": account::authorities(&roots), "system": roots.system })
}

fn endpoint(upstream: &Upstream, probe: &EndpointProbe) -> Map<String, Value> {
    let mut report = object(&account::report(&upstream.identity, probe));
    report.insert("endpoint".to_owned(), json!(account::address(probe)));
    report.insert("verdicts".to_owned(), json!(probe.verdicts));
    report
}

/// The report with the days that are left to each certificate.
fn object(report: &HandshakeReport) -> Map<String, Value> {
    let mut value = json!(report);
    for (position, certificate) in report.peer.iter().enumerate() {
        value["peer"][position]["days_left"] = json!(account::days_left(certificate.not_after_seconds));
    }
    match value {
        Value::Object(object) => object,
        // A struct is always an object.
        _ => Map::new(),
    }
}
