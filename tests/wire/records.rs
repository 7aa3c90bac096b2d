//! The access log and the metrics, name by name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::socket::{OK, Script, raw};
use crate::support::certificates::Certificates;
use crate::support::peer::Tls;
use crate::support::program::{Gateway, mapping, tls_context};
use crate::support::waiting::eventually;

/// Takes a field out of an entry.
#[track_caller]
fn take(entry: &mut Value, field: &str) -> Value {
    entry
        .as_object_mut()
        .unwrap()
        .remove(field)
        .unwrap_or_else(|| panic!("no {field} in {entry:#}"))
}

/// What is in every entry and differs in each.
#[track_caller]
fn take_what_differs(entry: &mut Value) {
    let ts = take(entry, "ts");
    let ts = ts.as_str().unwrap();
    assert!(ts.ends_with('Z') && ts.as_bytes()[10] == b'T', "{ts}");
    assert_eq!(take(entry, "request_id").as_str().unwrap().len(), 36);
    assert!(take(entry, "client").as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(take(entry, "duration_ms").as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn the_access_log_has_the_fields_of_the_contract() {
    let upstream = Tls::with(&Certificates::new().server(&["a.test"])).start().await;
    let manifests =
        mapping("m", "/api/", "https://a.test", &[]) + &mapping("dead", "/dead/", "http://127.0.0.1:1", &[]);
    let gateway = Gateway::with(manifests)
        .resolve("a.test:443", upstream.address)
        .start()
        .await;
    let listener = format!("test-{}.default", gateway.address.port());
    let ask = async |head: &str, body: &str| {
        raw(
            gateway.address,
            format!("{head}\r\nconnection: close\r\n\r\n{body}"),
        )
        .await
    };

    ask(
        "POST /api/x?y=z HTTP/1.1\r\nhost: G.test:81\r\ncontent-length: 4\r\nuser-agent: \"me\"\\",
        "body",
    )
    .await;
    let mut entry = gateway.access_log("/api/x?y=z").await;
    take_what_differs(&mut entry);
    let cipher = take(&mut entry["upstream_tls"], "cipher");
    assert!(cipher.as_str().unwrap().starts_with("TLS_AES_"), "{cipher}");
    assert_eq!(
        entry,
        json!({
            "listener": listener, "protocol": "HTTP/1.1", "method": "POST", "scheme": "http", "authority": "G.test:81",
            "path": "/api/x?y=z", "status": 200, "bytes_in": 4, "bytes_out": 2, "mapping": "m.default",
            "upstream": "https://a.test:443", "endpoint": upstream.address.to_string(), "attempts": 1,
            "upstream_tls": {"version": "TLSv1.3", "sni": "a.test", "resumed": false},
            "user_agent": "\"me\"\\",
        })
    );

    ask("GET /dead/ HTTP/1.1\r\nhost: a", "").await;
    let mut entry = gateway.access_log("/dead/").await;
    take_what_differs(&mut entry);
    assert_eq!(
        entry,
        json!({
            "listener": listener, "protocol": "HTTP/1.1", "method": "GET", "scheme": "http", "authority": "a",
            "path": "/dead/", "status": 503, "flags": "UF", "reason": "connect_refused",
            "message": "nothing listens on 127.0.0.1:1", "bytes_in": 0, "bytes_out": 57, "mapping": "dead.default",
            "upstream": "http://127.0.0.1:1", "endpoint": "127.0.0.1:1", "attempts": 1,
        })
    );

    ask("GET /none HTTP/1.1\r\nhost: a", "").await;
    let mut entry = gateway.access_log("/none").await;
    for differs in ["ts", "client", "duration_ms"] {
        take(&mut entry, differs);
    }
    let message = take(&mut entry, "message");
    assert!(message.as_str().unwrap().starts_with("no route: "), "{message}");
    assert_eq!(
        entry,
        json!({
            "listener": listener, "protocol": "HTTP/1.1", "method": "GET", "scheme": "http", "authority": "a",
            "path": "/none", "status": 404, "flags": "NR", "reason": "no_route", "bytes_in": 0, "bytes_out": 0,
        })
    );
    let order = "ts request_id client listener protocol method scheme authority path status flags reason message \
                 duration_ms bytes_in bytes_out mapping upstream endpoint attempts upstream_tls user_agent";
    for line in gateway.program.stdout() {
        let mut last = 0;
        for field in order.split(' ') {
            if let Some(at) = line.find(&format!("\"{field}\":")) {
                assert!(at >= last, "{field} is out of its place in {line}");
                last = at;
            }
        }
    }
}

#[tokio::test]
async fn the_access_log_may_be_text_or_nothing() {
    let script = Script::answering(OK).await;
    let gateway = Gateway::with(script.mapping(&[]))
        .args(&["--access-log", "text"])
        .start()
        .await;
    gateway.get("/x").await;
    let line = eventually("a line", async || gateway.program.stdout().pop()).await;
    assert!(
        line.contains(" 200 ") && line.contains("/x") && line.contains("mapping=m.default"),
        "{line}"
    );
    let mut gateway = Gateway::with(script.mapping(&[]))
        .args(&["--access-log", "off"])
        .start()
        .await;
    gateway.get("/x").await;
    gateway.program.signal("TERM");
    gateway.program.end().await;
    assert_eq!(gateway.program.stdout(), [""; 0]);
}

/// Families with their label names; `le` of histograms is left out.
fn families(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut families = BTreeMap::<String, BTreeSet<String>>::new();
    for line in page
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(name);
        let labels = labels
            .trim_end_matches('}')
            .split("\",")
            .filter_map(|label| label.split_once('='));
        let names = families.entry(name.to_owned()).or_default();
        names.extend(
            labels
                .map(|(name, _)| name.to_owned())
                .filter(|name| name != "le"),
        );
    }
    families
}

/// The value of the one series that holds all of these texts.
#[track_caller]
fn value(page: &str, texts: &[&str]) -> f64 {
    let lines: Vec<&str> = page
        .lines()
        .filter(|line| !line.starts_with('#') && texts.iter().all(|text| line.contains(text)))
        .collect();
    assert_eq!(lines.len(), 1, "{texts:?} in {page}");
    lines[0].rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// A gateway that has answered four requests: two of a Mapping, one of an upstream that is not there, one
/// that nobody matched; and its metrics.
async fn after_four_requests() -> String {
    let ca = Certificates::new();
    let upstream = Tls::with(&ca.server(&["other.test"])).start().await;
    let manifests = ca.client("me").secret("mine")
        + &tls_context("c", &["secret: mine"])
        + &mapping("m", "/api/", "https://a.test", &["tls: c"])
        + &mapping("dead", "/dead/", "http://127.0.0.1:1", &[]);
    let gateway = Gateway::with(manifests)
        .resolve("a.test:443", upstream.address)
        .start()
        .await;
    for path in ["/api/", "/api/", "/dead/", "/none"] {
        gateway.get(path).await;
    }
    for path in ["/api/", "/dead/", "/none"] {
        gateway.access_log(path).await;
    }
    eventually("all is counted", async || {
        let page = gateway.admin("/metrics").await.text().to_owned();
        page.contains("nuncio_request_duration_seconds_count 4")
            .then_some(page)
    })
    .await
}

#[tokio::test]
async fn the_metrics_have_the_names_and_labels_of_the_contract() {
    let page = after_four_requests().await;
    let families = families(&page);
    let contract = [
        ("nuncio_requests_total", "mapping code"),
        ("nuncio_request_duration_seconds", ""),
        ("nuncio_upstream_requests_total", "upstream code"),
        ("nuncio_upstream_failures_total", "upstream reason"),
        ("nuncio_upstream_connections", "upstream state"),
        (
            "nuncio_upstream_handshakes_total",
            "upstream outcome version resumed",
        ),
        ("nuncio_upstream_handshake_seconds", "upstream"),
        ("nuncio_upstream_verify_mode", "upstream mode"),
        ("nuncio_upstream_verify_would_fail_total", "upstream reason"),
        ("nuncio_certificate_not_after_seconds", "namespace secret role"),
        ("nuncio_upstream_peer_not_after_seconds", "upstream"),
        ("nuncio_config_problems", "severity"),
        ("nuncio_config_revision", ""),
        ("nuncio_config_compile_seconds", ""),
        ("nuncio_config_last_success_seconds", ""),
    ];
    for (name, labels) in contract {
        let labels: BTreeSet<String> = labels.split_whitespace().map(str::to_owned).collect();
        assert_eq!(families.get(name), Some(&labels), "{name} in {page}");
    }
    assert!(
        families.keys().all(|name| name.starts_with("nuncio_")),
        "{families:?}"
    );
}

#[tokio::test]
async fn the_metrics_count_what_happened() {
    let clock = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let begun = clock();
    let page = after_four_requests().await;
    let one = "https://a.test:443 (c.default)";
    let is = |texts: &[&str]| value(&page, texts);
    assert_eq!(
        is(&["nuncio_requests_total", "mapping=\"m.default\"", "code=\"200\""]),
        2.0
    );
    assert_eq!(
        is(&[
            "nuncio_requests_total",
            "mapping=\"dead.default\"",
            "code=\"503\""
        ]),
        1.0
    );
    assert_eq!(
        is(&["nuncio_requests_total", "mapping=\"\"", "code=\"404\""]),
        1.0
    );
    assert_eq!(is(&["nuncio_upstream_requests_total", one, "code=\"200\""]), 2.0);
    assert_eq!(
        is(&[
            "nuncio_upstream_failures_total",
            "http://127.0.0.1:1",
            "connect_refused"
        ]),
        1.0
    );
    assert_eq!(is(&["nuncio_upstream_connections", one, "state=\"idle\""]), 1.0);
    assert_eq!(is(&["nuncio_upstream_connections", one, "state=\"active\""]), 0.0);
    let handshake = [
        "nuncio_upstream_handshakes_total",
        one,
        "outcome=\"ok\"",
        "version=\"TLSv1.3\"",
        "resumed=\"false\"",
    ];
    assert_eq!(is(&handshake), 1.0);
    assert_eq!(is(&["nuncio_upstream_handshake_seconds_count", one]), 1.0);
    assert_eq!(is(&["nuncio_upstream_verify_mode", one, "mode=\"report\""]), 1.0);
    assert_eq!(is(&["nuncio_upstream_verify_would_fail_total", one]), 1.0);
    assert_eq!(is(&["nuncio_config_revision"]), 1.0);
    assert!(is(&["nuncio_config_compile_seconds"]) > 0.0);
    let now = clock();
    assert!((begun..=now).contains(&is(&["nuncio_config_last_success_seconds"])));
}
