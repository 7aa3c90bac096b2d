use std::time::{Duration, SystemTime};

use nuncio_model::{HandshakeReport, Outcome, Roots, TlsSettings};
use rcgen::{ExtendedKeyUsagePurpose, SigningKey};

use super::*;
use crate::fixture::*;

/// What a handshake under these settings with a peer that shows `leaf` comes to.
fn met(settings: TlsSettings, leaf: &Leaf) -> HandshakeReport {
    meet(&endpoint(settings), leaf.server()).report()
}

#[track_caller]
fn assert_refused(settings: TlsSettings, leaf: &Leaf, reason: Reason, message: &str, remedy: &str) {
    let report = met(settings, leaf);
    assert_eq!(report.outcome, Outcome::Failed(reason), "{}", report.message);
    assert_eq!(report.verify.result, Outcome::Failed(reason));
    assert!(report.message.contains(message), "{}", report.message);
    assert!(report.remedy.contains(remedy), "{}", report.remedy);
}

#[track_caller]
fn assert_accepted(settings: TlsSettings, leaf: &Leaf) -> HandshakeReport {
    let report = met(settings, leaf);
    assert_eq!(report.outcome, Outcome::Ok, "{}", report.message);
    report
}

fn judge_of(roots: &Roots, names: Arc<[VerifyName]>) -> Judge {
    Judge::new(Standards {
        trust: Trust::of(roots),
        names,
        revocation: None,
        pins: [].into(),
    })
}

fn full(ca: &Authority) -> TlsSettings {
    trusting(&ca.pem(), VerifyMode::Full)
}

#[test]
fn v1_a_leaf_with_its_intermediate_is_accepted() {
    let ca = Authority::new("ca");
    let between = ca.intermediate("between");
    let report = assert_accepted(full(&ca), &between.leaf(&["a.test"]).with(&between));
    assert_eq!(report.verify.result, Outcome::Ok);
    assert_eq!(report.message, "connected");
    assert_eq!(report.peer.len(), 2);
    assert_eq!(report.peer[0].subject, "CN=a.test");
    assert_eq!(report.peer[0].issuer, "CN=between");
}

#[test]
fn v2_a_leaf_without_its_intermediate_is_unknown_issuer() {
    let ca = Authority::new("ca");
    let between = ca.intermediate("between");
    assert_refused(
        full(&ca),
        &between.leaf(&["a.test"]),
        Reason::UnknownIssuer,
        "leads to issuer `CN=between`, which is not among the trusted CA certificates (the peer sent no",
        "spec.ca_secret",
    );
}

#[test]
fn v3_an_intermediate_alone_may_end_the_chain() {
    let between = Authority::new("ca").intermediate("between");
    assert_accepted(full(&between), &between.leaf(&["a.test"]));
    assert_accepted(full(&between), &between.leaf(&["a.test"]).with(&between));
}

#[test]
fn v4_a_bundle_with_a_ca_twice_works() {
    let ca = Authority::new("ca");
    assert_accepted(
        trusting(&(ca.pem() + &ca.pem()), VerifyMode::Full),
        &ca.leaf(&["a.test"]),
    );
}

fn expired_ca() -> Authority {
    let mut params = ca_params("old ca");
    params.not_after = (SystemTime::now() - YEAR).into();
    Authority::from_params(params)
}

#[test]
fn v5_an_expired_ca_spoils_only_its_own() {
    let (old, new) = (expired_ca(), Authority::new("new ca"));
    let settings = trusting(&(old.pem() + &new.pem()), VerifyMode::Full);
    assert_accepted(settings.clone(), &new.leaf(&["a.test"]));
    assert_refused(
        settings,
        &old.leaf(&["a.test"]),
        Reason::Expired,
        "the configured CA certificate `CN=old ca` expired at",
        "in the Secret of spec.ca_secret",
    );
}

#[test]
fn v5_a_ca_that_was_issued_anew_with_its_key_is_valid_again() {
    let old = expired_ca();
    let renewed = ca_params("old ca")
        .self_signed(old.issuer.key())
        .expect("a CA")
        .pem();
    let settings = trusting(&(old.pem() + &renewed), VerifyMode::Full);
    assert_accepted(settings, &old.leaf(&["a.test"]));
}

#[test]
fn v6_two_cas_of_one_name_each_accept_their_own() {
    let (first, second) = (Authority::new("ca"), Authority::new("ca"));
    let settings = trusting(&(first.pem() + &second.pem()), VerifyMode::Full);
    assert_accepted(settings.clone(), &first.leaf(&["a.test"]));
    assert_accepted(settings, &second.leaf(&["a.test"]));
    assert_refused(
        full(&first),
        &second.leaf(&["a.test"]),
        Reason::UnknownIssuer,
        "a CA of that name is configured, but another key signed",
        "spec.ca_secret",
    );
}

#[test]
fn v9_v10_a_self_signed_leaf_may_be_its_own_ca() {
    let mut with_ca_true = leaf_params(&["a.test"]);
    with_ca_true.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    for params in [leaf_params(&["a.test"]), with_ca_true] {
        let leaf = Leaf::self_signed(&params);
        assert_accepted(trusting(&leaf.pem(), VerifyMode::Chain), &leaf);
        assert_accepted(trusting(&leaf.pem(), VerifyMode::Full), &leaf);
        let stranger = trusting(&Authority::new("ca").pem(), VerifyMode::Chain);
        assert_refused(
            stranger,
            &leaf,
            Reason::UnknownIssuer,
            "is self-signed and is not among",
            "spec.ca_secret",
        );
    }
}

#[test]
fn v9_a_leaf_in_the_bundle_issues_nothing() {
    let leaf = Leaf::self_signed(&leaf_params(&["a.test"]));
    let issuer = rcgen::Issuer::from_params(&leaf_params(&["a.test"]), &leaf.key)
        .key()
        .sign(b"")
        .is_ok();
    assert!(issuer, "its key can sign");
    let params = leaf_params(&["a.test"]);
    let key = new_key();
    let forged = params
        .signed_by(&key, &rcgen::Issuer::from_params(&params, &leaf.key))
        .expect("a certificate");
    let forged = Leaf {
        chain: vec![forged.der().to_vec()],
        key,
    };
    let report = met(trusting(&leaf.pem(), VerifyMode::Chain), &forged);
    assert_eq!(report.outcome, Outcome::Failed(Reason::BadIssuer));
    let words =
        "the configured certificate `CN=a.test` may not issue certificates: it has no basicConstraints";
    assert!(report.message.contains(words), "{}", report.message);
}

#[test]
fn v9_a_pinned_leaf_still_has_its_time_and_purpose() {
    let mut params = leaf_params(&["a.test"]);
    params.not_after = (SystemTime::now() - YEAR).into();
    let leaf = Leaf::self_signed(&params);
    assert_refused(
        trusting(&leaf.pem(), VerifyMode::Chain),
        &leaf,
        Reason::Expired,
        "expired at",
        "renew",
    );
    let mut params = leaf_params(&["a.test"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = Leaf::self_signed(&params);
    assert_refused(
        trusting(&leaf.pem(), VerifyMode::Chain),
        &leaf,
        Reason::BadPurpose,
        "serverAuth",
        "servers",
    );
}

#[test]
fn v11_report_accepts_anything_and_says_what_is_wrong() {
    let mut params = leaf_params(&["other.test"]);
    params.not_after = (SystemTime::now() - YEAR).into();
    let leaf = Leaf::self_signed(&params);
    for mode in [VerifyMode::None, VerifyMode::Report] {
        let mut settings = trusting(&Authority::new("ca").pem(), mode);
        settings.verify.roots.bundle = None;
        let report = assert_accepted(settings, &leaf);
        assert!(matches!(
            report.verify.result,
            Outcome::Failed(Reason::Expired | Reason::UnknownIssuer)
        ));
        assert!(
            report.message.contains("what `full` would refuse"),
            "{}",
            report.message
        );
        assert!(!report.remedy.is_empty());
    }
}

#[test]
fn v12_a_common_name_is_no_name() {
    let ca = Authority::new("ca");
    let leaf = ca.issue(&{
        let mut params = leaf_params(&["a.test"]);
        params.subject_alt_names.clear();
        params
    });
    assert_refused(
        full(&ca),
        &leaf,
        Reason::NameMismatch,
        "no DNS SAN",
        "spec.verify.names",
    );
}

#[test]
fn v13_a_uri_name_suffices_for_the_chain_and_is_listed_for_the_name() {
    let ca = Authority::new("ca");
    let leaf = ca.leaf(&["spiffe://cluster.local/ns/default/sa/a"]);
    let report = assert_accepted(trusting(&ca.pem(), VerifyMode::Chain), &leaf);
    assert_eq!(report.verify.result, Outcome::Failed(Reason::NameMismatch));
    assert_refused(
        full(&ca),
        &leaf,
        Reason::NameMismatch,
        "it has no DNS SAN, only URI:spiffe://cluster.local/ns/default/sa/a",
        "spec.verify.names",
    );
    let mut settings = full(&ca);
    settings.verify.names = [uri("spiffe://cluster.local/ns/default/sa/a")].into();
    assert_accepted(settings.clone(), &leaf);
    settings.verify.names = [uri("spiffe://cluster.local/ns/default/sa/A")].into();
    assert_eq!(
        met(settings, &leaf).outcome,
        Outcome::Failed(Reason::NameMismatch)
    );
}

#[test]
fn v14_a_certificate_for_clients_is_bad_purpose() {
    let ca = Authority::new("ca");
    let mut params = leaf_params(&["a.test"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    assert_refused(
        full(&ca),
        &ca.issue(&params),
        Reason::BadPurpose,
        "lacks serverAuth",
        "meant for servers",
    );
}

#[test]
fn a_ca_certificate_on_a_server_is_bad_purpose() {
    let ca = Authority::new("ca");
    let mut params = leaf_params(&["a.test"]);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    assert_refused(
        full(&ca),
        &ca.issue(&params),
        Reason::BadPurpose,
        "is a CA certificate",
        "no CA",
    );
}

#[test]
fn v16_not_yet_valid_has_both_times() {
    let ca = Authority::new("ca");
    let mut params = leaf_params(&["a.test"]);
    params.not_before = (SystemTime::now() + YEAR).into();
    let report = met(full(&ca), &ca.issue(&params));
    assert_eq!(report.outcome, Outcome::Failed(Reason::NotYetValid));
    assert_eq!(report.message.matches('Z').count(), 2, "{}", report.message);
    assert!(report.remedy.contains("clock"));
}

#[test]
fn expired_has_both_times() {
    let ca = Authority::new("ca");
    let mut params = leaf_params(&["a.test"]);
    params.not_after = (SystemTime::now() - YEAR).into();
    let report = met(trusting(&ca.pem(), VerifyMode::Chain), &ca.issue(&params));
    assert_eq!(report.outcome, Outcome::Failed(Reason::Expired));
    assert_eq!(report.message.matches('Z').count(), 2, "{}", report.message);
}

#[test]
fn s10_s11_addresses_are_compared_with_addresses() {
    let ca = Authority::new("ca");
    let mut settings = full(&ca);
    settings.sni = None;
    settings.verify.names = [ip(5)].into();
    assert_accepted(settings.clone(), &ca.leaf(&["10.0.0.5"]));
    assert_refused(
        settings.clone(),
        &ca.leaf(&["a.test", "10.0.0.6"]),
        Reason::NameMismatch,
        "is not for 10.0.0.5: it is for DNS:a.test, IP:10.0.0.6",
        "spec.verify.names",
    );
    settings.verify.names = [VerifyName::Ip("2001:db8::1".parse().expect("an address"))].into();
    assert_accepted(settings, &ca.leaf(&["2001:db8::1"]));
}

#[test]
fn s13_any_of_the_names_suffices() {
    let ca = Authority::new("ca");
    let mut settings = full(&ca);
    settings.verify.names = [dns("svc"), dns("svc.ns"), dns("svc.ns.svc.cluster.local")].into();
    let report = assert_accepted(settings.clone(), &ca.leaf(&["svc.ns.svc.cluster.local"]));
    assert_eq!(report.verify.names, ["svc", "svc.ns", "svc.ns.svc.cluster.local"]);
    assert_refused(
        settings,
        &ca.leaf(&["other.test"]),
        Reason::NameMismatch,
        "is not for svc or svc.ns or svc.ns.svc.cluster.local: it is for DNS:other.test",
        "spec.verify.names",
    );
}

#[test]
fn s14_a_wildcard_is_one_label() {
    let ca = Authority::new("ca");
    let leaf = ca.leaf(&["*.test"]);
    for (name, outcome) in [
        ("a.test", Outcome::Ok),
        ("a.b.test", Outcome::Failed(Reason::NameMismatch)),
        ("test", Outcome::Failed(Reason::NameMismatch)),
    ] {
        let mut settings = full(&ca);
        settings.verify.names = [dns(name)].into();
        assert_eq!(met(settings, &leaf).outcome, outcome, "{name}");
    }
}

#[test]
fn chain_reports_the_name_and_refuses_the_chain() {
    let ca = Authority::new("ca");
    let settings = trusting(&ca.pem(), VerifyMode::Chain);
    let report = assert_accepted(settings.clone(), &ca.leaf(&["other.test"]));
    assert_eq!(report.verify.result, Outcome::Failed(Reason::NameMismatch));
    assert!(report.remedy.contains("spec.verify.names"));
    let stranger = Authority::new("stranger").leaf(&["a.test"]);
    assert_eq!(
        met(settings, &stranger).outcome,
        Outcome::Failed(Reason::UnknownIssuer)
    );
}

#[test]
fn a_refusal_tells_the_peer_by_the_right_alert() {
    let ca = Authority::new("ca");
    let told = |settings, leaf: &Leaf| {
        let mut meeting = meet(&endpoint(settings), leaf.server());
        meeting.client_speaks();
        meeting.server.process_new_packets().expect_err("an alert")
    };
    let alert = rustls::Error::AlertReceived;
    use rustls::AlertDescription as A;
    assert_eq!(
        told(full(&ca), &Authority::new("x").leaf(&["a.test"])),
        alert(A::UnknownCA)
    );
    assert_eq!(told(full(&ca), &ca.leaf(&["b.test"])), alert(A::BadCertificate));
}

#[test]
fn the_system_roots_do_not_know_a_private_ca() {
    let mut settings = settings();
    settings.verify.mode = VerifyMode::Chain;
    settings.verify.roots = Roots {
        bundle: None,
        system: true,
    };
    let leaf = Authority::new("ca").leaf(&["a.test"]);
    assert_refused(
        settings,
        &leaf,
        Reason::UnknownIssuer,
        "`CN=ca`",
        "set spec.ca_secret",
    );
}

#[test]
fn a_mode_that_refuses_needs_roots() {
    let mut settings = settings();
    settings.verify.mode = VerifyMode::Full;
    settings.verify.roots = Roots {
        bundle: None,
        system: false,
    };
    let error = crate::ClientTls::new(&Arc::new(settings)).expect_err("no roots");
    assert_eq!(error.reason, "no_roots");
}

/// 2030-03-17; the certificates of the folder `fixture` are valid then.
const THEN: Duration = Duration::from_secs(1_900_000_000);

fn judged(ca: &str, leaf: &str) -> Arc<Judgement> {
    let (bundle, _) = crate::trust_bundle(ca.as_bytes(), SystemTime::UNIX_EPOCH + THEN).expect("a bundle");
    let roots = Roots {
        bundle: Some(Arc::new(bundle)),
        system: false,
    };
    let judge = judge_of(&roots, [dns("a.test")].into());
    let leaf = crate::certificates(leaf.as_bytes()).0.remove(0);
    judge.judge(&CertificateDer::from(leaf), &[], UnixTime::since_unix_epoch(THEN))
}

#[test]
fn v15_weak_signatures_are_named() {
    for (ca, leaf, message) in [
        (
            include_str!("../fixture/rsa-1024-ca.pem"),
            include_str!("../fixture/rsa-1024-signed.pem"),
            "RSA key of fewer than 2048 bits",
        ),
        (
            include_str!("../fixture/sha-1-ca.pem"),
            include_str!("../fixture/sha-1-signed.pem"),
            "signed with SHA-1 and ECDSA",
        ),
    ] {
        let judgement = judged(ca, leaf);
        let flaw = judgement.refusal(VerifyMode::Chain).expect("a flaw");
        assert_eq!(flaw.reason, Reason::BadSignatureAlgorithm, "{flaw:?}");
        assert!(flaw.message.contains(message), "{flaw:?}");
    }
}

/// The certificate again, as version 1: without version and extensions, and signed anew.
fn as_version_1(ca: &Authority, der: &[u8]) -> Vec<u8> {
    let (header, body) = element(der);
    let (tbs_header, tbs) = element(&der[header..header + body]);
    let tbs = &der[header + tbs_header..header + tbs_header + tbs];
    let mut fields = Vec::new();
    let mut rest = tbs;
    let mut algorithm = Vec::new();
    for index in 0.. {
        if rest.is_empty() {
            break;
        }
        let (header, length) = element(rest);
        let field = &rest[..header + length];
        match field[0] {
            0xa0 | 0xa3 => {}
            _ => fields.extend_from_slice(field),
        }
        if index == 2 {
            algorithm = field.to_vec();
        }
        rest = &rest[header + length..];
    }
    let tbs = sequence(0x30, &fields);
    let mut signature = vec![0];
    signature.extend(ca.issuer.key().sign(&tbs).expect("a signature"));
    sequence(0x30, &[tbs, algorithm, sequence(3, &signature)].concat())
}

/// Lengths of header and content of the DER element at the start.
fn element(der: &[u8]) -> (usize, usize) {
    match der[1] {
        short @ ..0x80 => (2, short.into()),
        long => {
            let count = usize::from(long & 0x7f);
            (
                2 + count,
                der[2..2 + count]
                    .iter()
                    .fold(0, |length, byte| length << 8 | usize::from(*byte)),
            )
        }
    }
}

fn sequence(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("short").to_be_bytes();
    [&[tag, 0x82, length[0], length[1]][..], content].concat()
}

#[test]
fn v15_a_certificate_of_version_1_connects_unless_it_is_verified() {
    let ca = Authority::new("ca");
    let mut leaf = ca.leaf(&["a.test"]);
    leaf.chain = vec![as_version_1(&ca, leaf.der())];
    for version in rustls::ALL_VERSIONS {
        let server = leaf.server_with(&crate::provider(), &[version]);
        let meeting = meet(&endpoint(trusting(&ca.pem(), VerifyMode::Report)), server);
        assert_eq!(meeting.outcome, Ok(()));
        assert_eq!(
            meeting.report().verify.result,
            Outcome::Failed(Reason::BadCertificate)
        );
        let evidence = meeting.client.into_evidence().expect("a certificate");
        let said = evidence.verdicts(&trusting(&ca.pem(), VerifyMode::Report), SystemTime::now());
        let said: Vec<&str> = said.iter().map(|verdict| verdict.result.as_str()).collect();
        assert_eq!(said, ["ok", "ok", "bad_certificate", "bad_certificate"]);
        // Its key must be held all the same.
        let impostor = Leaf {
            chain: leaf.chain.clone(),
            key: new_key(),
        };
        let server = impostor.server_with(&crate::provider(), &[version]);
        let meeting = meet(&endpoint(trusting(&ca.pem(), VerifyMode::Report)), server);
        assert_eq!(meeting.failure().reason, Reason::BadCertificate);
    }
    assert_refused(
        trusting(&ca.pem(), VerifyMode::Chain),
        &leaf,
        Reason::BadCertificate,
        "version 1",
        "version 3",
    );
}

#[test]
fn judgements_are_remembered_until_a_certificate_begins_or_ends() {
    let ca = Authority::new("ca");
    let now = SystemTime::now();
    let mut params = leaf_params(&["a.test"]);
    params.not_before = (now - YEAR).into();
    params.not_after = (now + YEAR).into();
    let leaf = CertificateDer::from(ca.issue(&params).chain.remove(0));
    let settings = full(&ca);
    let judge = judge_of(&settings.verify.roots, Arc::clone(&settings.verify.names));
    let at = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        judge.judge(&leaf, &[], UnixTime::since_unix_epoch(since))
    };
    let first = at(now);
    assert!(first.flaw().is_none());
    assert!(Arc::ptr_eq(&first, &at(now + YEAR / 2)));
    assert!(Arc::ptr_eq(&first, &at(now - YEAR / 2)));
    let late = at(now + YEAR * 2);
    assert_eq!(late.flaw().map(|flaw| flaw.reason), Some(Reason::Expired));
    assert!(Arc::ptr_eq(&late, &at(now + YEAR * 3)));
    let early = at(now - YEAR * 2);
    assert_eq!(early.flaw().map(|flaw| flaw.reason), Some(Reason::NotYetValid));
    assert!(at(now).flaw().is_none());
}

#[test]
fn no_more_than_a_few_judgements_are_remembered() {
    let ca = Authority::new("ca");
    let settings = full(&ca);
    let judge = judge_of(&settings.verify.roots, Arc::clone(&settings.verify.names));
    for _ in 0..REMEMBERED * 2 {
        let leaf = CertificateDer::from(ca.leaf(&["a.test"]).chain.remove(0));
        judge.judge(&leaf, &[], UnixTime::now());
    }
    assert_eq!(judge.memory.lock().expect("whole").len(), REMEMBERED);
}

#[test]
fn f14_a_chain_of_many_strangers_ends_soon() {
    let ca = Authority::new("ca");
    let strangers: Vec<Authority> = (0..60).map(|_| Authority::new("ca")).collect();
    let leaf = strangers
        .iter()
        .fold(Authority::new("ca").leaf(&["a.test"]), Leaf::with);
    let report = met(full(&ca), &leaf);
    assert!(matches!(report.outcome, Outcome::Failed(_)), "{}", report.message);
}

/// Settings with pins of these keys.
fn pinned(mut settings: TlsSettings, keys: &[&rcgen::KeyPair]) -> TlsSettings {
    settings.verify.pins = keys
        .iter()
        .map(|key| Pin(sha256(&[&rcgen::PublicKeyData::subject_public_key_info(*key)])))
        .collect();
    settings
}

#[test]
fn a_pin_may_be_of_any_key_in_the_verified_chain() {
    let root = Authority::new("root");
    let between = root.intermediate("between");
    let leaf = between.leaf(&["a.test"]).with(&between);
    for key in [&leaf.key, between.issuer.key(), root.issuer.key()] {
        assert_accepted(pinned(full(&root), &[&new_key(), key]), &leaf);
    }
}

#[test]
fn a_chain_without_pinned_key_is_refused_by_modes_that_refuse() {
    let ca = Authority::new("ca");
    let leaf = ca.leaf(&["a.test"]);
    for mode in [VerifyMode::Chain, VerifyMode::Full] {
        let settings = pinned(trusting(&ca.pem(), mode), &[&new_key(), &new_key()]);
        let own = Pin(sha256(&[&rcgen::PublicKeyData::subject_public_key_info(
            &leaf.key,
        )]));
        assert_refused(
            settings,
            &leaf,
            Reason::PinMismatch,
            &format!("the pin of its own key is {own}"),
            "spec.verify.pins",
        );
    }
    let settings = pinned(trusting(&ca.pem(), VerifyMode::Report), &[&new_key()]);
    let report = assert_accepted(settings, &leaf);
    assert_eq!(report.verify.result, Outcome::Failed(Reason::PinMismatch));
    let settings = pinned(trusting(&ca.pem(), VerifyMode::None), &[&new_key()]);
    assert_eq!(assert_accepted(settings, &leaf).verify.result, Outcome::Ok);
}

#[test]
fn a_pinned_certificate_that_is_only_sent_along_does_not_count() {
    let (ca, pinned_ca) = (Authority::new("ca"), Authority::new("pinned"));
    let stranger = pinned_ca.intermediate("between");
    let leaf = ca.leaf(&["a.test"]).with(&stranger);
    let settings = pinned(full(&ca), &[stranger.issuer.key(), pinned_ca.issuer.key()]);
    assert_refused(
        settings,
        &leaf,
        Reason::PinMismatch,
        "no key in the verified chain",
        "spec.verify.pins",
    );
}

#[test]
fn without_a_verified_chain_only_the_leaf_may_be_pinned() {
    let (ca, stranger) = (Authority::new("ca"), Authority::new("stranger"));
    let leaf = stranger.leaf(&["a.test"]).with(&stranger);
    let judged = |key: &rcgen::KeyPair| {
        let settings = pinned(trusting(&ca.pem(), VerifyMode::Report), &[key]);
        let tls = crate::ClientTls::new(&Arc::new(settings)).expect("settings");
        let chain: Vec<CertificateDer<'_>> = leaf.chain.iter().map(|der| der.as_slice().into()).collect();
        let now = UnixTime::now();
        tls.verifier
            .judge
            .judge(&chain[0], &chain[1..], now)
            .pin
            .is_none()
    };
    assert!(judged(&leaf.key));
    assert!(!judged(stranger.issuer.key()));
}

#[test]
fn a_configured_leaf_has_pins_as_well() {
    let leaf = Leaf::self_signed(&leaf_params(&["a.test"]));
    let settings = trusting(&leaf.pem(), VerifyMode::Full);
    assert_accepted(pinned(settings.clone(), &[&leaf.key]), &leaf);
    assert_refused(
        pinned(settings, &[&new_key()]),
        &leaf,
        Reason::PinMismatch,
        "CN=a.test",
        "spec.verify.pins",
    );
}
