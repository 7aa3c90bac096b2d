//! A probe for people.

use nuncio_model::{CertificateInfo, HandshakeReport, Outcome, Problem, TlsSettings, Upstream, Verdict};
use nuncio_proxy::EndpointProbe;

use super::account::{self, Account, Finding};
use crate::output;

/// Characters of a line.
const WIDTH: usize = 100;
/// Where values begin.
const COLUMN: usize = 22;

/// What was found, endpoint by endpoint.
pub(super) fn render(account: &Account<'_>) -> String {
    let mut page = Page(Vec::new());
    match &account.finding {
        Finding::Unresolved(unresolved) => {
            page.line(0, account.shown);
            let report = account::report_unresolved(unresolved);
            page.line(
                0,
                &format!("would it handshake now: no, {}", report.outcome.as_str()),
            );
            page.gap();
            page.failure(&report);
            // What was just said is not said again.
            let others = account.problems.iter().copied();
            let others: Vec<&Problem> = others
                .filter(|problem| !unresolved.message.contains(&problem.message))
                .collect();
            page.problems(&others);
        }
        Finding::Probed { upstream, probes } => {
            page.line(0, &format!("{} sends to {}", account.shown, upstream.name));
            page.line(
                0,
                &format!("would it handshake now: {}", answer(upstream, probes)),
            );
            page.settings(upstream);
            for probe in *probes {
                page.endpoint(upstream, probe);
            }
            page.problems(account.problems);
        }
    }
    page.0.join("\n")
}

fn answer(upstream: &Upstream, probes: &[EndpointProbe]) -> String {
    let bad: Vec<&str> = probes
        .iter()
        .filter_map(|probe| Some(probe.failure.as_ref()?.reason.code()))
        .collect();
    match (bad.as_slice(), probes.len()) {
        ([], _) if upstream.identity.tls.is_none() => "there is no TLS to speak".to_owned(),
        ([], 1) => "yes".to_owned(),
        ([], all) => format!("yes, with all of {all} endpoints"),
        ([reason], 1) => format!("no, {reason}"),
        (bad, all) => format!("not with {} of {all} endpoints", bad.len()),
    }
}

/// Lines, none too wide but for words that are.
struct Page(Vec<String>);

impl Page {
    fn line(&mut self, indent: usize, text: &str) {
        for line in output::wrapped(text, WIDTH - indent) {
            self.0.push(format!("{:indent$}{line}", ""));
        }
    }

    fn gap(&mut self) {
        self.0.push(String::new());
    }

    /// A name, and what goes with it in a column of its own.
    fn entry(&mut self, name: &str, value: &str) {
        for (position, line) in output::wrapped(value, WIDTH - COLUMN).iter().enumerate() {
            let name = if position == 0 { name } else { "" };
            self.0.push(format!("  {name:<width$}{line}", width = COLUMN - 2));
        }
    }

    /// What happened and what to do about it.
    fn failure(&mut self, report: &HandshakeReport) {
        self.line(2, &report.message);
        self.remedy(2, &report.remedy);
    }

    fn remedy(&mut self, indent: usize, remedy: &str) {
        if !remedy.is_empty() {
            self.line(indent, &format!("how to fix: {remedy}"));
        }
    }

    /// What is the same for all endpoints.
    fn settings(&mut self, upstream: &Upstream) {
        let (Some(tls), Some(origins)) = (&upstream.identity.tls, &upstream.origins) else {
            return;
        };
        self.gap();
        let context = account::context(origins);
        let none = "none; fields named below go into one that the Mapping names in spec.tls";
        self.entry("TLSContext", context.as_deref().unwrap_or(none));
        let offer = nuncio_tls::offer(tls);
        let versions: Vec<&str> = offer.versions.iter().map(|version| version.as_str()).collect();
        self.entry("versions offered", &versions.join(", "));
        let suites = match tls.cipher_suites.is_empty() {
            true => format!("the {} built-in ones", offer.cipher_suites.len()),
            false => offer.cipher_suites.join(", "),
        };
        self.entry("cipher suites", &suites);
        self.entry("groups", &offer.groups.join(", "));
        let alpn = offer.alpn.join(", ");
        self.entry("ALPN", if alpn.is_empty() { "none" } else { &alpn });
        let own = match account::has_auto_sni(upstream) {
            true => " (auto_sni: each request sends its own host)",
            false => "",
        };
        let sni = offer.sni.map(|sni| format!("{sni}{own}"));
        let sni = sni.unwrap_or_else(|| {
            let why = account::why_no_server_name(upstream).unwrap_or_default();
            format!("none: {why}")
        });
        self.entry("server name sent", &sni);
        let client = offer.client_certificate.map_or_else(
            || "none to show".to_owned(),
            |info| format!("{}, until {}", info.subject, until(&info)),
        );
        self.entry("client certificate", &client);
        let mode = format!("mode {}, from {}", tls.verify.mode.as_str(), origins.verify_mode);
        self.entry("verification", &mode);
        self.entry("names looked for", &names(tls));
        self.entry("trusted", &trusted(tls));
    }

    fn endpoint(&mut self, upstream: &Upstream, probe: &EndpointProbe) {
        let report = account::report(&upstream.identity, probe);
        self.gap();
        let address = account::address(probe).unwrap_or_else(|| "no address".to_owned());
        self.line(0, &format!("{address}: {}", report.outcome.as_str()));
        if report.outcome != Outcome::Ok || report.message != "connected" {
            self.failure(&report);
        }
        if probe.report.is_some() {
            self.handshake(&report);
            self.verdicts(&report, &probe.verdicts);
        }
    }

    fn handshake(&mut self, report: &HandshakeReport) {
        if let Some(version) = report.version {
            let known = [report.cipher.as_deref(), report.group.as_deref()];
            let mut chosen = vec![version.as_str()];
            chosen.extend(known.into_iter().flatten());
            self.entry("chosen", &chosen.join(", "));
            self.entry("ALPN", report.alpn.as_deref().unwrap_or("nothing"));
        }
        self.entry("took", &format!("{:.1} ms", report.duration_ms));
        let client = match (
            report.client_certificate.requested,
            report.client_certificate.sent,
        ) {
            (false, _) => "not asked for",
            (true, true) => "asked for and sent",
            (true, false) => "asked for; none was sent",
        };
        self.entry("client certificate", client);
        for (position, certificate) in report.peer.iter().enumerate() {
            let name = if position == 0 {
                "peer certificate"
            } else {
                "sent with it"
            };
            self.certificate(name, certificate);
        }
    }

    fn certificate(&mut self, name: &str, certificate: &CertificateInfo) {
        self.entry(name, &certificate.subject);
        if !certificate.sans.is_empty() {
            self.entry("", &format!("names {}", certificate.sans.join(", ")));
        }
        self.entry("", &format!("issuer {}", certificate.issuer));
        self.entry(
            "",
            &format!("valid from {} to {}", certificate.not_before, until(certificate)),
        );
        self.entry("", &format!("sha256 {}", certificate.sha256));
        self.entry("", &format!("pin {}", certificate.pin));
    }

    /// What each mode says, and why where that was not said before.
    fn verdicts(&mut self, report: &HandshakeReport, verdicts: &[Verdict]) {
        let mut said = format!("{} {}", report.message, report.remedy);
        for verdict in verdicts {
            let result = match verdict.reported {
                Some(reason) => format!("ok, and would report {reason}"),
                None => verdict.result.as_str().to_owned(),
            };
            let in_force = verdict.mode == report.verify.mode;
            let mark = if in_force { " (in force)" } else { "" };
            self.entry(
                &format!("mode {}", verdict.mode.as_str()),
                &format!("{result}{mark}"),
            );
            let sentences = [verdict.message.clone(), format!("how to fix: {}", verdict.remedy)];
            for (sentence, new) in sentences.iter().zip([&verdict.message, &verdict.remedy]) {
                if verdict.result != Outcome::Ok && !said.contains(new.as_str()) {
                    self.entry("", sentence);
                    said.push_str(new);
                }
            }
        }
    }

    fn problems(&mut self, problems: &[&Problem]) {
        if problems.is_empty() {
            return;
        }
        self.gap();
        self.line(0, "what the manifests have to say:");
        for problem in problems {
            let of = problem
                .object
                .as_ref()
                .map_or_else(String::new, |object| format!(" {object}:"));
            self.line(
                2,
                &format!("{}:{of} {}", problem.severity.as_str(), problem.message),
            );
        }
    }
}

fn until(certificate: &CertificateInfo) -> String {
    let days = account::days_left(certificate.not_after_seconds);
    let left = match days {
        ..=-1 => "expired".to_owned(),
        // In the very second it begins it is valid.
        _ if account::days_left(certificate.not_before_seconds - 1) >= 0 => "not yet valid".to_owned(),
        1 => "1 day left".to_owned(),
        days => format!("{days} days left"),
    };
    format!("{} ({left})", certificate.not_after)
}

fn names(tls: &TlsSettings) -> String {
    let names: Vec<String> = tls.verify.names.iter().map(ToString::to_string).collect();
    names.join(", ")
}

fn trusted(tls: &TlsSettings) -> String {
    let roots = nuncio_tls::judging_roots(tls);
    let authorities = account::authorities(&roots);
    match (authorities.as_slice(), roots.system) {
        ([], _) => "no CA is configured: the system's roots".to_owned(),
        ([only], false) => format!("the configured CA {only}"),
        (several, false) => format!("the {} configured CA certificates", several.len()),
        (several, true) => format!(
            "{} configured CA certificates and the system's roots",
            several.len()
        ),
    }
}
