//! What `nuncio probe` says where a handshake fails, and which field it names.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::{FULL, Manifests, assert_remedy, verdicts};
use crate::support::certificates::{Certificates, Identity, leaf};
use crate::support::peer::{Tls, Upstream};
use crate::support::tls_bytes::{answer_hello, read_record, reset, swallow};

#[tokio::test]
async fn probe_says_what_each_mode_makes_of_a_wrong_name() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.server(&["b.test", "c.test"])).await;
    let manifests = Manifests::of(&upstream, &[], &FULL, &ca.secret("ca"));
    let remedy = [
        "spec.verify.names (or spec.sni) to `b.test` or `c.test`",
        "spec.verify.mode to `chain`",
    ];
    let report = manifests.fails("name_mismatch", &remedy).await;
    let said = ["ok", "ok/name_mismatch", "ok/name_mismatch", "name_mismatch"];
    assert_eq!(verdicts(&report), said, "{report:#}");
    let in_force = &report["verdicts"][3];
    assert_eq!(
        (&in_force["mode"], &in_force["message"]),
        (&"full".into(), &report["message"])
    );
    assert_eq!(
        report["judged_by"],
        serde_json::json!({ "ca": ["CN=test CA"], "system": false })
    );

    // In the mode that the remedy names it works, and it is told all the same.
    let manifests = Manifests::of(&upstream, &[], &["ca_secret: ca"], &ca.secret("ca"));
    let (status, report) = manifests.report().await;
    assert_eq!((status, &report["outcome"]), (0, &"ok".into()), "{report:#}");
    assert_eq!(verdicts(&report), said);
    assert_remedy(&report, &["spec.verify.names"]);

    // So it does with the name.
    let context = ["ca_secret: ca", "verify: {mode: full, names: [b.test]}"];
    let (status, report) = Manifests::of(&upstream, &[], &context, &ca.secret("ca"))
        .report()
        .await;
    assert_eq!((status, &report["remedy"]), (0, &"".into()), "{report:#}");
    assert_eq!(verdicts(&report), ["ok"; 4]);
}

#[tokio::test]
async fn probe_says_who_can_close_a_gap_in_the_chain() {
    let ca = Certificates::new();
    let between = ca.intermediate("between");
    let whole = between.server(&["a.test"]);
    let alone = Identity {
        chain: Certificates::first_of(&whole.chain),
        key: whole.key.clone(),
    };
    let upstream = Upstream::tls(&alone).await;
    let manifests = Manifests::of(&upstream, &[], &["ca_secret: ca"], &ca.secret("ca"));
    let remedy = [
        "if `CN=between` is an intermediate CA, let the upstream send",
        "spec.ca_secret",
    ];
    let report = manifests.fails("unknown_issuer", &remedy).await;
    let refused = "unknown_issuer";
    assert_eq!(
        verdicts(&report),
        ["ok", "ok/unknown_issuer", refused, refused],
        "{report:#}"
    );

    // Without any CA it is the system's roots that judge.
    let (status, report) = Manifests::of(&upstream, &[], &[], "").report().await;
    assert_eq!(
        (status, &report["verify"]["mode"]),
        (0, &"report".into()),
        "{report:#}"
    );
    assert_eq!(
        report["judged_by"],
        serde_json::json!({ "ca": [], "system": true })
    );
    assert_eq!(verdicts(&report), ["ok", "ok/unknown_issuer", refused, refused]);
    assert_remedy(&report, &["set spec.ca_secret"]);

    let own = Upstream::tls(&Identity::self_signed(&["a.test"], true)).await;
    let manifests = Manifests::of(&own, &[], &["ca_secret: ca"], &ca.secret("ca"));
    let remedy = ["the upstream's own certificate, put it into the Secret of spec.ca_secret"];
    manifests.fails("unknown_issuer", &remedy).await;
}

#[tokio::test]
async fn probe_tells_certificates_out_of_their_time() {
    let ca = Certificates::new();
    let mut params = leaf("old", &["a.test"]);
    params.not_after = (SystemTime::now() - Duration::from_secs(36 * 3600)).into();
    let upstream = Upstream::tls(&ca.issue(&params)).await;
    let manifests = Manifests::of(&upstream, &[], &FULL, &ca.secret("ca"));
    let report = manifests.fails("expired", &["renew it"]).await;
    assert_eq!(verdicts(&report), ["ok", "ok/expired", "expired", "expired"]);
    assert_eq!(report["peer"][0]["days_left"], -2);
    let told = manifests.probe("m", &[]).await.stdout;
    assert!(told.contains("(expired)"), "{told}");
}

/// The pin that a probe shows is what `verify.pins` takes.
#[tokio::test]
async fn probe_shows_pins_to_copy() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.server(&["a.test"])).await;
    let other = Upstream::tls(&ca.server(&["a.test"])).await;
    let (_, report) = Manifests::of(&upstream, &[], &FULL, &ca.secret("ca"))
        .report()
        .await;
    let pin = report["peer"][0]["pin"].as_str().unwrap();
    let pinned = format!("verify: {{mode: full, pins: [{pin}]}}");
    let context = ["ca_secret: ca", &pinned];
    let (status, report) = Manifests::of(&upstream, &[], &context, &ca.secret("ca"))
        .report()
        .await;
    assert_eq!(status, 0, "{report:#}");
    let manifests = Manifests::of(&other, &[], &context, &ca.secret("ca"));
    let report = manifests.fails("pin_mismatch", &["spec.verify.pins"]).await;
    assert_eq!(
        verdicts(&report),
        ["ok", "ok/pin_mismatch", "pin_mismatch", "pin_mismatch"]
    );
}

#[tokio::test]
async fn probe_names_the_field_for_what_the_peer_wants_of_us() {
    let ca = Certificates::new();
    let server = ca.server(&["a.test"]);
    for version in rustls::ALL_VERSIONS {
        let demanding = || Tls::with(&server).client_ca(&ca.pem(), true).versions(&[version]);
        let upstream = demanding().start().await;
        let manifests = Manifests::of(&upstream, &[], &[], "");
        let report = manifests
            .fails("client_cert_required", &["set spec.secret"])
            .await;
        let asked = serde_json::json!({ "requested": true, "sent": false });
        assert_eq!(report["client_certificate"], asked);
        assert_eq!(report["offered"]["client_certificate"], Value::Null);

        let stranger = Certificates::new().client("stranger").secret("own");
        let manifests = Manifests::of(&upstream, &[], &["secret: own"], &stranger);
        let report = manifests.fails("client_cert_rejected", &["spec.secret"]).await;
        assert_eq!(report["offered"]["client_certificate"]["subject"], "CN=stranger");
        assert_eq!(report["client_certificate"]["sent"], true);
        let context = serde_json::json!({ "kind": "TLSContext", "namespace": "default", "name": "ctx" });
        assert_eq!(report["tls_context"], context);
    }
    let optional = Tls::with(&server).client_ca(&ca.pem(), false).start().await;
    let (status, report) = Manifests::of(&optional, &[], &[], "").report().await;
    assert_eq!(
        (status, &report["client_certificate"]["requested"]),
        (0, &true.into())
    );
}

#[tokio::test]
async fn probe_names_the_field_for_what_is_not_shared() {
    let ca = Certificates::new();
    let server = || Tls::with(&ca.server(&["a.test"]));
    let old = server().versions(&[&rustls::version::TLS12]).start().await;
    let manifests = Manifests::of(&old, &[], &["min_tls_version: v1.3"], "");
    let report = manifests
        .fails("protocol_version", &["spec.min_tls_version"])
        .await;
    assert_eq!(report["offered"]["versions"], serde_json::json!(["TLSv1.3"]));
    assert_eq!(
        report["verdicts"],
        serde_json::json!([]),
        "no certificate was seen"
    );

    let suite = rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;
    let picky = server()
        .versions(&[&rustls::version::TLS12])
        .cipher_suites(&[suite]);
    let picky = picky.start().await;
    let context = [
        "max_tls_version: v1.2",
        "cipher_suites: [ECDHE-ECDSA-AES128-GCM-SHA256]",
    ];
    let manifests = Manifests::of(&picky, &[], &context, "");
    let report = manifests.fails("no_shared_cipher", &["spec.cipher_suites"]).await;
    let offered = serde_json::json!(["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]);
    assert_eq!(report["offered"]["cipher_suites"], offered);

    let curve = server().groups(&[rustls::NamedGroup::secp384r1]).start().await;
    let manifests = Manifests::of(&curve, &[], &["ecdh_curves: [X25519]"], "");
    let report = manifests.fails("no_shared_group", &["spec.ecdh_curves"]).await;
    assert_eq!(report["offered"]["groups"], serde_json::json!(["X25519"]));

    let http1 = server().alpn(&["http/1.1"]).start().await;
    let manifests = Manifests::of(&http1, &["grpc: true"], &["alpn_protocols: \"h2,http/1.1\""], "");
    let report = manifests
        .fails("alpn_mismatch", &["spec.alpn_protocols", "spec.grpc"])
        .await;
    assert_eq!(report["offered"]["alpn"], serde_json::json!(["h2", "http/1.1"]));
    assert_eq!(report["alpn"], "http/1.1");
}

#[tokio::test]
async fn probe_tells_peers_that_do_not_come_as_far_as_tls() {
    let plain = Upstream::cleartext().await;
    let remedy = ["use http:// or another port"];
    Manifests::of(&plain, &[], &[], "")
        .fails("not_tls", &remedy)
        .await;

    let silent = Upstream::raw(swallow).await;
    let manifests = Manifests::of(&silent, &["connect_timeout_ms: 400"], &[], "");
    manifests
        .fails("handshake_timeout", &["connect_timeout_ms"])
        .await;

    let rude = Upstream::raw(async |mut stream| {
        read_record(&mut stream).await;
        reset(stream);
    })
    .await;
    let manifests = Manifests::of(&rude, &[], &[], "");
    manifests.fails("reset_during_handshake", &["spec.sni"]).await;

    const UNRECOGNIZED_NAME: u8 = 112;
    let picky = Upstream::raw(async |stream| {
        let alert = crate::support::tls_bytes::alert(UNRECOGNIZED_NAME, 3);
        answer_hello(stream, &alert).await;
    })
    .await;
    let manifests = Manifests::of(&picky, &[], &[], "");
    manifests
        .fails("alert_received:unrecognized_name", &["set spec.sni"])
        .await;
}
