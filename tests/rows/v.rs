//! Verification: rows V.

mod directory;
mod weak;

use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, NameConstraints, SanType, date_time_ymd,
};

use super::origination;
use crate::support::certificates::{Certificates, Identity, authority, key, leaf, secret};
use crate::support::peer::{Tls, Upstream};
use crate::support::program::{Gateway, Plan, mapping, tls_context};
use crate::support::refusal::{Refusal, assert_holds, name};

/// `origination` with these Secrets beside it.
fn plan(upstream: &Upstream, secrets: &str, context: &[&str]) -> Plan {
    origination(upstream, &[], context).file("secrets.yaml", secrets)
}

/// A server certificate for these names, to be changed.
fn server(names: &[&str]) -> CertificateParams {
    let mut params = leaf("test server", names);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

/// A server certificate for `a.test` whose time is over.
fn expired() -> CertificateParams {
    let mut params = server(&["a.test"]);
    (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
    params
}

/// The first certificate of a chain only.
fn alone(mut identity: Identity) -> Identity {
    identity.chain = Certificates::first_of(&identity.chain);
    identity
}

async fn assert_nothing_asked(upstream: &Upstream) {
    upstream
        .saw("the end of a handshake", |seen| seen.handshake_error.is_some())
        .await;
    assert!(upstream.requests().is_empty(), "no byte of a request is sent");
}

#[tokio::test]
async fn v1_chain_with_its_intermediate_is_verified() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.intermediate("between").server(&["a.test"])).await;
    let context = ["ca_secret: ca", "verify: {mode: full}"];
    let gateway = plan(&upstream, &ca.secret("ca"), &context).start().await;

    gateway.get("/").await.assert_ok();
    let handshake = gateway.last_handshake("m").await;
    assert_eq!(handshake["outcome"], "ok", "{handshake:#}");
    assert_eq!(handshake["remedy"], "", "{handshake:#}");
    assert_eq!(
        handshake["verify"],
        serde_json::json!({"mode": "full", "result": "ok", "names": ["a.test"]})
    );
    let peer = handshake["peer"].as_array().unwrap();
    assert_eq!(peer.len(), 2, "{handshake:#}");
    assert_eq!(peer[0]["sans"], serde_json::json!(["DNS:a.test"]));
    assert_eq!(peer[0]["issuer"], peer[1]["subject"]);
    let upstream = gateway.upstream_of("m").await;
    let labels = [("upstream", name(&upstream)), ("mode", "full")];
    assert_eq!(gateway.count("nuncio_upstream_verify_mode", &labels).await, 1.0);
    assert_eq!(
        gateway
            .count("nuncio_upstream_verify_would_fail_total", &[])
            .await,
        0.0
    );
}

#[tokio::test]
async fn v2_missing_intermediate_is_unknown_issuer() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&alone(ca.intermediate("between").server(&["a.test"]))).await;
    let gateway = plan(&upstream, &ca.secret("ca"), &["ca_secret: ca"])
        .start()
        .await;

    let refusal = Refusal {
        reason: "unknown_issuer",
        message: &["CN=between", "sent no intermediate certificate"],
        remedy: &["spec.ca_secret", "let the upstream send its intermediate"],
    };
    let handshake = refusal.assert_told(&gateway, "m", "/x").await;
    assert_eq!(handshake["verify"]["mode"], "chain", "{handshake:#}");
    assert_eq!(handshake["verify"]["result"], "unknown_issuer", "{handshake:#}");
    assert_eq!(
        handshake["peer"].as_array().map(Vec::len),
        Some(1),
        "{handshake:#}"
    );
    let labels = [("outcome", "unknown_issuer")];
    assert_eq!(
        gateway.count("nuncio_upstream_handshakes_total", &labels).await,
        1.0
    );
    assert_nothing_asked(&upstream).await;
}

#[tokio::test]
async fn v3_intermediate_alone_ends_a_chain() {
    let between = Certificates::new().intermediate("between");
    let server = between.server(&["a.test"]);
    for server in [server.clone(), alone(server)] {
        let upstream = Upstream::tls(&server).await;
        let context = ["ca_secret: between", "verify: {mode: full}"];
        let gateway = plan(&upstream, &between.secret("between"), &context)
            .start()
            .await;
        gateway.get("/").await.assert_ok();
        assert_eq!(gateway.last_handshake("m").await["verify"]["result"], "ok");
    }
}

#[tokio::test]
async fn v4_ca_that_stands_in_its_bundle_twice_is_told_and_harmless() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.server(&["a.test"])).await;
    let twice = secret("ca", &[("tls.crt", &ca.pem().repeat(2))]);
    let context = ["ca_secret: ca", "verify: {mode: full}"];
    let gateway = plan(&upstream, &twice, &context).start().await;

    gateway.get("/").await.assert_ok();
    let problem = gateway
        .problem("Secret ca.default", "duplicate_certificate")
        .await;
    assert_eq!(problem["severity"], "notice", "{problem:#}");
    assert_holds(&problem["message"], &["CN=test CA"]);
}

#[tokio::test]
async fn v5_expired_ca_ends_no_chain_and_spoils_no_other() {
    let mut params = authority("old CA");
    (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
    let (old, new) = (Certificates::made_of(params), Certificates::named("new CA"));
    let good = Upstream::tls(&new.server(&["a.test"])).await;
    let bad = Upstream::tls(&old.server(&["b.test"])).await;
    let bundle = secret("ca", &[("tls.crt", &format!("{}{}", old.pem(), new.pem()))]);
    let other = mapping("other", "/other/", "https://b.test", &["tls: ctx"]);
    let plan = plan(&good, &(bundle + &other), &["ca_secret: ca"]);
    let gateway = plan.resolve("b.test:443", bad.address).start().await;

    gateway.get("/").await.assert_ok();
    let problem = gateway.problem("Secret ca.default", "certificate_expired").await;
    assert_eq!(problem["severity"], "notice", "{problem:#}");
    assert_holds(&problem["message"], &["CN=old CA", "2020-01-01"]);
    let refusal = Refusal {
        reason: "expired",
        message: &["configured CA", "2020-01-01T00:00:00Z"],
        remedy: &["spec.ca_secret"],
    };
    refusal.assert_told(&gateway, "other", "/other/").await;
    assert_nothing_asked(&bad).await;
}

#[tokio::test]
async fn v6_both_keys_of_a_ca_that_was_rekeyed_are_trusted() {
    let (before, after) = (Certificates::named("one CA"), Certificates::named("one CA"));
    assert_ne!(before.pem(), after.pem());
    let bundle = secret("ca", &[("tls.crt", &format!("{}{}", before.pem(), after.pem()))]);
    for ca in [before, after] {
        let upstream = Upstream::tls(&ca.server(&["a.test"])).await;
        let context = ["ca_secret: ca", "verify: {mode: full}"];
        let gateway = plan(&upstream, &bundle, &context).start().await;
        gateway.get("/").await.assert_ok();
    }
}

#[tokio::test]
async fn v7_broken_block_of_a_bundle_is_named_and_the_others_are_used() {
    let (one, two) = (Certificates::named("one CA"), Certificates::named("two CA"));
    let broken = "-----BEGIN CERTIFICATE-----\nMIIBnonsense!!\n-----END CERTIFICATE-----\n";
    let bundle = format!(
        "# bundle of 2026\r\nIssuer: one CA\r\n{}\r\n{broken}{}",
        one.pem().replace("\r\n", "\n").replace('\n', "\r\n"),
        two.pem()
    );
    let line = bundle[..bundle.find(broken).unwrap()].lines().count() + 1;
    let bundle = secret("ca", &[("tls.crt", &bundle)]);
    for ca in [one, two] {
        let upstream = Upstream::tls(&ca.server(&["a.test"])).await;
        let context = ["ca_secret: ca", "verify: {mode: full}"];
        let gateway = plan(&upstream, &bundle, &context).start().await;
        gateway.get("/").await.assert_ok();
        let problem = gateway.problem("Secret ca.default", "bad_pem_block").await;
        let which = format!("the certificate in line {line} is left out");
        assert_holds(&problem["message"], &[&which]);
        assert_eq!(problem["severity"], "warning", "{problem:#}");
    }
}

#[tokio::test]
async fn v8_ca_that_is_empty_or_missing_is_never_unverified() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.server(&["a.test"])).await;
    let cases = [
        (
            "nodata",
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: nodata\n".to_owned(),
        ),
        ("empty", secret("empty", &[("tls.crt", "")])),
        ("otherkey", secret("otherkey", &[("ca.pem", &ca.pem())])),
        (
            "garbage",
            secret("garbage", &[("tls.crt", "no certificate at all")]),
        ),
        ("nosecret", String::new()),
    ];
    let mut manifests = mapping("good", "/good/", "https://a.test", &[]);
    for (case, secret) in &cases {
        let (prefix, tls) = (format!("/{case}/"), format!("tls: {case}"));
        let ca_secret = format!("ca_secret: {case}");
        manifests += &mapping(case, &prefix, "https://a.test", &[&tls]);
        // Even a mode that refuses nothing does not let a named CA go unread.
        manifests += &tls_context(case, &[&ca_secret, "verify: {mode: report}"]);
        manifests += secret;
    }
    let plan = Gateway::with(manifests).resolve("a.test:443", upstream.address);
    let gateway = plan.start().await;

    for (case, _) in &cases {
        let path = format!("/{case}/");
        gateway.get(&path).await.assert_refused("tls_config_unresolved");
        let entry = gateway.access_log(&path).await;
        assert_eq!(
            (&entry["reason"], &entry["flags"], &entry["mapping"]),
            (
                &"tls_config_unresolved".into(),
                &"UF".into(),
                &format!("{case}.default").into()
            ),
            "{entry:#}"
        );
        assert_holds(&entry["message"], &[case]);
        let problems = gateway.problems().await;
        let of_context = |problem: &&serde_json::Value| {
            problem["object"]["kind"] == "TLSContext" && problem["object"]["name"] == *case
        };
        let problem = problems.iter().find(of_context).unwrap();
        assert_eq!(
            (&problem["severity"], &problem["field"]),
            (&"error".into(), &"spec.ca_secret".into()),
            "{problem:#}"
        );
    }
    upstream.assert_untouched().await;
    gateway.get("/good/").await.assert_ok();
}

/// A self-signed certificate for `a.test`, which says of itself whether it is a CA.
fn self_signed(is_ca: IsCa) -> Identity {
    let (mut params, key) = (leaf("a.test", &["a.test"]), key());
    params.is_ca = is_ca;
    Identity {
        chain: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

/// The configured CA is the server's own certificate: it is accepted in both modes that refuse, and no
/// other certificate of the same name is.
async fn assert_accepts_itself(is_ca: IsCa) {
    let server = self_signed(is_ca);
    let upstream = Upstream::tls(&server).await;
    let own = secret("ca", &[("tls.crt", &server.chain)]);
    for mode in ["chain", "full"] {
        let verify = format!("verify: {{mode: {mode}}}");
        let gateway = plan(&upstream, &own, &["ca_secret: ca", &verify]).start().await;
        gateway.get("/").await.assert_ok();
        let handshake = gateway.last_handshake("m").await;
        assert_eq!(
            handshake["verify"],
            serde_json::json!({"mode": mode, "result": "ok", "names": ["a.test"]})
        );

        let impostor = Upstream::tls(&self_signed(is_ca)).await;
        let gateway = plan(&impostor, &own, &["ca_secret: ca", &verify]).start().await;
        let refusal = Refusal {
            reason: "unknown_issuer",
            message: &["self-signed"],
            remedy: &["spec.ca_secret"],
        };
        refusal.assert_told(&gateway, "m", "/x").await;
        assert_nothing_asked(&impostor).await;
    }
}

#[tokio::test]
async fn v9_own_leaf_as_ca_is_accepted() {
    assert_accepts_itself(IsCa::ExplicitNoCa).await;
}

#[tokio::test]
async fn v10_own_certificate_that_is_a_ca_is_accepted() {
    assert_accepts_itself(IsCa::Ca(rcgen::BasicConstraints::Unconstrained)).await;
}

#[tokio::test]
async fn v11_without_a_ca_everything_connects_and_is_counted() {
    let ca = Certificates::new();
    let cases = [
        (
            "stranger",
            "unknown_issuer",
            Identity::self_signed(&["stranger.test"], false),
        ),
        ("late", "expired", {
            let mut params = expired();
            params.subject_alt_names = leaf("", &["late.test"]).subject_alt_names;
            ca.issue(&params)
        }),
        ("misnamed", "name_mismatch", ca.server(&["b.test"])),
        ("right", "ok", ca.server(&["right.test"])),
    ];
    let mut manifests = String::new();
    let mut upstreams = Vec::new();
    for (case, _, identity) in &cases {
        manifests += &mapping(case, &format!("/{case}/"), &format!("https://{case}.test"), &[]);
        upstreams.push((case, Upstream::tls(identity).await));
    }
    let system = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(system.path(), ca.pem()).unwrap();
    let mut plan = Gateway::with(manifests).env("SSL_CERT_FILE", system.path().to_str().unwrap());
    for (case, upstream) in &upstreams {
        plan = plan.resolve(&format!("{case}.test:443"), upstream.address);
    }
    let gateway = plan.start().await;

    for (case, result, _) in &cases {
        gateway.get(&format!("/{case}/")).await.assert_ok();
        let upstream = gateway.upstream_of(case).await;
        let handshake = &upstream["endpoints"][0]["last_handshake"];
        assert_eq!(
            (
                &handshake["outcome"],
                &handshake["verify"]["mode"],
                &handshake["verify"]["result"]
            ),
            (&"ok".into(), &"report".into(), &(*result).into()),
            "{handshake:#}"
        );
        let label = ("upstream", name(&upstream));
        let labels = [label, ("mode", "report")];
        assert_eq!(gateway.count("nuncio_upstream_verify_mode", &labels).await, 1.0);
        let all = gateway
            .count("nuncio_upstream_verify_would_fail_total", &[label])
            .await;
        let for_this = gateway
            .count(
                "nuncio_upstream_verify_would_fail_total",
                &[label, ("reason", result)],
            )
            .await;
        let expected = if *result == "ok" { 0.0 } else { 1.0 };
        assert_eq!((all, for_this), (expected, expected), "{case}");
        if *result != "ok" {
            assert_holds(&handshake["message"], &["mode `report` lets pass"]);
            assert_holds(&handshake["remedy"], &[]);
        }
    }
    let failures = gateway.count("nuncio_upstream_failures_total", &[]).await;
    assert_eq!(failures, 0.0, "nothing failed");
}

#[tokio::test]
async fn v12_common_name_is_no_name() {
    let ca = Certificates::new();
    let mut params = server(&[]);
    params.distinguished_name = leaf("a.test", &[]).distinguished_name;
    let upstream = Upstream::tls(&ca.issue(&params)).await;
    let context = ["ca_secret: ca", "verify: {mode: full}"];
    let gateway = plan(&upstream, &ca.secret("ca"), &context).start().await;

    let refusal = Refusal {
        reason: "name_mismatch",
        message: &["no DNS SAN", "CN=a.test", "a common name does not count"],
        remedy: &["spec.verify.names"],
    };
    refusal.assert_told(&gateway, "m", "/x").await;
    assert_nothing_asked(&upstream).await;
}

#[tokio::test]
async fn v13_spiffe_id_passes_chain_and_is_named_by_full() {
    const ID: &str = "spiffe://cluster.local/ns/default/sa/web";
    let ca = Certificates::new();
    let mut params = server(&[]);
    params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(ID).unwrap())];
    let upstream = Upstream::tls(&ca.issue(&params)).await;
    let gateway = plan(&upstream, &ca.secret("ca"), &["ca_secret: ca"])
        .start()
        .await;
    gateway.get("/").await.assert_ok();
    let handshake = gateway.last_handshake("m").await;
    assert_eq!(
        (
            &handshake["outcome"],
            &handshake["verify"]["mode"],
            &handshake["verify"]["result"]
        ),
        (&"ok".into(), &"chain".into(), &"name_mismatch".into()),
        "{handshake:#}"
    );
    let labels = [("reason", "name_mismatch")];
    let would_fail = gateway
        .count("nuncio_upstream_verify_would_fail_total", &labels)
        .await;
    assert_eq!(would_fail, 1.0);

    let full = ["ca_secret: ca", "verify: {mode: full}"];
    let gateway = plan(&upstream, &ca.secret("ca"), &full).start().await;
    let refusal = Refusal {
        reason: "name_mismatch",
        message: &["no DNS SAN", &format!("URI:{ID}"), "not for a.test"],
        remedy: &["spec.verify.names"],
    };
    refusal.assert_told(&gateway, "m", "/x").await;
    assert_eq!(upstream.requests().len(), 1, "the one before");

    let named = format!("verify: {{mode: full, names: [\"{ID}\"]}}");
    let gateway = plan(&upstream, &ca.secret("ca"), &["ca_secret: ca", &named])
        .start()
        .await;
    gateway.get("/").await.assert_ok();
    let verify = gateway.last_handshake("m").await["verify"].clone();
    assert_eq!(
        verify,
        serde_json::json!({"mode": "full", "result": "ok", "names": [ID]})
    );
}

#[tokio::test]
async fn v14_certificate_for_clients_only_is_bad_purpose() {
    let ca = Certificates::new();
    let mut params = server(&["a.test"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let identity = ca.issue(&params);
    for mode in ["chain", "full"] {
        let upstream = Upstream::tls(&identity).await;
        let verify = format!("verify: {{mode: {mode}}}");
        let gateway = plan(&upstream, &ca.secret("ca"), &["ca_secret: ca", &verify])
            .start()
            .await;
        let refusal = Refusal {
            reason: "bad_purpose",
            message: &["not meant for servers", "serverAuth"],
            remedy: &["meant for servers"],
        };
        refusal.assert_told(&gateway, "m", "/x").await;
        assert_nothing_asked(&upstream).await;
    }
    let upstream = Upstream::tls(&identity).await;
    let gateway = plan(&upstream, "", &["verify: {mode: none}"]).start().await;
    gateway.get("/").await.assert_ok();
}

/// Which certificate it is, and what is wrong with it.
#[tokio::test]
async fn an_authority_that_may_not_issue_is_named() {
    let mut params = authority("plain root");
    params.is_ca = IsCa::NoCa;
    let plain = Certificates::made_of(params);
    let mut params = authority("limited");
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("b.test".to_owned())],
        excluded_subtrees: Vec::new(),
    });
    let limited = Certificates::made_of(params);
    for (ca, reason, message, remedy) in [
        (
            plain,
            "bad_issuer",
            [
                "`CN=plain root` may not issue certificates",
                "it has no basicConstraints",
            ],
            "basicConstraints CA:TRUE",
        ),
        (
            limited,
            "name_constraint",
            ["`CN=limited` permits only DNS:b.test", "DNS:a.test"],
            "names that the CA may issue for",
        ),
    ] {
        let upstream = Upstream::tls(&ca.server(&["a.test"])).await;
        let plan = plan(&upstream, &ca.secret("ca"), &["ca_secret: ca"]);
        let refusal = Refusal {
            reason,
            message: &message,
            remedy: &[remedy],
        };
        refusal.assert_told(&plan.start().await, "m", "/x").await;
        assert_nothing_asked(&upstream).await;
    }
}

#[tokio::test]
async fn v16_certificate_from_the_future_is_told_with_both_times() {
    let ca = Certificates::new();
    let mut params = server(&["a.test"]);
    (params.not_before, params.not_after) = (date_time_ymd(3000, 1, 1), date_time_ymd(3001, 1, 1));
    let upstream = Upstream::tls(&ca.issue(&params)).await;
    let gateway = plan(&upstream, &ca.secret("ca"), &["ca_secret: ca"])
        .start()
        .await;

    let refusal = Refusal {
        reason: "not_yet_valid",
        message: &["not valid before 3000-01-01T00:00:00Z", "and now is 2"],
        remedy: &["clock"],
    };
    refusal.assert_told(&gateway, "m", "/x").await;
    assert_nothing_asked(&upstream).await;
}

#[tokio::test]
async fn v17_secret_as_istio_writes_it_is_identity_and_ca() {
    let ca = Certificates::new();
    let client = ca.client("web");
    let upstream = Tls::with(&ca.server(&["a.test"])).client_ca(&ca.pem(), true);
    let upstream = upstream.start().await;
    let istio = secret(
        "istio",
        &[
            ("cert-chain.pem", &client.chain),
            ("key.pem", &client.key),
            ("root-cert.pem", &ca.pem()),
        ],
    );
    let gateway = plan(&upstream, &istio, &["secret: istio"]).start().await;
    gateway.get("/").await.assert_ok();
    let session = upstream.last().session.unwrap();
    assert_eq!(session.client.as_deref(), Some(client.chain_der()[0].as_ref()));
    let handshake = gateway.last_handshake("m").await;
    assert_eq!(
        handshake["client_certificate"],
        serde_json::json!({"requested": true, "sent": true})
    );
    assert_eq!(
        (&handshake["verify"]["mode"], &handshake["verify"]["result"]),
        (&"chain".into(), &"ok".into()),
        "{handshake:#}"
    );

    let stranger = Upstream::tls(&Certificates::new().server(&["a.test"])).await;
    let gateway = plan(&stranger, &istio, &["secret: istio"]).start().await;
    gateway.get("/").await.assert_refused("unknown_issuer");
    assert_nothing_asked(&stranger).await;
}

#[tokio::test]
async fn v18_of_leaf_and_ca_in_one_secret_the_ca_is_used() {
    let ca = Certificates::new();
    let server = ca.server(&["a.test"]);
    let upstream = Upstream::tls(&server).await;
    let both = secret("ca", &[("tls.crt", &server.chain), ("ca.crt", &ca.pem())]);
    let context = ["ca_secret: ca", "verify: {mode: full}"];
    let gateway = plan(&upstream, &both, &context).start().await;
    gateway.get("/").await.assert_ok();
    let problem = gateway.problem("Secret ca.default", "ca_chosen").await;
    assert_eq!(problem["severity"], "notice", "{problem:#}");
    assert_holds(&problem["message"], &["`ca.crt` is the CA", "`tls.crt`"]);

    // The leaf itself would be accepted as well; another one of that CA shows which of them was used.
    let another = Upstream::tls(&ca.server(&["a.test"])).await;
    let gateway = plan(&another, &both, &context).start().await;
    gateway.get("/").await.assert_ok();
}
