use std::sync::Arc;

use rcgen::{CrlScope, KeyUsagePurpose, SerialNumber};

use super::*;
use crate::fixture::*;
use crate::trust_bundle;

fn trusting_only(pem: &str) -> Roots {
    let (bundle, _) = trust_bundle(pem.as_bytes(), SystemTime::now()).expect("a bundle");
    Roots {
        bundle: Some(Arc::new(bundle)),
        system: false,
    }
}

fn read(pem: &str, ca: &Authority) -> Result<(CrlSet, Vec<Finding>), MaterialError> {
    crl_set(pem.as_bytes(), &trusting_only(&ca.pem()), SystemTime::now())
}

#[track_caller]
fn assert_refused(pem: &[u8], ca: &Authority, reason: &str, message: &str) {
    let error = crl_set(pem, &trusting_only(&ca.pem()), SystemTime::now()).expect_err("refused");
    assert_eq!(error.reason, reason, "{error}");
    assert!(error.message.contains(message), "{error}");
}

fn reasons(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().map(|finding| finding.reason).collect()
}

#[test]
fn a_set_compares_by_what_its_lists_say() {
    let ca = Authority::new("ca");
    let (list, other) = (ca.revoking(&[7]), ca.revoking(&[8]));
    let (set, findings) = read(&list, &ca).expect("a set");
    assert_eq!(findings, []);
    assert_eq!(set.lists.len(), 1);
    assert_eq!(
        set,
        read(&format!("# fetched today\r\n{list}"), &ca).expect("a set").0
    );
    assert_ne!(set, read(&other, &ca).expect("a set").0);
}

#[test]
fn c7_of_several_lists_of_one_issuer_the_newest_is_kept() {
    let ca = Authority::new("ca");
    let mut old = crl_params(&[7]);
    old.this_update = (SystemTime::now() - 3 * DAY).into();
    let (old, new) = (ca.crl(&old), ca.revoking(&[8]));
    let only = read(&new, &ca).expect("a set").0;
    for both in [old.clone() + &new, new.clone() + &old] {
        let (set, findings) = read(&both, &ca).expect("a set");
        assert_eq!(set, only);
        assert_eq!(reasons(&findings), ["superseded_crl"]);
        assert!(
            findings[0]
                .message
                .contains("the revocation list of `CN=ca` stands there")
        );
    }
}

#[test]
fn c7_of_one_second_the_higher_number_is_newer() {
    let ca = Authority::new("ca");
    let mut params = crl_params(&[7]);
    params.crl_number = SerialNumber::from(255);
    let low = ca.crl(&params);
    params.crl_number = SerialNumber::from(256);
    params.revoked_certs.clear();
    let high = ca.crl(&params);
    assert_eq!(
        read(&(high.clone() + &low), &ca).expect("a set").0,
        read(&high, &ca).expect("a set").0
    );
}

#[test]
fn the_same_list_twice_is_worth_no_word() {
    let ca = Authority::new("ca");
    let list = ca.revoking(&[7]);
    let (set, findings) = read(&list.repeat(2), &ca).expect("a set");
    assert_eq!((set.lists.len(), findings), (1, vec![]));
}

#[test]
fn c10_lists_for_different_points_are_all_kept() {
    let ca = Authority::new("ca");
    let list = |point, scope| {
        let mut params = crl_params(&[]);
        params.issuing_distribution_point = for_point(point, scope);
        ca.crl(&params)
    };
    let lists = [
        list("http://a.test/1", None),
        list("http://a.test/2", None),
        list("http://a.test/2", Some(CrlScope::UserCertsOnly)),
        ca.revoking(&[]),
    ];
    let (set, findings) = read(&lists.concat(), &ca).expect("a set");
    assert_eq!((set.lists.len(), findings), (4, vec![]));
}

#[test]
fn c6_an_overdue_list_is_kept_with_a_warning() {
    let ca = Authority::new("ca");
    let mut params = crl_params(&[7]);
    params.next_update = (SystemTime::now() - DAY / 2).into();
    let (set, findings) = read(&ca.crl(&params), &ca).expect("a set");
    assert_eq!(set.lists.len(), 1);
    assert_eq!(reasons(&findings), ["crl_expired"]);
    assert!(
        findings[0]
            .message
            .contains("`CN=ca` was to be followed by the next by 20")
    );
    assert!(findings[0].message.contains("put the newest in its place"));
}

#[test]
fn c8_a_strangers_list_is_refused() {
    let (ca, stranger) = (Authority::new("ca"), Authority::new("stranger"));
    assert_refused(
        stranger.revoking(&[7]).as_bytes(),
        &ca,
        "crl_unknown_issuer",
        "the revocation list in line 1 is by `CN=stranger`, which is not among the trusted CA certificates",
    );
    let good = ca.revoking(&[]);
    assert_refused(
        (good + &stranger.revoking(&[])).as_bytes(),
        &ca,
        "crl_unknown_issuer",
        "CN=stranger",
    );
}

#[test]
fn c8_a_list_under_a_borrowed_name_is_refused() {
    let (ca, namesake) = (Authority::new("ca"), Authority::new("ca"));
    assert_refused(
        namesake.revoking(&[7]).as_bytes(),
        &ca,
        "crl_unknown_issuer",
        "is not signed by the trusted CA `CN=ca`, whose name it bears",
    );
}

#[test]
fn c8_a_changed_list_is_refused() {
    let ca = Authority::new("ca");
    let mut der = crl_params(&[0x0102_0304])
        .signed_by(&ca.issuer)
        .expect("a list")
        .der()
        .to_vec();
    let serial = der
        .windows(4)
        .position(|bytes| bytes == [1, 2, 3, 4])
        .expect("there");
    der[serial] = 9;
    assert_refused(
        to_pem("X509 CRL", &der).as_bytes(),
        &ca,
        "crl_unknown_issuer",
        "is not signed by",
    );
}

#[test]
fn c8_der_garbage_and_other_texts_are_refused() {
    let ca = Authority::new("ca");
    let der = crl_params(&[])
        .signed_by(&ca.issuer)
        .expect("a list")
        .der()
        .to_vec();
    assert_refused(
        &der,
        &ca,
        "no_crl",
        "no revocation list was found: it is DER; make PEM of it",
    );
    assert_refused(b"garbage", &ca, "no_crl", "no `-----BEGIN` line stands in it");
    assert_refused(b"", &ca, "no_crl", "it is empty");
    assert_refused(
        ca.pem().as_bytes(),
        &ca,
        "no_crl",
        "(`X509 CRL`) was found among the PEM blocks",
    );
    let good = ca.revoking(&[]);
    let broken = "-----BEGIN X509 CRL-----\n***\n-----END X509 CRL-----\n";
    assert_refused(
        (good.clone() + broken).as_bytes(),
        &ca,
        "bad_pem",
        "is not base64",
    );
    let unfinished = good.replace("-----END X509 CRL-----", "");
    assert_refused(
        (good.clone() + &unfinished).as_bytes(),
        &ca,
        "bad_pem",
        "it has no END line",
    );
    let mislabelled = to_pem("X509 CRL", &ca.der());
    assert_refused(
        mislabelled.as_bytes(),
        &ca,
        "bad_crl",
        "is not a certificate revocation list",
    );
    let trailing = to_pem("X509 CRL", &[der.as_slice(), &[0]].concat());
    assert_refused(
        trailing.as_bytes(),
        &ca,
        "bad_crl",
        "is not a certificate revocation list",
    );
}

#[test]
fn a_ca_that_may_not_sign_lists_signs_none() {
    let mut params = ca_params("ca");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = new_key();
    let narrow = params.self_signed(&key).expect("a CA");
    let ca = Authority::from_params_and_key(ca_params("ca"), key);
    let refused = crl_set(
        ca.revoking(&[]).as_bytes(),
        &trusting_only(&narrow.pem()),
        SystemTime::now(),
    );
    let error = refused.expect_err("refused");
    assert!(error.message.contains("its key usage lacks cRLSign"), "{error}");
}

#[test]
fn c4_the_list_of_an_intermediate_may_bring_its_certificate() {
    let root = Authority::new("root");
    let between = root.intermediate("between");
    let below = between.intermediate("below");
    assert_refused(
        below.revoking(&[7]).as_bytes(),
        &root,
        "crl_unknown_issuer",
        "put its certificate beside the list",
    );
    let beside = below.pem() + &between.pem() + &below.revoking(&[7]);
    let (set, findings) = read(&beside, &root).expect("a set");
    assert_eq!((set.lists.len(), findings), (1, vec![]));
    let stranger = Authority::new("stranger");
    let (_, findings) = read(&(beside + &stranger.pem()), &root).expect("a set");
    assert_eq!(reasons(&findings), ["unrelated_certificate"]);
    let smuggled = stranger.pem() + &stranger.revoking(&[7]);
    assert_refused(smuggled.as_bytes(), &root, "crl_unknown_issuer", "CN=stranger");
    let forged = Authority::new("root").intermediate("forged");
    let smuggled = forged.pem() + &forged.revoking(&[7]);
    assert_refused(smuggled.as_bytes(), &root, "crl_unknown_issuer", "CN=forged");
}

#[test]
fn a_delta_list_is_refused() {
    // What rcgen does not make is made by hand: the number becomes the critical indicator of a delta.
    let ca = Authority::new("ca");
    let mut params = crl_params(&[]);
    params.issuing_distribution_point = for_point("http://a.test/1", None);
    let mut der = params.signed_by(&ca.issuer).expect("a list").der().to_vec();
    let point = der
        .windows(5)
        .position(|bytes| bytes == [6, 3, 0x55, 0x1d, 28])
        .expect("there");
    der[point + 4] = 27;
    assert_refused(
        to_pem("X509 CRL", &der).as_bytes(),
        &ca,
        "unsupported_crl",
        "is a delta list",
    );
    der[point + 4] = 99;
    assert_refused(
        to_pem("X509 CRL", &der).as_bytes(),
        &ca,
        "unsupported_crl",
        "critical extension",
    );
}

#[test]
fn a_list_among_certificates_is_told() {
    let ca = Authority::new("ca");
    let text = ca.pem() + &ca.revoking(&[]);
    let (_, findings) = trust_bundle(text.as_bytes(), SystemTime::now()).expect("a bundle");
    assert_eq!(reasons(&findings), ["unexpected_pem_block"]);
    assert!(findings[0].message.contains("spec.crl_secret"));
}

/// What `openssl ca -gencrl` makes with the configuration that comes with it: a list of version 1, without a
/// single extension. It has serial number 1.
const VERSION_1: &str = "\
-----BEGIN X509 CRL-----
MIGuMFcwCgYIKoZIzj0EAwIwEzERMA8GA1UEAwwIdjEgbGlzdHMXDTI2MTEyMzA1
MzkzN1oYDzIxMjUwNjE3MDUzOTM3WjAUMBICAQEXDTI2MTEyMzA1MzkzN1owCgYI
KoZIzj0EAwIDRwAwRAIgJ8a/CY4W8DOeR3dUtqbGtIeBhXPjP29tzPQrAphEJ0IC
ICDpZ6PSnaoMLvufjGLctQC2S+rIjubGSrjV9Fcvco7H
-----END X509 CRL-----
";

/// The CA of that list.
const ITS_CA: &str = "\
-----BEGIN CERTIFICATE-----
MIIBfTCCASOgAwIBAgIUeDHMxyw832/R80nNGTaEtEMGIqowCgYIKoZIzj0EAwIw
EzERMA8GA1UEAwwIdjEgbGlzdHMwIBcNMjYxMTIzMDUzOTM3WhgPMjEyNjEwMzAw
NTM5MzdaMBMxETAPBgNVBAMMCHYxIGxpc3RzMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAE/O7OYSjoU7L6K6sQTXwLLAF/Ra0Y3oUSNmSUqwvqY4GN2dXZA1XsHN2C
tuVbjnNDlpHuCqQCxA3ge6e/p76QhKNTMFEwHQYDVR0OBBYEFHDzRIbYmjeDlL4y
V69XoV2iobsTMB8GA1UdIwQYMBaAFHDzRIbYmjeDlL4yV69XoV2iobsTMA8GA1Ud
EwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhALbx6s6Ly4tsgXhCpfHPL3NA
/qQShU+c/NuiHTrce+zAAiALkQVIesur/QqR3lX5tTB9wvjQ/bAqhoKOSOzM25D3
jw==
-----END CERTIFICATE-----
";

#[test]
fn a_list_of_version_1_is_read() {
    let set = crl_set(VERSION_1.as_bytes(), &trusting_only(ITS_CA), SystemTime::now());
    let (set, _) = set.expect("a set");
    let list = List::parse(&set.lists[0].der).expect("a list");
    assert!(list.entry(&[1]).is_some());
    assert!(list.entry(&[2]).is_none());
    assert!(!list.is_overdue(unix_seconds(SystemTime::now())));
}

#[test]
fn a_pin_is_what_openssl_makes_of_the_key() {
    let (bundle, _) = trust_bundle(ITS_CA.as_bytes(), SystemTime::now()).expect("a bundle");
    let pin = crate::pin::pin_of(&bundle.anchors[0].as_slice().into()).expect("a key");
    assert_eq!(
        pin.to_string(),
        "sha256/qu+AtxeslpvTDI5S5FQDhKWNJQ7AgSUGeJ69UhQo+20="
    );
}
