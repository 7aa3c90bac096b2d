//! Revocation lists: rows C. And pins, which narrow down a CA's word in another way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    CertificateParams, CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint,
    ExtendedKeyUsagePurpose, KeyIdMethod, KeyPair, PublicKeyData, RevocationReason, RevokedCertParams,
    SerialNumber,
};

use super::origination;
use crate::support::certificates::{Certificates, Identity, key, leaf, secret};
use crate::support::client::{Client, request};
use crate::support::peer::{Tls, Upstream, answer_ok, read_head, serve_http};
use crate::support::program::{Gateway, Plan};
use crate::support::refusal::{Refusal, assert_holds};
use crate::support::waiting::eventually;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The certificates of these tests that are revoked have this serial number.
pub(super) const BAD: u64 = 0xbad;
/// And the others this one.
const GOOD: u64 = 0x600d;

/// A server certificate for `a.test` with this serial number.
pub(super) fn server(serial: u64) -> CertificateParams {
    let mut params = leaf("test server", &["a.test"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.serial_number = Some(SerialNumber::from(serial));
    params
}

/// A list of yesterday for a month.
fn listing(serials: &[u64]) -> CertificateRevocationListParams {
    let now = SystemTime::now();
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: (now - 2 * DAY).into(),
        reason_code: Some(RevocationReason::KeyCompromise),
        invalidity_date: None,
    };
    CertificateRevocationListParams {
        this_update: (now - DAY).into(),
        next_update: (now + 30 * DAY).into(),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    }
}

fn pem(ca: &Certificates, params: &CertificateRevocationListParams) -> String {
    ca.crl(params).pem().unwrap()
}

pub(super) fn crl(ca: &Certificates, serials: &[u64]) -> String {
    pem(ca, &listing(serials))
}

/// The Secrets `ca` and `crl`.
fn secrets(bundle: &str, crl: &str) -> String {
    secret("ca", &[("tls.crt", bundle)]) + &secret("crl", &[("crl.pem", crl)])
}

/// A gateway for one upstream: CA bundle, lists, and further lines of the context.
fn plan(upstream: &Upstream, bundle: &str, crl: &str, more: &[&str]) -> Plan {
    let mut context = vec!["ca_secret: ca", "crl_secret: crl"];
    context.extend(more);
    origination(upstream, &[], &context).file("secrets.yaml", &secrets(bundle, crl))
}

async fn gateway(upstream: &Upstream, bundle: &str, crl: &str) -> Gateway {
    plan(upstream, bundle, crl, &[]).start().await
}

/// 200, and nothing to be said against the peer.
async fn assert_good(gateway: &Gateway) {
    gateway.get("/").await.assert_ok();
    let handshake = gateway.last_handshake("m").await;
    assert_eq!(handshake["verify"]["result"], "ok", "{handshake:#}");
}

/// 503, before the peer sees anything of a request.
async fn assert_refused(gateway: &Gateway, upstream: &Upstream, reason: &str) {
    gateway.get("/").await.assert_refused(reason);
    assert!(upstream.requests().is_empty(), "no byte of a request is sent");
}

#[tokio::test]
async fn c1_revoked_leaf_is_refused() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.issue(&server(BAD))).await;
    for mode in ["chain", "full"] {
        let mode_line = format!("verify: {{mode: {mode}}}");
        let gateway = plan(&upstream, &ca.pem(), &crl(&ca, &[BAD]), &[&mode_line])
            .start()
            .await;
        let refusal = Refusal {
            reason: "revoked",
            message: &[
                "certificate `CN=test server` with serial number 0b:ad was revoked by `CN=test CA` at 20",
                "(key compromise)",
            ],
            remedy: &["let the upstream use a certificate that was not revoked"],
        };
        let handshake = refusal.assert_told(&gateway, "m", "/").await;
        assert_eq!(handshake["verify"]["result"], "revoked", "{handshake:#}");
        assert_eq!(handshake["verify"]["mode"], mode, "{handshake:#}");
    }
    assert!(upstream.requests().is_empty(), "no byte of a request is sent");
    let seen = upstream
        .saw("an alert", |seen| seen.handshake_error.is_some())
        .await;
    let error = seen.handshake_error.unwrap();
    assert!(error.contains("CertificateRevoked"), "{error}");
}

#[tokio::test]
async fn c1_revoked_leaf_is_counted_where_nothing_is_refused() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.issue(&server(BAD))).await;
    let list = crl(&ca, &[BAD]);
    let would_fail = "nuncio_upstream_verify_would_fail_total";
    let labels = [("reason", "revoked")];

    let report = plan(&upstream, &ca.pem(), &list, &["verify: {mode: report}"]);
    let report = report.start().await;
    report.get("/").await.assert_ok();
    assert_eq!(report.last_handshake("m").await["verify"]["result"], "revoked");
    assert_eq!(report.count(would_fail, &labels).await, 1.0);

    let none = plan(&upstream, &ca.pem(), &list, &["verify: {mode: none}"])
        .start()
        .await;
    none.get("/").await.assert_ok();
    assert_eq!(none.count(would_fail, &labels).await, 0.0);
    let told = none
        .problem("TLSContext ctx.default", "check_without_effect")
        .await;
    assert_eq!(told["severity"], "notice", "{told:#}");
}

#[tokio::test]
async fn c2_good_leaf_is_served() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.issue(&server(GOOD))).await;
    let gateway = gateway(&upstream, &ca.pem(), &crl(&ca, &[BAD])).await;
    assert_good(&gateway).await;
    let upstream = gateway.upstream_of("m").await;
    let crl = &upstream["tls"]["crl"];
    assert_eq!(crl["value"]["lists"], 1, "{upstream:#}");
    assert_eq!(crl["origin"]["field"]["field"], "spec.crl_secret", "{upstream:#}");
}

#[tokio::test]
async fn c3_empty_list_revokes_nothing() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.issue(&server(BAD))).await;
    assert_good(&gateway(&upstream, &ca.pem(), &crl(&ca, &[])).await).await;
}

#[tokio::test]
async fn c4_list_of_the_intermediate_only() {
    let root = Certificates::new();
    let between = root.intermediate("between");
    let list = crl(&between, &[BAD]);
    // The intermediate is known from the bundle, or from beside its list.
    let ways = [
        (root.pem() + &between.pem(), list.clone()),
        (root.pem(), between.pem() + &list),
    ];
    for (bundle, lists) in ways {
        let bad = Upstream::tls(&between.issue(&server(BAD))).await;
        assert_refused(&gateway(&bad, &bundle, &lists).await, &bad, "revoked").await;
        let good = Upstream::tls(&between.issue(&server(GOOD))).await;
        assert_good(&gateway(&good, &bundle, &lists).await).await;
    }
}

#[tokio::test]
async fn c5_list_of_one_of_two_cas() {
    let (first, second) = (Certificates::named("first"), Certificates::named("second"));
    let (bundle, list) = (first.pem() + &second.pem(), crl(&first, &[BAD]));
    let listed = Upstream::tls(&first.issue(&server(BAD))).await;
    assert_refused(&gateway(&listed, &bundle, &list).await, &listed, "revoked").await;
    let other = Upstream::tls(&second.issue(&server(BAD))).await;
    assert_good(&gateway(&other, &bundle, &list).await).await;
}

#[tokio::test]
async fn c6_overdue_list_raises_an_alarm_and_serves() {
    let ca = Certificates::new();
    let mut params = listing(&[BAD]);
    params.next_update = (SystemTime::now() - DAY / 2).into();
    let list = pem(&ca, &params);
    let good = Upstream::tls(&ca.issue(&server(GOOD))).await;
    let gateway_of = async |upstream| {
        plan(upstream, &ca.pem(), &list, &["verify: {mode: full}"])
            .start()
            .await
    };
    let gateway = gateway_of(&good).await;

    gateway.get("/").await.assert_ok();
    let handshake = gateway.last_handshake("m").await;
    assert_eq!(handshake["outcome"], "ok", "{handshake:#}");
    assert_eq!(handshake["verify"]["result"], "crl_expired", "{handshake:#}");
    assert_holds(
        &handshake["message"],
        &["the revocation list of `CN=test CA` was to be followed by the next by 20"],
    );
    assert_holds(&handshake["remedy"], &["spec.crl_secret"]);
    let labels = [("reason", "crl_expired")];
    let counted = gateway
        .count("nuncio_upstream_verify_would_fail_total", &labels)
        .await;
    assert_eq!(counted, 1.0);
    let problem = gateway.problem("TLSContext ctx.default", "crl_expired").await;
    assert_eq!(problem["severity"], "warning", "{problem:#}");
    assert_eq!(problem["field"], "spec.crl_secret", "{problem:#}");

    // What it says it still says.
    let bad = Upstream::tls(&ca.issue(&server(BAD))).await;
    assert_refused(&gateway_of(&bad).await, &bad, "revoked").await;
}

#[tokio::test]
async fn c7_newest_of_two_lists_counts() {
    let ca = Certificates::new();
    let mut old = listing(&[GOOD]);
    let now = SystemTime::now();
    (old.this_update, old.next_update) = ((now - 9 * DAY).into(), (now - 2 * DAY).into());
    let (old, new) = (pem(&ca, &old), crl(&ca, &[BAD]));
    for lists in [old.clone() + &new, new + &old] {
        let bad = Upstream::tls(&ca.issue(&server(BAD))).await;
        assert_refused(&gateway(&bad, &ca.pem(), &lists).await, &bad, "revoked").await;
        let good = Upstream::tls(&ca.issue(&server(GOOD))).await;
        let gateway = gateway(&good, &ca.pem(), &lists).await;
        assert_good(&gateway).await;
        let told = gateway.problem("TLSContext ctx.default", "superseded_crl").await;
        assert_eq!(told["severity"], "notice", "{told:#}");
    }
}

#[tokio::test]
async fn c8_lists_that_cannot_be_used_are_never_passed_over() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.issue(&server(GOOD))).await;
    let stranger = Certificates::named("stranger");
    let der = STANDARD.encode(ca.crl(&listing(&[])).der());
    let ways = [
        (
            STANDARD.encode(crl(&stranger, &[BAD])),
            "crl_unknown_issuer",
            "`CN=stranger`",
        ),
        (
            STANDARD.encode(crl(&Certificates::new(), &[BAD])),
            "crl_unknown_issuer",
            "another key",
        ),
        (der, "no_crl", "it is DER; make PEM of it"),
        (STANDARD.encode("garbage"), "no_crl", "no `-----BEGIN` line"),
        (
            STANDARD.encode(crl(&ca, &[]) + "-----BEGIN X509 CRL-----\nx"),
            "bad_pem",
            "no END line",
        ),
    ];
    for (base64, reason, words) in ways {
        let crl = secret("crl", &[("crl.pem", "")]).replace("crl.pem: ", &format!("crl.pem: {base64}"));
        let context = ["ca_secret: ca", "crl_secret: crl"];
        let gateway = origination(&upstream, &[], &context)
            .file("secrets.yaml", &(ca.secret("ca") + &crl))
            .start()
            .await;
        gateway.get("/").await.assert_refused("tls_config_unresolved");
        let problem = gateway.problem("TLSContext ctx.default", reason).await;
        assert_eq!(problem["severity"], "error", "{problem:#}");
        assert_eq!(problem["field"], "spec.crl_secret", "{problem:#}");
        assert_holds(
            &problem["message"],
            &["Secret `crl` in namespace `default`", words],
        );
    }
    upstream.assert_untouched().await;
}

/// An upstream that serves and counts the connections that were closed.
async fn counting(identity: &Identity) -> (Upstream, Arc<AtomicUsize>) {
    let closed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&closed);
    let upstream = Tls::with(identity)
        .alpn(&["http/1.1"])
        .start_with(move |stream, record| {
            let counter = Arc::clone(&counter);
            async move {
                serve_http(stream, record, answer_ok()).await;
                counter.fetch_add(1, Ordering::SeqCst);
            }
        })
        .await;
    (upstream, closed)
}

#[tokio::test]
async fn c9_new_list_reaches_warm_connections() {
    let ca = Certificates::new();
    let (upstream, closed) = counting(&ca.issue(&server(BAD))).await;
    let gateway = gateway(&upstream, &ca.pem(), &crl(&ca, &[])).await;
    for _ in 0..3 {
        assert_good(&gateway).await;
    }
    assert_eq!(upstream.connections().len(), 1, "one warm connection");
    assert_eq!(closed.load(Ordering::SeqCst), 0);

    gateway.write("secrets.yaml", &secrets(&ca.pem(), &crl(&ca, &[BAD])));
    gateway
        .get_until("/", |answer| answer.reason() == "revoked")
        .await;
    let served = upstream.requests().len();
    eventually("the warm connection is closed", async || {
        (closed.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    for _ in 0..3 {
        gateway.get("/").await.assert_refused("revoked");
    }
    assert_eq!(upstream.requests().len(), served, "no request passes any more");

    gateway.write("secrets.yaml", &secrets(&ca.pem(), &crl(&ca, &[GOOD])));
    gateway.get_until("/", |answer| answer.status == 200).await;
}

#[tokio::test]
async fn c9_busy_connections_end_within_the_drain_time() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let ca = Certificates::new();
    // It begins to answer and never ends; when the gateway lets go, it notices.
    let closed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&closed);
    let upstream = Tls::with(&ca.issue(&server(BAD)))
        .alpn(&["http/1.1"])
        .start_with(move |mut stream, _| {
            let counter = Arc::clone(&counter);
            async move {
                read_head(&mut stream).await;
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbegun";
                stream.write_all(head).await.unwrap();
                // It ends with an error where no word was said before.
                let _ = stream.read_u8().await;
                counter.fetch_add(1, Ordering::SeqCst);
            }
        })
        .await;
    let gateway = plan(&upstream, &ca.pem(), &crl(&ca, &[]), &[])
        .args(&["--drain-time", "1"])
        .start()
        .await;
    let mut client = Client::http1(gateway.address).await;
    let get = request(http::Method::GET, &gateway.authority(), "/", "");
    let answer = client.start(get).await.unwrap();
    assert_eq!(answer.status(), 200);

    gateway.write("secrets.yaml", &secrets(&ca.pem(), &crl(&ca, &[BAD])));
    eventually("the busy connection is closed", async || {
        (closed.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    gateway.get("/").await.assert_refused("revoked");
    let whole = http_body_util::BodyExt::collect(answer.into_body()).await;
    assert!(whole.is_err(), "the answer breaks off");
}

/// A certificate whose list is at this place.
fn at(serial: u64, point: &str) -> CertificateParams {
    let mut params = server(serial);
    params.crl_distribution_points = vec![CrlDistributionPoint {
        uris: vec![point.to_owned()],
    }];
    params
}

#[tokio::test]
async fn c10_partitioned_lists_cover_their_own_and_no_others() {
    let ca = Certificates::new();
    let part = |serials: &[u64], point: &str| {
        let mut params = listing(serials);
        params.issuing_distribution_point = Some(CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint {
                uris: vec![point.to_owned()],
            },
            scope: None,
        });
        pem(&ca, &params)
    };
    let (one, two, three) = (
        "http://ca.test/1.crl",
        "http://ca.test/2.crl",
        "http://ca.test/3.crl",
    );
    let lists = part(&[1], one) + &part(&[BAD], two);
    for point in [one, two] {
        let good = Upstream::tls(&ca.issue(&at(GOOD, point))).await;
        assert_good(&gateway(&good, &ca.pem(), &lists).await).await;
    }
    let bad = Upstream::tls(&ca.issue(&at(BAD, two))).await;
    assert_refused(&gateway(&bad, &ca.pem(), &lists).await, &bad, "revoked").await;

    let elsewhere = Upstream::tls(&ca.issue(&at(GOOD, three))).await;
    let gateway = gateway(&elsewhere, &ca.pem(), &lists).await;
    let refusal = Refusal {
        reason: "crl_unknown",
        message: &["whether certificate `CN=test server` was revoked is not known"],
        remedy: &["add the list for its distribution point to the Secret of spec.crl_secret"],
    };
    refusal.assert_told(&gateway, "m", "/").await;
    assert!(elsewhere.requests().is_empty(), "no byte of a request is sent");
}

#[tokio::test]
async fn list_without_ca_fails_closed() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.issue(&server(GOOD))).await;
    let gateway = origination(&upstream, &[], &["crl_secret: crl", "sni: a.test"])
        .file("secrets.yaml", &secret("crl", &[("crl.pem", &crl(&ca, &[]))]))
        .start()
        .await;
    gateway.get("/").await.assert_refused("tls_config_unresolved");
    let problem = gateway.problem("TLSContext ctx.default", "crl_without_ca").await;
    assert_holds(
        &problem["message"],
        &["set `spec.ca_secret`, or `spec.verify.roots` to system"],
    );
    upstream.assert_untouched().await;
}

/// The pin of a key, made as anybody makes one.
fn pin_of(key: &KeyPair) -> String {
    let digest = digest::digest(&digest::SHA256, &key.subject_public_key_info());
    format!("sha256/{}", STANDARD.encode(digest))
}

#[tokio::test]
async fn pins_of_leaf_or_ca_let_pass_and_others_refuse() {
    let ca = Certificates::new();
    let leaf_key = key();
    let upstream = Upstream::tls(&ca.issue_for(&server(GOOD), &leaf_key)).await;
    let backup = pin_of(&key());
    let verify = |pin: &str, mode: &str| format!("verify: {{mode: {mode}, pins: [\"{backup}\", \"{pin}\"]}}");
    let gateway = async |verify: &str| {
        let context = ["ca_secret: ca", verify];
        let plan = origination(&upstream, &[], &context).file("secrets.yaml", &ca.secret("ca"));
        plan.start().await
    };
    for pin in [pin_of(&leaf_key), pin_of(ca.key())] {
        let gateway = gateway(&verify(&pin, "full")).await;
        assert_good(&gateway).await;
        let upstream = gateway.upstream_of("m").await;
        assert_eq!(upstream["tls"]["pins"]["value"][1], pin, "{upstream:#}");
    }

    let other = pin_of(&key());
    let served = upstream.requests().len();
    let refusal = Refusal {
        reason: "pin_mismatch",
        message: &["no key in the verified chain of", &pin_of(&leaf_key)],
        remedy: &["spec.verify.pins"],
    };
    for mode in ["chain", "full"] {
        let gateway = gateway(&verify(&other, mode)).await;
        refusal.assert_told(&gateway, "m", "/").await;
    }
    assert_eq!(upstream.requests().len(), served, "no byte of a request is sent");

    let report = gateway(&verify(&other, "report")).await;
    report.get("/").await.assert_ok();
    let labels = [("reason", "pin_mismatch")];
    let counted = report
        .count("nuncio_upstream_verify_would_fail_total", &labels)
        .await;
    assert_eq!(counted, 1.0);
    let none = gateway(&verify(&other, "none")).await;
    none.get("/").await.assert_ok();
}

#[tokio::test]
async fn malformed_pin_fails_closed() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.issue(&server(GOOD))).await;
    let context = ["ca_secret: ca", "verify: {pins: [\"sha256/AAAA\"]}"];
    let gateway = origination(&upstream, &[], &context)
        .file("secrets.yaml", &ca.secret("ca"))
        .start()
        .await;
    gateway.get("/").await.assert_refused("tls_config_unresolved");
    let problem = gateway.problem("TLSContext ctx.default", "bad_value").await;
    assert_eq!(problem["field"], "spec.verify.pins", "{problem:#}");
    upstream.assert_untouched().await;
}
