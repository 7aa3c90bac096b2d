use std::time::{Duration, SystemTime};

use nuncio_model::{HandshakeReport, Outcome, TlsSettings, VerifyMode};
use rcgen::{CertificateParams, CrlDistributionPoint, CrlScope, SerialNumber};

use super::*;
use crate::fixture::*;

/// What a handshake under these settings with a peer that shows `leaf` comes to.
fn met(settings: TlsSettings, leaf: &Leaf) -> HandshakeReport {
    meet(&endpoint(settings), leaf.server()).report()
}

#[track_caller]
fn assert_refused(settings: TlsSettings, leaf: &Leaf, reason: Reason, message: &str) {
    let report = met(settings, leaf);
    assert_eq!(report.outcome, Outcome::Failed(reason), "{}", report.message);
    assert_eq!(report.verify.result, Outcome::Failed(reason));
    assert!(report.message.contains(message), "{}", report.message);
    assert!(!report.remedy.is_empty());
}

#[track_caller]
fn assert_good(settings: TlsSettings, leaf: &Leaf) {
    let report = met(settings, leaf);
    assert_eq!(report.outcome, Outcome::Ok, "{}", report.message);
    assert_eq!(report.verify.result, Outcome::Ok, "{}", report.message);
}

fn full(ca: &Authority, crls: &str) -> TlsSettings {
    with_crls(trusting(&ca.pem(), VerifyMode::Full), crls)
}

/// `numbered`, with the place where its list is.
fn at_point(serial: u64, point: &str) -> CertificateParams {
    let mut params = numbered(serial);
    params.crl_distribution_points = vec![CrlDistributionPoint {
        uris: vec![point.to_owned()],
    }];
    params
}

/// A list of these serial numbers for one distribution point.
fn partial(ca: &Authority, serials: &[u64], point: &str, scope: Option<CrlScope>) -> String {
    let mut params = crl_params(serials);
    params.issuing_distribution_point = for_point(point, scope);
    ca.crl(&params)
}

#[test]
fn c1_c2_a_listed_leaf_is_refused_and_others_are_not() {
    let ca = Authority::new("ca");
    for mode in [VerifyMode::Chain, VerifyMode::Full] {
        let settings = with_crls(trusting(&ca.pem(), mode), &ca.revoking(&[7]));
        assert_refused(
            settings.clone(),
            &ca.issue(&numbered(7)),
            Reason::Revoked,
            "certificate `CN=a.test` with serial number 07 was revoked by `CN=ca` at 20",
        );
        assert_good(settings, &ca.issue(&numbered(8)));
    }
}

#[test]
fn c1_the_reason_of_the_issuer_is_told() {
    let ca = Authority::new("ca");
    let report = met(full(&ca, &ca.revoking(&[7])), &ca.issue(&numbered(7)));
    assert!(report.message.ends_with("(key compromise)"), "{}", report.message);
    assert!(report.remedy.contains("was not revoked"), "{}", report.remedy);
}

#[test]
fn c1_a_serial_number_with_a_high_bit_is_found() {
    let ca = Authority::new("ca");
    let serial = 0xff00_0000_0000_0001;
    assert_refused(
        full(&ca, &ca.revoking(&[serial])),
        &ca.issue(&numbered(serial)),
        Reason::Revoked,
        "ff:",
    );
}

#[test]
fn modes_that_refuse_nothing_report_and_none_does_not_ask() {
    let ca = Authority::new("ca");
    let leaf = ca.issue(&numbered(7));
    let settings = |mode| with_crls(trusting(&ca.pem(), mode), &ca.revoking(&[7]));
    let report = met(settings(VerifyMode::Report), &leaf);
    assert_eq!(report.outcome, Outcome::Ok, "{}", report.message);
    assert_eq!(report.verify.result, Outcome::Failed(Reason::Revoked));
    assert!(
        report.message.contains("lets pass what `full` would refuse"),
        "{}",
        report.message
    );
    assert_good(settings(VerifyMode::None), &leaf);
}

#[test]
fn c3_an_empty_list_revokes_nothing() {
    let ca = Authority::new("ca");
    assert_good(full(&ca, &ca.revoking(&[])), &ca.issue(&numbered(7)));
}

#[test]
fn c4_a_root_without_list_is_not_asked_about_its_intermediate() {
    let root = Authority::new("root");
    let between = root.intermediate("between");
    let settings = full(&root, &(between.pem() + &between.revoking(&[7])));
    assert_refused(
        settings.clone(),
        &between.issue(&numbered(7)).with(&between),
        Reason::Revoked,
        "CN=between",
    );
    assert_good(settings, &between.issue(&numbered(8)).with(&between));
}

fn intermediate(root: &Authority, serial: u64) -> Authority {
    let mut params = ca_params("between");
    params.serial_number = Some(SerialNumber::from(serial));
    Authority {
        issuer: rcgen::CertifiedIssuer::signed_by(params, new_key(), &root.issuer).expect("a CA"),
    }
}

#[test]
fn a_revoked_intermediate_ends_what_it_issued() {
    let root = Authority::new("root");
    let (bad, good) = (intermediate(&root, 7), intermediate(&root, 8));
    let settings = full(&root, &root.revoking(&[7]));
    assert_refused(
        settings.clone(),
        &bad.leaf(&["a.test"]).with(&bad),
        Reason::Revoked,
        "certificate `CN=between` with serial number 07",
    );
    assert_good(settings, &good.leaf(&["a.test"]).with(&good));
}

#[test]
fn a_revoked_intermediate_is_no_anchor_either() {
    let root = Authority::new("root");
    let bad = intermediate(&root, 7);
    let settings = trusting(&(root.pem() + &bad.pem()), VerifyMode::Full);
    assert_refused(
        with_crls(settings.clone(), &root.revoking(&[7])),
        &bad.leaf(&["a.test"]).with(&bad),
        Reason::Revoked,
        "with serial number 07",
    );
    assert_good(with_crls(settings, &root.revoking(&[8])), &bad.leaf(&["a.test"]));
}

#[test]
fn a_configured_leaf_may_be_revoked_by_its_ca() {
    let ca = Authority::new("ca");
    let leaf = ca.issue(&numbered(7));
    let settings = trusting(&(ca.pem() + &leaf.pem()), VerifyMode::Full);
    assert_refused(
        with_crls(settings.clone(), &ca.revoking(&[7])),
        &leaf,
        Reason::Revoked,
        "CN=a.test",
    );
    assert_good(with_crls(settings, &ca.revoking(&[8])), &leaf);
}

#[test]
fn c5_the_list_of_one_ca_says_nothing_of_another() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let settings = with_crls(
        trusting(&(first.pem() + &second.pem()), VerifyMode::Full),
        &first.revoking(&[7]),
    );
    assert_refused(
        settings.clone(),
        &first.issue(&numbered(7)),
        Reason::Revoked,
        "CN=first",
    );
    assert_good(settings, &second.issue(&numbered(7)));
}

#[test]
fn c5_cas_of_one_name_have_lists_of_their_own() {
    let (first, second) = (Authority::new("ca"), Authority::new("ca"));
    let settings = trusting(&(first.pem() + &second.pem()), VerifyMode::Full);
    let both = with_crls(settings.clone(), &(first.revoking(&[7]) + &second.revoking(&[8])));
    assert_refused(both.clone(), &first.issue(&numbered(7)), Reason::Revoked, "CN=ca");
    assert_refused(
        both.clone(),
        &second.issue(&numbered(8)),
        Reason::Revoked,
        "CN=ca",
    );
    assert_good(both.clone(), &first.issue(&numbered(8)));
    assert_good(both, &second.issue(&numbered(7)));
    assert_good(
        with_crls(settings, &first.revoking(&[7])),
        &second.issue(&numbered(7)),
    );
}

/// A list of yesterday that was to be followed by another this morning.
fn overdue(ca: &Authority, serials: &[u64]) -> String {
    let mut params = crl_params(serials);
    params.next_update = (SystemTime::now() - DAY / 2).into();
    ca.crl(&params)
}

#[test]
fn c6_an_overdue_list_is_told_and_refuses_nothing_but_what_it_lists() {
    let ca = Authority::new("ca");
    for mode in [VerifyMode::Report, VerifyMode::Chain, VerifyMode::Full] {
        let settings = with_crls(trusting(&ca.pem(), mode), &overdue(&ca, &[7]));
        let report = met(settings, &ca.issue(&numbered(8)));
        assert_eq!(report.outcome, Outcome::Ok, "{}", report.message);
        assert_eq!(report.verify.result, Outcome::Failed(Reason::CrlExpired));
        assert!(
            report
                .message
                .contains("connected; the revocation list of `CN=ca` was to be followed"),
            "{}",
            report.message
        );
        assert!(
            report.remedy.contains("the newest revocation list"),
            "{}",
            report.remedy
        );
    }
    assert_refused(
        full(&ca, &overdue(&ca, &[7])),
        &ca.issue(&numbered(7)),
        Reason::Revoked,
        "CN=ca",
    );
}

#[test]
fn c6_a_remembered_peer_is_judged_anew_when_its_list_is_overdue() {
    let ca = Authority::new("ca");
    let settings = std::sync::Arc::new(full(&ca, &ca.revoking(&[7])));
    let tls = crate::ClientTls::new(&settings).expect("settings");
    let leaf = CertificateDer::from(ca.issue(&numbered(8)).der().to_vec());
    let finding = |at: SystemTime| {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let judgement = tls
            .verifier
            .judge
            .judge(&leaf, &[], UnixTime::since_unix_epoch(since));
        judgement.finding().map(|flaw| flaw.reason)
    };
    let now = SystemTime::now();
    assert_eq!(finding(now), None);
    assert_eq!(
        finding(now + 30 * DAY + Duration::from_secs(5)),
        Some(Reason::CrlExpired)
    );
    assert_eq!(finding(now), None);
}

#[test]
fn c10_a_list_covers_the_certificates_of_its_point() {
    let ca = Authority::new("ca");
    let (first, second) = ("http://a.test/1.crl", "http://a.test/2.crl");
    let settings = full(&ca, &partial(&ca, &[7], first, None));
    assert_good(settings.clone(), &ca.issue(&at_point(8, first)));
    assert_refused(
        settings.clone(),
        &ca.issue(&at_point(7, first)),
        Reason::Revoked,
        "CN=ca",
    );
    let unknown = "whether certificate `CN=a.test` was revoked is not known";
    assert_refused(
        settings.clone(),
        &ca.issue(&at_point(8, second)),
        Reason::CrlUnknown,
        unknown,
    );
    assert_refused(
        settings.clone(),
        &ca.issue(&numbered(8)),
        Reason::CrlUnknown,
        unknown,
    );
    // Listed is listed, wherever it stands.
    assert_refused(settings, &ca.issue(&numbered(7)), Reason::Revoked, "CN=ca");
}

#[test]
fn c10_several_points_each_with_their_own_list() {
    let ca = Authority::new("ca");
    let (first, second) = ("http://a.test/1.crl", "http://a.test/2.crl");
    let lists = partial(&ca, &[7], first, None) + &partial(&ca, &[8], second, None);
    let settings = full(&ca, &lists);
    assert_refused(
        settings.clone(),
        &ca.issue(&at_point(7, first)),
        Reason::Revoked,
        "CN=ca",
    );
    assert_refused(
        settings.clone(),
        &ca.issue(&at_point(8, second)),
        Reason::Revoked,
        "CN=ca",
    );
    assert_good(settings.clone(), &ca.issue(&at_point(9, first)));
    assert_good(settings.clone(), &ca.issue(&at_point(9, second)));
    assert_refused(
        settings,
        &ca.issue(&at_point(9, "http://a.test/3.crl")),
        Reason::CrlUnknown,
        "CN=a.test",
    );
}

#[test]
fn c10_a_list_for_one_kind_of_certificate_covers_no_other() {
    let root = Authority::new("root");
    let point = "http://a.test/1.crl";
    let leaf = root.issue(&at_point(9, point));
    let of = |scope| full(&root, &partial(&root, &[], point, Some(scope)));
    assert_good(of(CrlScope::UserCertsOnly), &leaf);
    assert_refused(of(CrlScope::CaCertsOnly), &leaf, Reason::CrlUnknown, "CN=a.test");
}

#[test]
fn c10_a_list_for_everything_beside_partial_ones_covers_everything() {
    let ca = Authority::new("ca");
    let lists = partial(&ca, &[7], "http://a.test/1.crl", None) + &ca.revoking(&[]);
    assert_good(full(&ca, &lists), &ca.issue(&at_point(8, "http://a.test/2.crl")));
}

#[test]
fn a_resumed_session_is_checked_too() {
    let ca = Authority::new("ca");
    let server = std::sync::Arc::new(ca.issue(&numbered(8)).server());
    let endpoint = endpoint(full(&ca, &ca.revoking(&[7])));
    let first = meet_shared(&endpoint, &server);
    assert_eq!(first.outcome, Ok(()));
    let second = meet_shared(&endpoint, &server).report();
    assert!(second.resumed);
    assert_eq!(second.verify.result, Outcome::Ok);
}

#[test]
fn equal_lists_are_parsed_once() {
    let ca = Authority::new("ca");
    let settings = full(&ca, &ca.revoking(&[7]));
    let crls = settings.verify.crls.expect("lists");
    let first = Revocation::of(&crls).expect("parsed");
    assert!(Arc::ptr_eq(&first, &Revocation::of(&crls).expect("parsed")));
}
