//! `nuncio probe`: would this Mapping handshake now, and if not, which field fixes it?

mod remedies;

use std::net::{Ipv4Addr, TcpListener};

use serde_json::Value;
use tempfile::TempDir;

use super::example;
use crate::support::certificates::Certificates;
use crate::support::peer::{Tls, Upstream};
use crate::support::program::{
    Finished, finish, finish_beside, free_port, in_namespace, mapping, nuncio, tls_context,
};

/// Manifests to be probed.
struct Manifests {
    folder: TempDir,
    resolve: Vec<String>,
}

impl Manifests {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("manifests.yaml"), text).unwrap();
        Self {
            folder,
            resolve: Vec::new(),
        }
    }

    /// A Mapping `m` to `https://a.test`, which is `upstream`, with these lines in its spec and in that of its
    /// TLSContext `ctx`; no TLSContext where there are none.
    fn of(upstream: &Upstream, lines: &[&str], context: &[&str], more: &str) -> Self {
        let mut lines = lines.to_vec();
        let mut text = more.to_owned();
        if !context.is_empty() {
            lines.push("tls: ctx");
            text += &tls_context("ctx", context);
        }
        Self::new(&(text + &mapping("m", "/", "https://a.test", &lines))).resolving("a.test:443", upstream)
    }

    fn resolving(mut self, host_and_port: &str, upstream: &Upstream) -> Self {
        let port = upstream.address.port();
        self.resolve.push(format!("{host_and_port}:127.0.0.1:{port}"));
        self
    }

    async fn probe(&self, target: &str, more: &[&str]) -> Finished {
        let mut command = nuncio(["probe", target]);
        command.args(more);
        for resolve in &self.resolve {
            command.args(["--resolve", resolve]);
        }
        command.arg("--config").arg(self.folder.path());
        finish_beside(command).await
    }

    /// Status and report of a probe of `m`. What people are shown says the same and is not too wide.
    async fn report(&self) -> (i32, Value) {
        let told = self.probe("m", &[]).await;
        let outcome = self.probe("m", &["--format", "json"]).await;
        assert_eq!(told.status, outcome.status, "{told:?}");
        let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
        let wide = |line: &&str| line.chars().count() > 100;
        assert_eq!(told.stdout.lines().find(wide), None, "{}", told.stdout);
        // Lines are broken between words.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        for field in ["outcome", "remedy"] {
            let said = words(report[field].as_str().unwrap());
            assert!(words(&told.stdout).contains(&said), "{said}\n{}", told.stdout);
        }
        (outcome.status, report)
    }

    /// Probes `m`, which fails with this reason and these words in the remedy.
    #[track_caller]
    fn fails(&self, reason: &str, remedy: &[&str]) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let (status, report) = self.report().await;
            assert_eq!(
                (status, &report["outcome"]),
                (1, &reason.into()),
                "{caller}: {report:#}"
            );
            assert_remedy(&report, remedy);
            report
        }
    }
}

#[track_caller]
fn assert_remedy(report: &Value, words: &[&str]) {
    let remedy = report["remedy"].as_str().unwrap();
    for word in words {
        assert!(remedy.contains(word), "{word} is not in: {remedy}");
    }
}

/// Of each verdict the result, and after a slash what is reported.
fn verdicts(report: &Value) -> Vec<String> {
    let verdicts = report["verdicts"].as_array().unwrap().iter();
    verdicts
        .map(|verdict| match verdict["reported"].as_str() {
            Some(reported) => format!("{}/{reported}", verdict["result"].as_str().unwrap()),
            None => verdict["result"].as_str().unwrap().to_owned(),
        })
        .collect()
}

const FULL: [&str; 2] = ["ca_secret: ca", "verify: {mode: full}"];

#[tokio::test]
async fn probe_reports_the_handshake_of_a_mapping() {
    let ca = Certificates::new();
    let upstream = Tls::with(&ca.server(&["some-sni-hostname"])).client_ca(&ca.pem(), true);
    let upstream = upstream.versions(&[&rustls::version::TLS13]).start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(example("advanced.yaml"), folder.path().join("advanced.yaml")).unwrap();
    let secret = ca.client("it's me").secret("self-signed-cert");
    std::fs::write(folder.path().join("secret.yaml"), secret).unwrap();
    let resolve = format!("example-service:443:127.0.0.1:{}", upstream.address.port());
    let probe = |more: &[&str]| {
        let mut command = nuncio([
            "probe",
            "mapping-with-tls-context",
            "--resolve",
            &resolve,
            "--config",
        ]);
        command.arg(folder.path()).args(more);
        finish_beside(command)
    };

    let outcome = probe(&["--format", "json"]).await;
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(
        (&report["outcome"], &report["version"]),
        (&"ok".into(), &"TLSv1.3".into()),
        "{report:#}"
    );
    assert_eq!(
        (&report["sni"], &report["resumed"]),
        (&"some-sni-hostname".into(), &false.into())
    );
    assert_eq!(
        report["client_certificate"],
        serde_json::json!({ "requested": true, "sent": true })
    );
    assert_eq!(report["verify"]["mode"], "report");
    assert_eq!(
        report["peer"][0]["sans"],
        serde_json::json!(["DNS:some-sni-hostname"])
    );
    assert_eq!(upstream.hello().sni.as_deref(), Some("some-sni-hostname"));

    let text = probe(&[]).await;
    assert_eq!(text.status, 0, "{text:?}");
    assert!(
        text.stdout.contains("TLSv1.3") && text.stdout.contains("some-sni-hostname"),
        "{text:?}"
    );
    assert!(
        text.stdout.lines().all(|line| line.chars().count() <= 100),
        "{}",
        text.stdout
    );

    std::fs::remove_file(folder.path().join("secret.yaml")).unwrap();
    let unresolved = probe(&[]).await;
    assert_eq!(unresolved.status, 1, "{unresolved:?}");
    assert!(
        unresolved.stdout.contains("tls_config_unresolved"),
        "{unresolved:?}"
    );
    assert!(unresolved.stdout.contains("self-signed-cert"), "{unresolved:?}");
}

#[tokio::test]
async fn probe_finds_a_mapping_in_a_list_and_in_an_annotation() {
    let ca = Certificates::new();
    let upstream = Tls::with(&ca.server(&["a.test"])).start().await;
    let secret = ca.secret("ca");
    let context = "{apiVersion: getambassador.io/v3alpha1, kind: TLSContext, metadata: {name: ctx}, \
                   spec: {ca_secret: ca}}";
    let mapping = "{apiVersion: getambassador.io/v3alpha1, kind: Mapping, metadata: {name: listed}, \
                   spec: {hostname: '*', prefix: /, service: 'https://a.test', tls: ctx}}";
    let list = format!("---\napiVersion: v1\nkind: List\nitems: [{context}, {mapping}]\n");
    let service = "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: s\n  annotations:\n    \
                   getambassador.io/config: |\n      apiVersion: getambassador.io/v2\n      kind: Mapping\n      \
                   name: annotated\n      prefix: /x/\n      service: https://a.test\n      tls: ctx\n";
    let manifests = Manifests::new(&(secret + &list + service)).resolving("a.test:443", &upstream);
    for name in ["listed", "annotated"] {
        let probed = manifests.probe(name, &["--format", "json"]).await;
        assert_eq!(probed.status, 0, "{name}: {}{}", probed.stdout, probed.stderr);
    }
    let probed = manifests.probe("annotated", &["--format", "json"]).await;
    assert!(probed.stdout.contains("old_version"), "{}", probed.stdout);
}

#[tokio::test]
async fn probe_of_a_url_uses_the_tls_context_named() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.server(&["a.test"])).await;
    let folder = tempfile::tempdir().unwrap();
    let context = tls_context("ctx", &["ca_secret: ca", "verify:", "  mode: full"]);
    std::fs::write(folder.path().join("a.yaml"), context + &ca.secret("ca")).unwrap();
    let probe = |host: &str| {
        let resolve = format!("{host}:8443:127.0.0.1:{}", upstream.address.port());
        let mut command = nuncio([
            "probe",
            "--tls-context",
            "ctx",
            "--format",
            "json",
            "--resolve",
            &resolve,
        ]);
        command
            .arg(format!("https://{host}:8443"))
            .arg("--config")
            .arg(folder.path());
        finish_beside(command)
    };
    let fine = probe("a.test").await;
    assert_eq!(fine.status, 0, "{fine:?}");
    let wrong = probe("b.test").await;
    assert_eq!(wrong.status, 1, "{wrong:?}");
    let report: serde_json::Value = serde_json::from_str(&wrong.stdout).unwrap();
    assert_eq!(report["outcome"], "name_mismatch", "{report:#}");
}

#[tokio::test]
async fn probe_tells_a_mapping_that_is_not_there() {
    let config = example("basic.yaml");
    let outcome = finish(&["probe", "nosuch", "--config", &config]);
    assert_eq!(outcome.status, 1);
    assert!(
        outcome.stderr.contains("nosuch") && outcome.stderr.contains("basic-tls.default"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn probe_reports_what_fails_before_tls() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let target = format!("https://127.0.0.1:{port}");
    let outcome = finish(&["probe", &target, "--format", "json"]);
    assert_eq!(outcome.status, 1, "{outcome:?}");
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(report["outcome"], "connect_refused", "{report:#}");
    assert!(report["sni"].is_null());
}

/// Every endpoint is tried; one that fails makes the whole probe fail.
#[tokio::test]
async fn probe_tries_every_endpoint() {
    let upstream = Upstream::tls(&Certificates::new().server(&["svc"])).await;
    let closed = free_port();
    let folder = tempfile::tempdir().unwrap();
    let service =
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: svc\nspec:\n  ports:\n  - port: 443\n";
    let mut endpoints = "---\napiVersion: v1\nkind: Endpoints\nmetadata:\n  name: svc\nsubsets:\n".to_owned();
    for port in [upstream.address.port(), closed] {
        endpoints.push_str(&format!(
            "- addresses: [{{ip: 127.0.0.1}}]\n  ports: [{{port: {port}}}]\n"
        ));
    }
    let text = mapping("m", "/", "https://svc", &[]) + service + &endpoints;
    std::fs::write(folder.path().join("m.yaml"), text).unwrap();
    let mut command = nuncio(["probe", "m", "--format", "json", "--config"]);
    command.arg(folder.path());
    let outcome = finish_beside(command).await;
    assert_eq!(outcome.status, 1, "{outcome:?}");
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let endpoints = report["endpoints"].as_array().unwrap();
    let mut outcomes: Vec<&str> = endpoints
        .iter()
        .map(|endpoint| endpoint["last_handshake"]["outcome"].as_str().unwrap())
        .collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["connect_refused", "ok"], "{report:#}");
    assert_eq!(endpoints[0]["address"], upstream.on_loopback().to_string());
}

#[tokio::test]
async fn probe_of_a_service_without_endpoints_says_so() {
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: svc}\nspec: {ports: [{port: 443}]}\n";
    let text = mapping("m", "/", "https://svc", &[]) + service;
    let report = Manifests::new(&text)
        .fails("no_endpoints", &["its pods are ready"])
        .await;
    assert_eq!(report["endpoint"], Value::Null, "{report:#}");
    assert_eq!(report["offered"]["sni"], "svc");
}

#[tokio::test]
async fn probe_says_why_no_server_name_is_sent() {
    let upstream = Upstream::tls(&Certificates::new().server(&["127.0.0.1"])).await;
    let service = format!("https://{}", upstream.on_loopback());
    let (status, report) = Manifests::new(&mapping("m", "/", &service, &[])).report().await;
    assert_eq!(
        (status, &report["offered"]["sni"]),
        (0, &Value::Null),
        "{report:#}"
    );
    let why = "the host of spec.service is the address 127.0.0.1; set spec.sni to send one";
    assert_eq!(report["offered"]["no_sni_because"], why);
    assert_eq!(upstream.hello().sni, None);
}

#[tokio::test]
async fn probe_takes_the_host_of_a_request_where_that_decides() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.server(&["b.test"])).await;
    let context = ["auto_sni: true", FULL[0], FULL[1]];
    let manifests = Manifests::of(&upstream, &[], &context, &ca.secret("ca"));
    let outcome = manifests.probe("m", &["--host", "b.test:8080"]).await;
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(
        outcome
            .stdout
            .contains("auto_sni: each request sends its own host"),
        "{outcome:?}"
    );
    assert_eq!(upstream.hello().sni.as_deref(), Some("b.test"));
    let outcome = manifests.probe("m", &["--host", "c.test"]).await;
    assert_eq!(outcome.status, 1, "{outcome:?}");
    assert_eq!(upstream.hello().sni.as_deref(), Some("c.test"));

    let manifests = Manifests::of(&upstream, &[], &[], "");
    let outcome = manifests.probe("m", &["--host", "b.test"]).await;
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(outcome.stderr.contains("auto_sni"), "{outcome:?}");
}

#[tokio::test]
async fn probe_of_what_is_unresolved_connects_to_nothing() {
    let upstream = Upstream::tls(&Certificates::new().server(&["a.test"])).await;
    let manifests = Manifests::of(&upstream, &[], &["ca_secret: nosuch"], "");
    let remedy = ["create it or correct the name"];
    let report = manifests.fails("tls_config_unresolved", &remedy).await;
    assert!(
        report["message"].as_str().unwrap().contains("`nosuch`"),
        "{report:#}"
    );
    let problems = report["problems"].as_array().unwrap();
    let of_context = |problem: &&Value| problem["object"]["name"] == "ctx";
    let problem = problems
        .iter()
        .find(of_context)
        .unwrap_or_else(|| panic!("{report:#}"));
    assert_eq!(
        (&problem["severity"], &problem["field"]),
        (&"error".into(), &"spec.ca_secret".into())
    );
    upstream.assert_untouched().await;
}

#[tokio::test]
async fn probe_of_a_cleartext_mapping_says_so() {
    let upstream = Upstream::cleartext().await;
    let text = mapping("m", "/", "a.test:443", &[]);
    let manifests = Manifests::new(&text).resolving("a.test:443", &upstream);
    let (status, report) = manifests.report().await;
    assert_eq!((status, &report["outcome"]), (0, &"ok".into()), "{report:#}");
    assert!(
        report["message"].as_str().unwrap().contains("no TLS is spoken"),
        "{report:#}"
    );
    // What the manifests have to say of it is said here too (row D5).
    assert!(report["problems"].to_string().contains("https://"), "{report:#}");
    let told = manifests.probe("m", &[]).await.stdout;
    assert!(
        told.contains("there is no TLS to speak") && told.contains("warning:"),
        "{told}"
    );
}

/// Names of Mappings are only unique in their namespace, and Mappings of one group go different ways.
#[tokio::test]
async fn probe_takes_the_mapping_that_is_meant() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.server(&["a.test"])).await;
    let in_stg = in_namespace("stg", &mapping("m", "/stg/", "https://a.test", &[]));
    let in_int = in_namespace("int", &mapping("m", "/int/", "https://a.test", &[]));
    let old = mapping("old", "/", "http://a.test:8080", &["weight: 50"]);
    let new = mapping("new", "/", "https://a.test", &["weight: 50"]);
    let manifests = Manifests::new(&[in_stg, in_int, old, new].concat());
    let manifests = manifests.resolving("a.test:443", &upstream);

    let either = manifests.probe("m", &[]).await;
    assert_eq!(either.status, 2, "{either:?}");
    assert!(
        either.stderr.contains("m.stg") && either.stderr.contains("m.int"),
        "{either:?}"
    );
    for (target, status) in [("m.stg", 0), ("new", 0)] {
        let outcome = manifests.probe(target, &[]).await;
        assert_eq!(outcome.status, status, "{outcome:?}");
        assert!(
            outcome.stdout.contains("would it handshake now: yes"),
            "{outcome:?}"
        );
    }
    let plain = Upstream::cleartext().await;
    let manifests = manifests.resolving("a.test:8080", &plain);
    let outcome = manifests.probe("old", &[]).await;
    assert!(outcome.stdout.contains("there is no TLS to speak"), "{outcome:?}");
}

/// Fields of the public interface, as programs rely on them; there may be more.
const FIELDS: [&str; 14] = [
    "outcome",
    "message",
    "remedy",
    "at",
    "sni",
    "version",
    "cipher",
    "group",
    "alpn",
    "resumed",
    "duration_ms",
    "client_certificate",
    "verify",
    "peer",
];

#[tokio::test]
async fn probe_gives_programs_all_fields_whatever_happens() {
    let ca = Certificates::new();
    let good = Upstream::tls(&ca.server(&["a.test"])).await;
    let bad = Upstream::tls(&ca.server(&["b.test"])).await;
    let plain = Upstream::cleartext().await;
    let closed = format!("https://127.0.0.1:{}", free_port());
    let secret = ca.secret("ca");
    let cases = [
        Manifests::of(&good, &[], &FULL, &secret),
        Manifests::of(&bad, &[], &FULL, &secret),
        Manifests::of(&plain, &[], &FULL, &secret),
        Manifests::of(&good, &[], &["ca_secret: nosuch"], ""),
        Manifests::new(&mapping("m", "/", &closed, &[])),
        Manifests::new(&mapping("m", "/", &plain.address.to_string(), &[])),
    ];
    for manifests in cases {
        let (_, report) = manifests.report().await;
        let report = report.as_object().unwrap();
        for field in FIELDS {
            assert!(report.contains_key(field), "{field} is missing in {report:#?}");
        }
        for field in ["mode", "result", "names"] {
            assert!(report["verify"].get(field).is_some(), "{field} in {report:#?}");
        }
        for more in [
            "target",
            "endpoint",
            "offered",
            "verdicts",
            "judged_by",
            "problems",
        ] {
            let known = more == "endpoint" && report["outcome"] == "tls_config_unresolved";
            assert!(
                known || report.contains_key(more),
                "{more} is missing in {report:#?}"
            );
        }
    }
    let (_, report) = Manifests::of(&good, &[], &FULL, &secret).report().await;
    let certificate = [
        "subject",
        "issuer",
        "sans",
        "not_before",
        "not_after",
        "sha256",
        "pin",
        "days_left",
    ];
    for field in certificate {
        assert!(report["peer"][0].get(field).is_some(), "{field} in {report:#}");
    }
    assert_eq!(report["endpoint"], good.on_loopback().to_string());
}
