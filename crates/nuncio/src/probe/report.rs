//! How a probe is told, to people and to programs.

use std::fmt::Write;
use std::time::SystemTime;

use nuncio_model::{
    CertificateInfo, ClientCertificateReport, Failure, HandshakeReport, Identity, Outcome, Unresolved,
    Upstream, VerifyMode, VerifyReport,
};
use nuncio_proxy::EndpointProbe;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::Format;
use crate::output;

/// Characters of a sentence.
const WIDTH: usize = 96;

/// A Mapping with which nothing could be tried.
pub(super) fn unresolved(shown: &str, unresolved: &Unresolved, format: Format) -> String {
    let (code, message) = (unresolved.reason.code(), &unresolved.message);
    match format {
        Format::Json => json!({ "outcome": code, "message": message, "remedy": "", "at": now() }).to_string(),
        Format::Text => {
            let lines = failure_lines(code, message, "");
            format!("{shown}: {lines}\n  nothing was sent to any upstream")
        }
    }
}

/// One endpoint: its handshake report. Several or none: a list of them with their addresses.
pub(super) fn json(identity: &Identity, probes: &[EndpointProbe]) -> String {
    let value = match probes {
        [probe] => handshake(identity, probe),
        several => {
            let endpoints: Vec<Value> = several
                .iter()
                .map(|probe| json!({ "address": address(probe), "last_handshake": handshake(identity, probe) }))
                .collect();
            json!({ "endpoints": endpoints })
        }
    };
    format!("{value:#}")
}

fn handshake(identity: &Identity, probe: &EndpointProbe) -> Value {
    let report = match (&probe.report, &probe.failure) {
        (Some(report), _) => serde_json::to_value(report),
        (None, failure) => serde_json::to_value(without_handshake(identity, failure.as_ref())),
    };
    report.unwrap_or_default()
}

/// The report of a connection on which TLS was not begun: it failed before, or none is spoken.
fn without_handshake(identity: &Identity, failure: Option<&Failure>) -> HandshakeReport {
    let outcome = failure.map_or(Outcome::Ok, |failure| Outcome::Failed(failure.reason));
    let tls = identity.tls.as_ref();
    let names = tls.map(|tls| tls.verify.names.iter().map(ToString::to_string).collect());
    HandshakeReport {
        outcome,
        message: failure.map_or_else(|| CLEARTEXT.to_owned(), |failure| failure.message.clone()),
        remedy: failure.map(|failure| failure.remedy.clone()).unwrap_or_default(),
        at: now(),
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

const CLEARTEXT: &str = "connected; no TLS is spoken with this upstream";

fn now() -> String {
    OffsetDateTime::from(SystemTime::now())
        .format(&Rfc3339)
        .unwrap_or_default()
}

fn address(probe: &EndpointProbe) -> Option<String> {
    probe.address.map(|address| address.to_string())
}

/// A block for each endpoint.
pub(super) fn text(shown: &str, upstream: &Upstream, probes: &[EndpointProbe]) -> String {
    let mut text = format!("{shown} sends to {}", upstream.name);
    if probes.is_empty() {
        text.push_str("\n\nno endpoint: the service has no address to connect to");
    }
    for probe in probes {
        let address = address(probe).unwrap_or_else(|| "no address".to_owned());
        let block = match (&probe.report, &probe.failure) {
            (Some(report), _) => lines_of(report),
            (None, Some(failure)) => failure_lines(failure.reason.code(), &failure.message, &failure.remedy),
            (None, None) => format!("ok\n  {CLEARTEXT}"),
        };
        let _ = write!(text, "\n\n{address}: {block}");
    }
    text
}

fn failure_lines(code: &str, message: &str, remedy: &str) -> String {
    format!(
        "{code}{}{}",
        sentence("", message),
        sentence("to mend it: ", remedy)
    )
}

/// A sentence on lines of its own; nothing where there is none.
fn sentence(begin: &str, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let lines = output::wrapped(&format!("{begin}{text}"), WIDTH);
    format!("\n  {}", lines.join("\n  "))
}

fn lines_of(report: &HandshakeReport) -> String {
    let mut text = match report.outcome {
        Outcome::Ok if report.verify.result == Outcome::Ok => "ok".to_owned(),
        // It works, but the report has something to say about it.
        Outcome::Ok => failure_lines("ok", &report.message, &report.remedy),
        Outcome::Failed(reason) => failure_lines(reason.code(), &report.message, &report.remedy),
    };
    let mut line = |name: &str, value: String| {
        let _ = write!(text, "\n  {name:<20}{value}");
    };
    if let Some(version) = report.version {
        let known = [report.cipher.as_deref(), report.group.as_deref()];
        let details: Vec<&str> = known.into_iter().flatten().collect();
        let resumed = if report.resumed { ", resumed" } else { "" };
        line(
            "negotiated",
            format!("{} {}{resumed}", version.as_str(), details.join(" ")),
        );
    }
    line("took", format!("{:.1} ms", report.duration_ms));
    line(
        "SNI sent",
        report.sni.clone().unwrap_or_else(|| "none".to_owned()),
    );
    line(
        "ALPN",
        report
            .alpn
            .clone()
            .unwrap_or_else(|| "nothing negotiated".to_owned()),
    );
    line(
        "client certificate",
        client_certificate(report.client_certificate).to_owned(),
    );
    line("verification", verification(&report.verify));
    for (position, certificate) in report.peer.iter().enumerate() {
        let name = if position == 0 {
            "peer certificate"
        } else {
            "issued by"
        };
        line(name, certificate.subject.clone());
        for detail in details(certificate, position) {
            line("", format!("  {detail}"));
        }
    }
    text
}

fn client_certificate(report: ClientCertificateReport) -> &'static str {
    match (report.requested, report.sent) {
        (false, _) => "not asked for",
        (true, true) => "asked for and sent",
        (true, false) => "asked for; none was sent",
    }
}

fn verification(report: &VerifyReport) -> String {
    let names = report.names.join(", ");
    let (mode, result) = (report.mode.as_str(), report.result.as_str());
    format!("mode {mode}: {result}; names looked for: {names}")
}

fn details(certificate: &CertificateInfo, position: usize) -> Vec<String> {
    let mut details = Vec::new();
    if position == 0 && !certificate.sans.is_empty() {
        details.push(format!("names {}", certificate.sans.join(", ")));
    }
    details.push(format!("issuer {}", certificate.issuer));
    details.push(format!(
        "valid {} to {}",
        certificate.not_before, certificate.not_after
    ));
    details.push(format!("sha256 {}", certificate.sha256));
    details
}
