use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose;

use super::*;
use crate::fixture::*;

fn now() -> SystemTime {
    SystemTime::now()
}

fn reasons(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.reason).collect()
}

fn identity_of(chain: &str, key: &str) -> (ClientIdentity, Vec<Finding>) {
    client_identity(chain.as_bytes(), key.as_bytes(), now()).expect("an identity")
}

fn identity_error(chain: &str, key: &str) -> MaterialError {
    client_identity(chain.as_bytes(), key.as_bytes(), now()).expect_err("an error")
}

fn bundle(text: &str) -> (TrustBundle, Vec<Finding>) {
    trust_bundle(text.as_bytes(), now()).expect("a bundle")
}

#[test]
fn k10_the_chain_is_sent_in_order_wherever_the_leaf_stands() {
    let root = Authority::new("root");
    let (upper, lower) = (root.intermediate("upper"), root.intermediate("lower"));
    // lower is by root in name only; issue it by upper.
    let lower = {
        drop(lower);
        upper.intermediate("lower")
    };
    let leaf = lower.leaf(&["a.test"]);
    let stranger = Authority::new("stranger").pem();
    let shuffled = [root.pem(), stranger, lower.pem(), upper.pem(), leaf.pem()].concat();
    let (identity, findings) = identity_of(&shuffled, &leaf.key_pem());
    assert_eq!(identity.chain, [leaf.der().to_vec(), lower.der(), upper.der()]);
    assert_eq!(reasons(&findings), ["root_in_chain", "unrelated_certificate"]);
    assert!(findings[0].message.contains("CN=root"), "{findings:?}");
    assert!(findings[1].message.contains("CN=stranger"), "{findings:?}");
    assert!(
        findings
            .iter()
            .all(|finding| finding.severity == Severity::Notice)
    );
}

#[test]
fn k10_of_two_issuers_of_one_name_the_one_with_the_key_is_sent() {
    let root = Authority::new("root");
    let (old, new) = (root.intermediate("between"), root.intermediate("between"));
    let mut params = leaf_params(&["a.test"]);
    params.use_authority_key_identifier_extension = true;
    let leaf = new.issue(&params);
    for order in [[old.pem(), new.pem()], [new.pem(), old.pem()]] {
        let (identity, findings) = identity_of(&(leaf.pem() + &order.concat()), &leaf.key_pem());
        assert_eq!(identity.chain, [leaf.der().to_vec(), new.der()]);
        assert_eq!(reasons(&findings), ["unrelated_certificate"]);
    }
}

#[test]
fn a_self_signed_leaf_is_sent() {
    let leaf = Leaf::self_signed(&leaf_params(&["a.test"]));
    let (identity, findings) = identity_of(&leaf.pem(), &leaf.key_pem());
    assert_eq!(identity.chain, [leaf.der().to_vec()]);
    assert!(findings.is_empty(), "{findings:?}");
}

#[test]
fn key_and_chain_may_stand_in_one_text() {
    let leaf = Authority::new("ca").leaf(&["a.test"]);
    let both = leaf.key_pem() + &leaf.pem();
    assert_eq!(identity_of(&both, &both).0.chain.len(), 1);
}

#[test]
fn of_several_keys_the_one_that_fits_is_taken() {
    let leaf = Authority::new("ca").leaf(&["a.test"]);
    let keys = new_key().serialize_pem() + &leaf.key_pem();
    assert_eq!(
        identity_of(&leaf.pem(), &keys).0,
        identity_of(&leaf.pem(), &leaf.key_pem()).0
    );
}

#[test]
fn a_key_that_does_not_fit_is_key_mismatch() {
    let ca = Authority::new("ca");
    let leaf = ca.leaf(&["a.test"]);
    let other = new_key().serialize_pem();
    let error = identity_error(&leaf.pem(), &other);
    assert_eq!(error.reason, "key_mismatch");
    assert_eq!(
        error.message,
        "the private key does not belong to certificate `CN=a.test`; put the key and the certificate of one pair there"
    );
    let error = identity_error(&(leaf.pem() + &ca.pem()), &other);
    assert!(
        error
            .message
            .contains("any of the 2 certificates, of which the first is"),
        "{error}"
    );
}

#[test]
fn material_that_is_missing_is_named() {
    let leaf = Authority::new("ca").leaf(&["a.test"]);
    assert_eq!(identity_error("", &leaf.key_pem()).reason, "no_certificate");
    assert_eq!(
        identity_error(&leaf.key_pem(), &leaf.key_pem()).reason,
        "no_certificate"
    );
    assert_eq!(identity_error(&leaf.pem(), "").reason, "no_private_key");
    assert_eq!(identity_error(&leaf.pem(), &leaf.pem()).reason, "no_private_key");
    let broken = leaf.pem().replacen("MII", "!!!", 1);
    let error = identity_error(&broken, &leaf.key_pem());
    assert_eq!(error.reason, "bad_pem");
    assert!(error.message.contains("line 1"), "{error}");
}

#[test]
fn der_and_twice_encoded_text_are_recognised() {
    let leaf = Authority::new("ca").leaf(&["a.test"]);
    let error = trust_bundle(leaf.der(), now()).expect_err("DER");
    assert!(error.message.contains("it is DER"), "{error}");
    let error = trust_bundle(b"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t", now()).expect_err("base64");
    assert!(error.message.contains("encode it once"), "{error}");
}

#[test]
fn an_expired_certificate_is_usable_with_a_warning() {
    let ca = Authority::new("ca");
    let mut params = leaf_params(&["a.test"]);
    params.not_after = (now() - Duration::from_secs(3600)).into();
    let leaf = ca.issue(&params);
    let (_, findings) = identity_of(&leaf.pem(), &leaf.key_pem());
    assert_eq!(reasons(&findings), ["certificate_expired"]);
    assert_eq!(findings[0].severity, Severity::Warning);
    let mut params = leaf_params(&["a.test"]);
    params.not_before = (now() + Duration::from_secs(3600)).into();
    let leaf = ca.issue(&params);
    let (_, findings) = identity_of(&leaf.pem(), &leaf.key_pem());
    assert_eq!(reasons(&findings), ["certificate_not_yet_valid"]);
}

#[test]
fn a_certificate_that_is_only_for_servers_is_warned_about() {
    let mut params = leaf_params(&["a.test"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = Authority::new("ca").issue(&params);
    assert_eq!(
        reasons(&identity_of(&leaf.pem(), &leaf.key_pem()).1),
        ["not_for_clients"]
    );
}

#[test]
fn identities_compare_by_content() {
    let ca = Authority::new("ca");
    let (one, two) = (ca.leaf(&["a.test"]), ca.leaf(&["a.test"]));
    let read = |leaf: &Leaf, noise: &str| identity_of(&(noise.to_owned() + &leaf.pem()), &leaf.key_pem()).0;
    assert_eq!(read(&one, ""), read(&one, "a comment\n"));
    assert_ne!(read(&one, ""), read(&two, ""));
}

#[test]
fn v4_a_certificate_twice_is_kept_once() {
    let ca = Authority::new("ca").pem();
    let (read, findings) = bundle(&(ca.clone() + &ca));
    assert_eq!(read.anchors.len(), 1);
    assert_eq!(reasons(&findings), ["duplicate_certificate"]);
    assert_eq!(read, bundle(&ca).0);
}

#[test]
fn v5_an_expired_member_is_kept_with_a_notice() {
    let mut params = ca_params("old");
    params.not_after = (now() - Duration::from_secs(3600)).into();
    let (read, findings) = bundle(&(Authority::from_params(params).pem() + &Authority::new("new").pem()));
    assert_eq!(read.anchors.len(), 2);
    assert_eq!(reasons(&findings), ["certificate_expired"]);
    assert_eq!(findings[0].severity, Severity::Notice);
    assert!(findings[0].message.contains("CN=old"), "{findings:?}");
}

#[test]
fn v7_a_broken_block_costs_nothing_but_itself() {
    let (good, also_good) = (Authority::new("good").pem(), Authority::new("also good").pem());
    let unfinished = good.lines().take(4).collect::<Vec<_>>().join("\n");
    for (what, broken) in [
        ("no END", unfinished.as_str()),
        (
            "no base64",
            "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----",
        ),
        (
            "no certificate",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        ),
        (
            "another END",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CRL-----",
        ),
        (
            "one line",
            "-----BEGIN CERTIFICATE----- AAAA -----END CERTIFICATE-----",
        ),
        (
            "few dashes",
            "-----BEGIN CERTIFICATE---\nAAAA\n-----END CERTIFICATE-----",
        ),
    ] {
        let text = format!("Our CAs:\r\n{good}\n{broken}\n # and\n  {also_good}")
            .replace("\r\n", "\n")
            .replace('\n', "\r\n");
        let (read, findings) = bundle(&text);
        assert_eq!(read.anchors.len(), 2, "{what}");
        assert_eq!(reasons(&findings), ["bad_pem_block"], "{what}");
        // After the words, the good block and an empty line.
        let line = good.lines().count() + 3;
        assert!(
            findings[0].message.contains(&format!("line {line} ")),
            "{what}: {findings:?} {line}"
        );
    }
}

#[test]
fn v8_nothing_usable_is_an_error() {
    for text in [
        "",
        "\n",
        "text",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        assert!(trust_bundle(text.as_bytes(), now()).is_err(), "{text}");
    }
    let error = trust_bundle(new_key().serialize_pem().as_bytes(), now()).expect_err("a key");
    assert_eq!(error.reason, "no_certificate");
}

#[test]
fn v9_a_member_that_is_no_ca_is_kept_with_a_notice() {
    let leaf = Leaf::self_signed(&leaf_params(&["a.test"]));
    let (read, findings) = bundle(&leaf.pem());
    assert_eq!(read.anchors.len(), 1);
    assert_eq!(reasons(&findings), ["not_a_ca"]);
}

#[test]
fn k11_a_bundle_of_hundreds_loads() {
    let text: String = (0..300).map(|_| Authority::new("ca").pem()).collect();
    let (read, findings) = bundle(&text);
    assert_eq!(read.anchors.len(), 300);
    assert!(findings.is_empty());
}

#[test]
fn a_bundle_is_its_certificates_in_their_order() {
    let (one, two) = (Authority::new("one").pem(), Authority::new("two").pem());
    assert_eq!(
        bundle(&(one.clone() + &two)).0,
        bundle(&format!("one\n{one}\n\ntwo\n{two}")).0
    );
    assert_ne!(bundle(&(one.clone() + &two)).0, bundle(&(two + &one)).0);
}

#[test]
fn is_ca_tells_cas_from_leaves() {
    let ca = Authority::new("ca");
    assert!(is_ca(&ca.der()));
    assert!(is_ca(&ca.intermediate("between").der()));
    assert!(!is_ca(ca.leaf(&["a.test"]).der()));
    assert!(!is_ca(b"nonsense"));
}

#[test]
fn a_trusted_certificate_counts_where_it_may_vouch_for_servers() {
    const SERVER: &[u8] = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01";
    const CLIENT: &[u8] = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02";
    let ca = Authority::new("ca");
    let part = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let with = |settings: &[u8]| {
        let der = [ca.der().as_slice(), settings].concat();
        trust_bundle(to_pem("TRUSTED CERTIFICATE", &der).as_bytes(), now())
    };
    let trusting = |uses: &[u8]| part(0x30, &part(0x30, uses));
    let rejecting = |uses: &[u8]| part(0x30, &part(0xA0, uses));
    let read = [
        vec![],
        trusting(SERVER),
        rejecting(CLIENT),
        part(0x30, &part(0x0C, b"alias")),
    ];
    for settings in read {
        let (read, findings) = with(&settings).expect("a bundle");
        assert_eq!((read.anchors, findings), (vec![ca.der()], vec![]), "{settings:?}");
    }
    for settings in [trusting(CLIENT), rejecting(SERVER), b"junk".to_vec()] {
        let error = with(&settings).expect_err("an error");
        assert!(
            error.message.contains("do not allow TLS servers"),
            "{}",
            error.message
        );
    }
    let leaf = ca.leaf(&["a.test"]);
    let der = [leaf.der(), &trusting(CLIENT)].concat();
    let (identity, _) = identity_of(&to_pem("TRUSTED CERTIFICATE", &der), &leaf.key_pem());
    assert_eq!(identity.chain, [leaf.der()]);
}

#[test]
fn blocks_without_a_line_break_between_are_both_read() {
    let (a, b) = (Authority::new("a"), Authority::new("b"));
    let glued = a.pem().trim_end().to_owned() + &b.pem();
    assert_eq!(bundle(&glued).0.anchors, [a.der(), b.der()]);
}

#[test]
fn other_forms_are_called_by_name_with_the_command() {
    let utf16: Vec<u8> = "-----BEGIN".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let ca = Authority::new("ca").der();
    let table: [(&[u8], &str); 8] = [
        (b"\x30\x82\x09\x00\x02\x01\x03\x30\x82", "openssl pkcs12"),
        (
            b"\x30\x82\x09\x00\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x07\x02",
            "openssl pkcs7",
        ),
        (b"\x30\x82\x09\x00\x02\x01\x00\x02", "openssl pkey"),
        (&ca, "openssl x509 -inform DER"),
        (b"\xFE\xED\xFE\xED\0\0\0\x02", "keytool"),
        (&utf16, "iconv"),
        (b"\xFF\xFE-\0", "iconv"),
        (
            b"-----BEGIN PKCS7-----\nMII=\n-----END PKCS7-----\n",
            "openssl pkcs7",
        ),
    ];
    for (text, command) in table {
        let error = trust_bundle(text, now()).expect_err("an error");
        assert!(error.message.contains(command), "{command}: {}", error.message);
    }
}

#[test]
fn a_certificate_and_a_key_that_are_exchanged_are_called_so() {
    let leaf = Authority::new("ca").leaf(&["a.test"]);
    let error = identity_error(&leaf.key_pem(), &leaf.pem());
    assert!(error.message.ends_with("exchange them"), "{error}");
    let error = identity_error(&leaf.key_pem(), &leaf.key_pem());
    assert!(
        error.message.contains("only a private key stands there"),
        "{error}"
    );
    let error = identity_error(&leaf.pem(), &leaf.pem());
    assert!(error.message.contains("only certificates stand there"), "{error}");
}

/// What stands before a semicolon is wrong, and what follows after it is printed as help.
#[test]
fn every_form_that_is_not_read_comes_with_what_to_do() {
    let texts: [&[u8]; 9] = [
        b"\x30\x82\x09\x00\x02\x01\x03\x30\x82",
        b"\x30\x82\x09\x00\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x07\x02",
        b"\xFE\xED\xFE\xED\0\0\0\x02",
        b"\xFF\xFE-\0",
        b"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t",
        b"MIIBszCCAVmgAwIBAgIU",
        b"{{ .Values.certificate }}",
        b"-----BEGIN CERTIFICATE REQUEST-----\nMII=\n-----END CERTIFICATE REQUEST-----\n",
        b"-----BEGIN PRIVATE KEY-----\nMII=\n-----END PRIVATE KEY-----\n",
    ];
    for text in texts {
        let error = trust_bundle(text, now()).expect_err("an error");
        assert!(error.message.contains("; "), "{error}");
    }
    let openssh = "-----BEGIN OPENSSH PRIVATE KEY-----\nMII=\n-----END OPENSSH PRIVATE KEY-----\n";
    let leaf = Authority::new("ca").leaf(&["a.test"]);
    let error = identity_error(&leaf.pem(), openssh);
    assert!(
        error
            .message
            .contains("; make a `PRIVATE KEY` of it with `ssh-keygen"),
        "{error}"
    );
}

#[test]
fn x509_certificate_is_an_old_label_of_the_same() {
    let ca = Authority::new("ca");
    let old_label = to_pem("X509 CERTIFICATE", &ca.der());
    assert_eq!(bundle(&old_label).0, bundle(&ca.pem()).0);
}

#[test]
fn k16_a_label_that_holds_key_bytes_is_not_told() {
    let secret = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg";
    let leaf = Authority::new("root").leaf(&["a.test"]);
    for label in [
        format!("PRIVATE KEY{secret}"),
        format!("CERTIFICATE{secret}"),
        format!("{secret} PRIVATE KEY"),
    ] {
        let text = format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        let no_bundle = trust_bundle(text.as_bytes(), now()).expect_err("an error");
        for error in [
            no_bundle,
            identity_error(&text, &text),
            identity_error(&leaf.pem(), &text),
        ] {
            assert!(!error.message.contains(&secret[..8]), "{}", error.message);
        }
    }
    let damaged = "-----BEGIN CERTIFICATEMIGHag-----\nAAAA\n-----END CERTIFICATE-----\n";
    let error = trust_bundle(damaged.as_bytes(), now()).expect_err("an error");
    assert!(
        error.message.contains("`CERTIFICATE…` in line 1"),
        "{}",
        error.message
    );
}

#[test]
fn a_byte_order_mark_does_no_harm() {
    let ca = Authority::new("ca").pem();
    assert_eq!(bundle(&format!("\u{feff}{ca}")).0, bundle(&ca).0);
}

#[test]
fn no_cut_of_a_text_panics() {
    let leaf = Authority::new("ca").leaf(&["a.test"]);
    let text = leaf.pem() + &leaf.key_pem();
    for end in 0..text.len() {
        let _ = client_identity(&text.as_bytes()[..end], &text.as_bytes()[end..], now());
        let _ = trust_bundle(&text.as_bytes()[end..], now());
    }
    for end in 0..leaf.der().len() {
        let mut der = leaf.der().to_vec();
        let _ = describe_all(&der[..end]);
        der[end] ^= 0xff;
        let _ = describe_all(&der);
    }
}

fn describe_all(der: &[u8]) -> bool {
    crate::describe(der).is_ok() && is_ca(der)
}
