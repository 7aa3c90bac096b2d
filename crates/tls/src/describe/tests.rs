use rcgen::{CertificateParams, DnType, DnValue, SanType};

use super::*;

#[test]
fn a_certificate_is_described_in_standard_forms() {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "DE");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Müller, Söhne + \"Co\"");
    params.distinguished_name.push(DnType::CommonName, " #a.test ");
    params.distinguished_name.push(
        DnType::CustomDnType(vec![1, 2, 3, 4]),
        DnValue::Utf8String("x".into()),
    );
    params.subject_alt_names = vec![
        SanType::DnsName("a.test".try_into().expect("a name")),
        SanType::IpAddress("10.0.0.5".parse().expect("an address")),
        SanType::IpAddress("2001:db8::1".parse().expect("an address")),
        SanType::URI("spiffe://x/y".try_into().expect("a URI")),
        SanType::Rfc822Name("me@a.test".try_into().expect("an address")),
    ];
    params.not_before = OffsetDateTime::from_unix_timestamp(1_700_000_000).expect("a time");
    params.not_after = OffsetDateTime::from_unix_timestamp(1_900_000_000).expect("a time");
    let key = rcgen::KeyPair::generate().expect("a key");
    let der = params.self_signed(&key).expect("a certificate").der().to_vec();

    let info = describe(&der).expect("a description");
    assert_eq!(
        info.subject,
        r#"1.2.3.4=#78,CN=\ #a.test\ ,O=Müller\, Söhne \+ \"Co\",C=DE"#
    );
    assert_eq!(info.issuer, info.subject);
    assert_eq!(
        info.sans,
        [
            "DNS:a.test",
            "IP:10.0.0.5",
            "IP:2001:db8::1",
            "URI:spiffe://x/y",
            "email:me@a.test"
        ]
    );
    assert_eq!(info.not_before, "2023-11-14T22:13:20Z");
    assert_eq!(info.not_after, "2030-03-17T17:46:40Z");
    assert_eq!(info.not_after_seconds, 1_900_000_000);
    assert_eq!(info.sha256, hex(&sha256(&[&der])));
    assert_eq!(info.sha256.len(), 64);
    let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
    assert_eq!(crate::pin(&info.pin).map(|pin| pin.0), Ok(sha256(&[&spki])));
}

#[test]
fn sha256_is_the_one_of_the_standard() {
    assert_eq!(
        hex(&sha256(&[b"a", b"bc"])),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

#[test]
fn what_is_no_certificate_is_an_error() {
    for der in [b"".as_slice(), b"no", &[0x30, 0x82, 0xff, 0xff]] {
        assert_eq!(describe(der).expect_err("an error").reason, "bad_certificate");
    }
}

#[test]
fn a_value_may_begin_with_a_number_sign_only_escaped() {
    assert_eq!(escaped("#a"), r"\#a");
    assert_eq!(escaped("a#"), "a#");
    assert_eq!(escaped("a\nb"), r"a\0ab");
    assert_eq!(escaped("a=b"), "a=b");
}

#[test]
fn times_before_1970_and_beyond_the_calendar_are_written_too() {
    assert_eq!(rfc3339(-1), "1969-12-31T23:59:59Z");
    assert_eq!(rfc3339(i64::MAX), format!("@{}", i64::MAX));
    assert_eq!(unix_seconds(UNIX_EPOCH - std::time::Duration::from_secs(5)), -5);
}
