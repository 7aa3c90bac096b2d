use std::time::Duration;

use nuncio_model::Reason;

use super::*;
use crate::fixture::*;

/// What a peer that shows `leaf` leaves behind when it is met under `settings`.
fn evidence(settings: TlsSettings, leaf: &Leaf) -> Evidence {
    let meeting = meet(&endpoint(settings), leaf.server());
    meeting.client.into_evidence().expect("a certificate was shown")
}

fn full(ca: &Authority) -> TlsSettings {
    trusting(&ca.pem(), VerifyMode::Full)
}

fn verdicts(settings: &TlsSettings, leaf: &Leaf) -> [Verdict; 4] {
    let verdicts = evidence(settings.clone(), leaf).verdicts(settings, SystemTime::now());
    verdicts.try_into().expect("one for each mode")
}

fn results(verdicts: &[Verdict; 4]) -> [&'static str; 4] {
    verdicts.each_ref().map(|verdict| verdict.result.as_str())
}

#[test]
fn each_mode_says_its_own_of_a_wrong_name() {
    let ca = Authority::new("ca");
    let said = verdicts(&full(&ca), &ca.leaf(&["b.test", "*.c.test"]));
    assert_eq!(results(&said), ["ok", "ok", "ok", "name_mismatch"]);
    let mismatch = Some(Reason::NameMismatch);
    assert_eq!(
        said.each_ref().map(|said| said.reported),
        [None, mismatch, mismatch, None]
    );
    let [none, report, chain, full] = said;
    assert_eq!(none.message, "accepts any certificate");
    assert!(
        report
            .message
            .starts_with("lets pass and reports: certificate `CN=b.test` is not for a.test")
    );
    assert!(
        chain
            .remedy
            .contains("spec.verify.names (or spec.sni) to `b.test`,"),
        "{chain:?}"
    );
    assert_eq!(full.remedy, chain.remedy);
}

#[test]
fn each_mode_finds_a_good_chain_good() {
    let ca = Authority::new("ca");
    let said = verdicts(&full(&ca), &ca.leaf(&["a.test"]));
    assert_eq!(results(&said), ["ok"; 4]);
    assert!(
        said.iter()
            .all(|said| said.reported.is_none() && said.remedy.is_empty())
    );
}

#[test]
fn a_remedy_names_what_is_missing_and_who_has_it() {
    let ca = Authority::new("ca");
    let between = ca.intermediate("between");
    let stranger = Authority::new("stranger");
    let renewed = Authority::new("ca");
    let unsent = between.leaf(&["a.test"]);
    let with_root = stranger.leaf(&["a.test"]).with(&stranger);
    let half = between.intermediate("lower");
    let half = half.leaf(&["a.test"]).with(&half);
    let uri_only = ca.leaf(&["spiffe://x/y"]);
    for (leaf, reason, remedy) in [
        (
            &unsent,
            "unknown_issuer",
            "if `CN=between` is an intermediate CA, let the upstream send",
        ),
        (
            &with_root,
            "unknown_issuer",
            "if you trust `CN=stranger`, put it into the Secret of spec.ca_secret",
        ),
        (
            &half,
            "unknown_issuer",
            "put `CN=between` into the Secret of spec.ca_secret, or let",
        ),
        (
            &renewed.leaf(&["a.test"]),
            "unknown_issuer",
            "`CN=ca` that is in use now",
        ),
        (
            &Leaf::self_signed(&leaf_params(&["a.test"])),
            "unknown_issuer",
            "own certificate, put it into",
        ),
        (
            &uri_only,
            "name_mismatch",
            "set spec.verify.names to `spiffe://x/y`",
        ),
        (&ca.leaf(&[]), "name_mismatch", "a subject alternative name"),
        (
            &ca.leaf(&["*.b.test"]),
            "name_mismatch",
            "to a name that the certificate carries",
        ),
    ] {
        let [.., said] = verdicts(&full(&ca), leaf);
        assert_eq!(said.result.as_str(), reason, "{said:?}");
        assert!(said.remedy.contains(remedy), "{said:?}");
    }
}

#[test]
fn without_a_ca_the_roots_of_the_system_judge() {
    let ca = Authority::new("ca");
    let mut settings = settings();
    settings.verify.roots = Roots {
        bundle: None,
        system: false,
    };
    let said = verdicts(&settings, &ca.leaf(&["a.test"]));
    assert_eq!(results(&said), ["ok", "ok", "unknown_issuer", "unknown_issuer"]);
    assert!(said[2].remedy.contains("set spec.ca_secret"), "{said:?}");
}

/// Whatever mode met the peer, the verdicts are what a handshake in each mode comes to.
#[test]
fn verdicts_are_what_handshakes_come_to() {
    let ca = Authority::new("ca");
    let between = ca.intermediate("between");
    let mut expired = leaf_params(&["a.test"]);
    expired.not_after = (SystemTime::now() - Duration::from_secs(3600)).into();
    let impostor = Leaf {
        chain: ca.leaf(&["a.test"]).chain,
        key: new_key(),
    };
    let peers = [
        ca.leaf(&["a.test"]),
        ca.leaf(&["b.test"]),
        ca.issue(&expired),
        between.leaf(&["a.test"]),
        between.leaf(&["a.test"]).with(&between),
        Authority::new("stranger").leaf(&["a.test"]),
        Leaf::self_signed(&leaf_params(&["b.test"])),
        impostor,
    ];
    let in_mode = |mode| trusting(&ca.pem(), mode);
    for leaf in &peers {
        let comes_to = VerifyMode::ALL.map(|mode| {
            let report = meet(&endpoint(in_mode(mode)), leaf.server()).report();
            report.outcome.as_str()
        });
        for met_in in VerifyMode::ALL {
            let evidence = evidence(in_mode(met_in), leaf);
            let said = evidence.verdicts(&in_mode(met_in), SystemTime::now());
            let said: Vec<&str> = said.iter().map(|said| said.result.as_str()).collect();
            assert_eq!(said, comes_to, "met in {met_in:?}");
        }
    }
}

/// No mode looks past a key that proves nothing (row V15), though `none` and `report` ask nothing of chains.
#[test]
fn a_weak_key_is_refused_where_the_chain_is_not() {
    let pem = include_str!("../fixture/rsa-1024-ca.pem");
    let chain = crate::certificates(pem.as_bytes())
        .0
        .into_iter()
        .map(CertificateDer::from);
    let evidence = Evidence::new(chain.collect(), None).expect("a certificate");
    let said = evidence.verdicts(&trusting(pem, VerifyMode::Chain), SystemTime::now());
    // `full` refuses it for its name.
    for said in &said[..3] {
        assert_eq!(said.result.as_str(), "bad_signature_algorithm", "{said:?}");
        assert!(said.message.contains("fewer than 2048 bits"), "{said:?}");
        assert!(said.remedy.contains("2048 bits or more"), "{said:?}");
    }
}

/// Certificates of another age connect where nothing is verified, and are named where it is (row V15).
#[test]
fn signatures_that_are_not_accepted_are_named_by_modes_that_look() {
    // The fixtures do not last for ever.
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
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
        let chain = crate::certificates(leaf.as_bytes()).0;
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let evidence = Evidence::new(chain, None).expect("a certificate");
        let said = evidence.verdicts(&trusting(ca, VerifyMode::Report), then);
        let said: [Verdict; 4] = said.try_into().expect("one for each mode");
        let bad = "bad_signature_algorithm";
        assert_eq!(results(&said), ["ok", "ok", bad, bad]);
        assert_eq!(said[1].reported, Some(Reason::BadSignatureAlgorithm));
        assert!(said[2].message.contains(message), "{said:?}");
    }
}

#[test]
fn an_offer_is_what_the_settings_send() {
    let ca = Authority::new("ca");
    let offered = offer(&with_client(full(&ca), &ca.leaf(&["client.test"])));
    assert_eq!(offered.versions, [TlsVersion::V1_2, TlsVersion::V1_3]);
    assert_eq!(offered.cipher_suites.len(), 9);
    assert_eq!(offered.groups[0], "X25519MLKEM768");
    assert_eq!(
        (offered.sni.as_deref(), &*offered.alpn),
        (Some("a.test"), &["http/1.1".to_owned()][..])
    );
    let subject = offered.client_certificate.map(|info| info.subject);
    assert_eq!(subject.as_deref(), Some("CN=client.test"));

    let mut only_12 = settings();
    (only_12.max_version, only_12.sni) = (TlsVersion::V1_2, None);
    let offered = offer(&only_12);
    assert_eq!((offered.versions, offered.sni), (vec![TlsVersion::V1_2], None));
    assert!(offered.client_certificate.is_none());
}
