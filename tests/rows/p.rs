//! Versions, ALPN and HTTP: rows P.

mod application;
mod large_hello;
mod renegotiation;

use bytes::Bytes;
use http::{Method, Version};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, NamedGroup, SupportedProtocolVersion};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::origination;
use crate::support::certificates::{Certificates, Identity};
use crate::support::client::request;
use crate::support::peer::{Tls, Upstream, read_head};
use crate::support::program::{Gateway, finish_beside, mapping, nuncio, tls_context};
use crate::support::refusal::{Refusal, assert_holds, name};
use crate::support::tls_bytes::{alert, answer_hello};

fn server() -> Identity {
    Certificates::new().server(&["a.test"])
}

/// No problem but that there is no Host, which is of no object.
async fn assert_no_problem(gateway: &Gateway) {
    let problems = gateway.problems().await;
    let of_objects = problems.iter().filter(|problem| !problem["object"].is_null());
    assert_eq!(of_objects.count(), 0, "{problems:#?}");
}

#[tokio::test]
async fn p1_each_version_is_spoken() {
    for (version, told) in [(&TLS12, "TLSv1.2"), (&TLS13, "TLSv1.3")] {
        let upstream = Tls::with(&server()).versions(&[version]).start().await;
        let gateway = origination(&upstream, &[], &[]).start().await;
        gateway.get("/x").await.assert_ok();
        let handshake = gateway.last_handshake("m").await;
        assert_eq!(
            (&handshake["outcome"], &handshake["version"], &handshake["sni"]),
            (&"ok".into(), &told.into(), &"a.test".into()),
            "{handshake:#}"
        );
        let entry = gateway.access_log("/x").await;
        assert_eq!(entry["upstream_tls"]["version"], told, "{entry:#}");
        let labels = [("outcome", "ok"), ("version", told), ("resumed", "false")];
        assert_eq!(
            gateway.count("nuncio_upstream_handshakes_total", &labels).await,
            1.0
        );
    }
}

/// A server that knows nothing above TLS 1.1 says so with an alert, or takes the hello for one of its own.
#[tokio::test]
async fn p2_tls_1_1_only_is_protocol_version() {
    const PROTOCOL_VERSION: u8 = 70;
    let mut server_hello = vec![22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    server_hello.extend([7; 32]);
    server_hello.extend([0, 0, 0x2f, 0]);
    for answer in [alert(PROTOCOL_VERSION, 2).to_vec(), server_hello] {
        let upstream = Upstream::raw(move |stream| {
            let answer = answer.clone();
            async move { answer_hello(stream, &answer).await }
        });
        let upstream = upstream.await;
        let gateway = origination(&upstream, &[], &[]).start().await;
        let refusal = Refusal {
            reason: "protocol_version",
            message: &["version"],
            remedy: &["TLS 1.2 or 1.3", "TLS 1.1 and older are not spoken"],
        };
        refusal.assert_told(&gateway, "m", "/x").await;
    }
}

#[tokio::test]
async fn p2_rsa_key_exchange_only_is_no_shared_cipher() {
    const HANDSHAKE_FAILURE: u8 = 40;
    let upstream =
        Upstream::raw(|stream| async { answer_hello(stream, &alert(HANDSHAKE_FAILURE, 3)).await }).await;
    let gateway = origination(&upstream, &[], &[]).start().await;
    let refusal = Refusal {
        reason: "no_shared_cipher",
        message: &["cipher suite", "alert `handshake_failure`"],
        remedy: &["ECDHE", "RSA key exchange"],
    };
    refusal.assert_told(&gateway, "m", "/x").await;
}

#[tokio::test]
async fn p6_alpn_protocols_h2_speaks_h2_without_grpc() {
    let upstream = Tls::with(&server()).start().await;
    let gateway = origination(&upstream, &[], &["alpn_protocols: h2"]).start().await;
    gateway.get("/").await.assert_ok();
    assert_eq!(upstream.request().version, Version::HTTP_2);
    assert_eq!(upstream.hello().alpn, ["h2"]);
    assert_eq!(gateway.last_handshake("m").await["alpn"], "h2");

    let upstream = Tls::with(&server()).alpn(&["http/1.1"]).start().await;
    let gateway = origination(&upstream, &[], &["alpn_protocols: h2"]).start().await;
    let refusal = Refusal {
        reason: "alpn_mismatch",
        message: &["h2"],
        remedy: &["spec.alpn_protocols"],
    };
    refusal.assert_told(&gateway, "m", "/x").await;
}

#[tokio::test]
async fn p7_http_1_1_is_spoken_where_it_is_picked() {
    let context = ["alpn_protocols: \"h2, http/1.1\""];
    for (picks, version) in [("http/1.1", Version::HTTP_11), ("h2", Version::HTTP_2)] {
        let upstream = Tls::with(&server()).alpn(&[picks]).start().await;
        let gateway = origination(&upstream, &[], &context).start().await;
        gateway.get("/").await.assert_ok();
        assert_eq!(upstream.request().version, version);
        assert_eq!(upstream.hello().alpn, ["h2", "http/1.1"]);
        assert_eq!(gateway.last_handshake("m").await["alpn"], picks);
        assert_no_problem(&gateway).await;
    }
}

#[tokio::test]
async fn p8_without_alpn_http_1_1_is_spoken() {
    let upstream = Tls::with(&server()).alpn(&[]).start().await;
    for context in [&[][..], &["alpn_protocols: h2,http/1.1"]] {
        let gateway = origination(&upstream, &[], context).start().await;
        gateway.get("/").await.assert_ok();
        assert_eq!(upstream.request().version, Version::HTTP_11);
        assert_eq!(gateway.last_handshake("m").await["alpn"], Value::Null);
    }
    assert_eq!(offers(&upstream), [vec!["http/1.1"], vec!["h2", "http/1.1"]]);
}

/// What ALPN offered on each connection.
fn offers(upstream: &Upstream) -> Vec<Vec<String>> {
    let connections = upstream.connections().into_iter();
    connections.map(|seen| seen.hello.unwrap().alpn).collect()
}

#[tokio::test]
async fn p11_group_of_equal_preference_is_offered_whole() {
    const GROUP: &str = "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]";
    let context = format!("cipher_suites: [\"{GROUP}\"]");
    let suites = [
        (
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ),
        (
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        ),
    ];
    for (suite, told) in suites {
        let tls = Tls::with(&server()).versions(&[&TLS12]).cipher_suites(&[suite]);
        let upstream = tls.start().await;
        let gateway = origination(&upstream, &[], &[&context]).start().await;
        gateway.get("/").await.assert_ok();
        assert_eq!(gateway.last_handshake("m").await["cipher"], told);
        let offered = upstream.hello().cipher_suites;
        let offered: Vec<_> = offered
            .iter()
            .filter(|suite| suite.starts_with("TLS_ECDHE"))
            .collect();
        assert_eq!(offered, suites.map(|(_, name)| name));
        assert_no_problem(&gateway).await;
        let view = gateway.upstream_of("m").await["tls"]["cipher_suites"].clone();
        assert_holds(&view["value"].to_string().into(), &suites.map(|(_, name)| name));
    }
}

#[tokio::test]
async fn p12_unknown_suite_beside_a_known_one_is_a_warning() {
    let tls = Tls::with(&server()).versions(&[&TLS12]);
    let upstream = tls.start().await;
    let context = ["cipher_suites: [ECDHE-ECDSA-AES128-GCM-SHA265, ECDHE-ECDSA-AES256-GCM-SHA384]"];
    let gateway = origination(&upstream, &[], &context).start().await;
    gateway.get("/").await.assert_ok();
    assert_eq!(
        gateway.last_handshake("m").await["cipher"],
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    );
    let problem = gateway.problem("TLSContext ctx.default", "unknown_name").await;
    assert_eq!(
        (&problem["severity"], &problem["field"]),
        (&"warning".into(), &"spec.cipher_suites".into()),
        "{problem:#}"
    );
    assert_holds(
        &problem["message"],
        &["ECDHE-ECDSA-AES128-GCM-SHA265", "ECDHE-ECDSA-AES128-GCM-SHA256"],
    );
}

#[tokio::test]
async fn p12_only_unknown_suites_make_the_context_unusable() {
    let upstream = Tls::with(&server()).start().await;
    let context = ["cipher_suites: [ECDHE-ECDSA-AES128-GCM-SHA265]"];
    let gateway = origination(&upstream, &[], &context).start().await;
    gateway.get("/x").await.assert_refused("tls_config_unresolved");
    let entry = gateway.access_log("/x").await;
    assert_eq!(entry["reason"], "tls_config_unresolved", "{entry:#}");
    assert_holds(&entry["message"], &["ctx", "spec.cipher_suites"]);
    let problem = gateway.problem("TLSContext ctx.default", "no_cipher_suite").await;
    assert_eq!(
        (&problem["severity"], &problem["field"]),
        (&"error".into(), &"spec.cipher_suites".into()),
        "{problem:#}"
    );
    upstream.assert_untouched().await;
}

#[tokio::test]
async fn p13_another_hello_for_another_group_is_counted_and_no_failure() {
    let tls = Tls::with(&server()).groups(&[NamedGroup::secp256r1]);
    let upstream = tls.versions(&[&TLS13]).start().await;
    let gateway = origination(&upstream, &[], &[]).start().await;
    gateway.get("/").await.assert_ok();
    let handshake = gateway.last_handshake("m").await;
    assert_eq!(
        (&handshake["outcome"], &handshake["group"]),
        (&"ok".into(), &"secp256r1".into())
    );
    let upstream = gateway.upstream_of("m").await;
    let label = ("upstream", name(&upstream));
    assert_eq!(
        gateway.count("nuncio_upstream_handshakes_total", &[label]).await,
        1.0
    );
    assert_eq!(
        gateway
            .count("nuncio_upstream_hello_retries_total", &[label])
            .await,
        1.0
    );
    assert_eq!(gateway.count("nuncio_upstream_failures_total", &[]).await, 0.0);
}

#[tokio::test]
async fn p15_certificate_that_is_asked_for_and_missing() {
    let ca = Certificates::new();
    for version in [&TLS12, &TLS13] {
        let tls = || Tls::with(&ca.server(&["a.test"])).versions(&[version]);
        let upstream = tls().client_ca(&ca.pem(), false).start().await;
        let gateway = origination(&upstream, &[], &[]).start().await;
        gateway.get("/").await.assert_ok();
        let handshake = gateway.last_handshake("m").await;
        let asked = serde_json::json!({"requested": true, "sent": false});
        assert_eq!(
            (&handshake["outcome"], &handshake["client_certificate"]),
            (&"ok".into(), &asked)
        );

        let upstream = tls().client_ca(&ca.pem(), true).start().await;
        let gateway = origination(&upstream, &[], &[]).start().await;
        let refusal = Refusal {
            reason: "client_cert_required",
            message: &["client certificate", "alert"],
            remedy: &["set spec.secret"],
        };
        let handshake = refusal.assert_told(&gateway, "m", "/x").await;
        assert_eq!(handshake["client_certificate"], asked, "{handshake:#}");
        assert!(upstream.requests().is_empty());
    }
}

#[tokio::test]
async fn p16_refused_client_certificate_is_never_a_reset() {
    let (ca, stranger) = (Certificates::new(), Certificates::named("stranger"));
    let tls = Tls::with(&ca.server(&["a.test"])).versions(&[&TLS13]);
    let upstream = tls.client_ca(&ca.pem(), true).start().await;
    let plan = origination(&upstream, &[], &["secret: client"]);
    let plan = plan.file("secret.yaml", &stranger.client("nobody").secret("client"));
    let gateway = plan.start().await;
    let refusal = Refusal {
        reason: "client_cert_rejected",
        message: &["refused the client certificate", "alert"],
        remedy: &["spec.secret"],
    };
    let megabyte = Bytes::from(vec![b'x'; 1024 * 1024]);
    // The alert races the request; a few tries show both orders.
    for n in 0..10 {
        let get = format!("/get/{n}");
        let handshake = refusal.assert_told(&gateway, "m", &get).await;
        let sent = serde_json::json!({"requested": true, "sent": true});
        assert_eq!(handshake["client_certificate"], sent, "{handshake:#}");
        let post = format!("/post/{n}");
        let answer = gateway
            .send(request(Method::POST, "a", &post, megabyte.clone()))
            .await;
        answer.assert_refused("client_cert_rejected");
        refusal.assert_recorded(&gateway, "m", &post).await;
    }
    assert!(upstream.requests().is_empty());
    assert_eq!(upstream.connections().len(), 20, "none was tried again");
    // Each is counted as what it was, although the handshake itself was over by then.
    let counted = async |outcome| {
        let labels = [("outcome", outcome), ("version", "TLSv1.3")];
        gateway.count("nuncio_upstream_handshakes_total", &labels).await
    };
    assert_eq!(
        (counted("client_cert_rejected").await, counted("ok").await),
        (20.0, 0.0)
    );
}

/// The same by `nuncio probe`, which sends no request that could be refused.
#[tokio::test]
async fn p16_probe_waits_for_the_verdict_on_its_certificate() {
    let (ca, stranger) = (Certificates::new(), Certificates::named("stranger"));
    let tls = Tls::with(&ca.server(&["a.test"])).versions(&[&TLS13]);
    let upstream = tls.client_ca(&ca.pem(), true).start().await;
    for (issuer, outcome, status) in [(&stranger, "client_cert_rejected", 1), (&ca, "ok", 0)] {
        let folder = tempfile::tempdir().unwrap();
        let service = format!("https://{}", upstream.address);
        let manifests = mapping("m", "/", &service, &["tls: ctx"])
            + &tls_context("ctx", &["secret: client"])
            + &issuer.client("somebody").secret("client");
        std::fs::write(folder.path().join("m.yaml"), manifests).unwrap();
        let mut command = nuncio(["probe", "m", "--format", "json", "--config"]);
        command.arg(folder.path());
        let probed = finish_beside(command).await;
        assert_eq!(probed.status, status, "{probed:?}");
        let report: Value = serde_json::from_str(&probed.stdout).unwrap();
        assert_eq!(report["outcome"], outcome, "{report:#}");
        let about_ours = report["remedy"]
            .as_str()
            .unwrap()
            .contains("certificate in spec.secret");
        assert_eq!(about_ours, status == 1, "{report:#}");
    }
}

/// A server that asks for a client certificate, shakes hands and ends the connection without an alert, as
/// applications do that judge the certificate themselves.
async fn judging_in_silence(ca: &Certificates, version: &'static SupportedProtocolVersion) -> Upstream {
    let tls = Tls::with(&ca.server(&["a.test"])).versions(&[version]);
    let tls = tls.client_ca(&ca.pem(), false).without_tickets();
    tls.start_with(|stream, _| async move { drop(stream) }).await
}

#[tokio::test]
async fn p15_p16_an_end_in_silence_is_a_verdict_on_the_certificate() {
    let ca = Certificates::new();
    for version in [&TLS12, &TLS13] {
        for (context, reason) in [
            (vec!["sni: a.test"], "client_cert_required"),
            (vec!["sni: a.test", "secret: client"], "client_cert_rejected"),
        ] {
            let upstream = judging_in_silence(&ca, version).await;
            let plan = origination(&upstream, &[], &context);
            let gateway = plan
                .file("secret.yaml", &ca.client("us").secret("client"))
                .start()
                .await;
            let refusal = Refusal {
                reason,
                message: &["client certificate", "the connection", "without an alert"],
                remedy: &["spec.secret"],
            };
            // The end of the connection races the request; a few tries show both orders.
            for n in 0..5 {
                refusal.assert_told(&gateway, "m", &format!("/get/{n}")).await;
                let post = format!("/post/{n}");
                let body = Bytes::from(vec![b'x'; 1024 * 1024]);
                let answer = gateway.send(request(Method::POST, "a", &post, body)).await;
                answer.assert_refused(reason);
                refusal.assert_recorded(&gateway, "m", &post).await;
            }
        }
    }
}

/// One that has answered before, or did not ask, has another reason to end the connection.
#[tokio::test]
async fn p16_an_end_in_silence_is_a_reset_where_no_certificate_is_at_issue() {
    let ca = Certificates::new();
    let asking = Tls::with(&ca.server(&["a.test"]))
        .client_ca(&ca.pem(), false)
        .without_tickets();
    let answers_once = asking.alpn(&["http/1.1"]).start_with(|mut stream, _| async move {
        read_head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await
            .unwrap();
        stream.flush().await.unwrap();
        read_head(&mut stream).await;
    });
    let answers_once = answers_once.await;
    let gateway = origination(&answers_once, &[], &[]).start().await;
    gateway.get("/1").await.assert_ok();
    let second = gateway.send(request(Method::POST, "a", "/2", "x")).await;
    second.assert_refused("reset_before_response");

    let never_asks = Tls::with(&ca.server(&["a.test"])).without_tickets();
    let never_asks = never_asks
        .start_with(|stream, _| async move { drop(stream) })
        .await;
    let gateway = origination(&never_asks, &[], &[]).start().await;
    gateway.get("/x").await.assert_refused("reset_before_response");
    let message = gateway.access_log("/x").await["message"].to_string();
    assert!(!message.contains("docs.rs"), "{message}");
}

/// The handshake itself is over when the server ends the connection.
#[tokio::test]
async fn p16_probe_does_not_say_yes_to_a_server_that_hangs_up() {
    let ca = Certificates::new();
    for version in [&TLS12, &TLS13] {
        let asks = judging_in_silence(&ca, version).await;
        let tls = Tls::with(&ca.server(&["a.test"])).versions(&[version]);
        let hangs_up = tls.start_with(|stream, _| async move { drop(stream) }).await;
        for (upstream, outcome) in [
            (asks, "client_cert_required"),
            (hangs_up, "reset_during_handshake"),
        ] {
            let url = format!("https://{}", upstream.address);
            let probed = finish_beside(nuncio(["probe", &url, "--format", "json"])).await;
            assert_eq!(probed.status, 1, "{probed:?}");
            let report: Value = serde_json::from_str(&probed.stdout).unwrap();
            assert_eq!(report["outcome"], outcome, "{report:#}");
        }
    }
}
