use rcgen::{KeyPair, SigningKey as _};

use super::*;
use crate::fixture::to_pem;

fn loaded(pem: &str) -> Vec<LoadedKey> {
    private_keys(pem.as_bytes()).expect("a key")
}

fn refused(pem: &str) -> MaterialError {
    match private_keys(pem.as_bytes()) {
        Ok(_) => panic!("a key was found"),
        Err(error) => error,
    }
}

/// What stands inside of a PKCS#8 key: PKCS#1 for RSA, SEC1 for EC.
fn inner(pkcs8: &[u8]) -> Vec<u8> {
    let (_, outer) = Sequence::from_der(pkcs8).expect("a sequence");
    let (rest, _version) = Integer::from_der(&outer.content).expect("a version");
    let (rest, _algorithm) = Sequence::from_der(rest).expect("an algorithm");
    let (_, key) = OctetString::from_der(rest).expect("a key");
    key.as_ref().to_vec()
}

/// A SEC1 key as OpenSSL writes it: with its curve, and the curve once more before it.
fn sec1_of_openssl(key: &KeyPair) -> String {
    const P256: [u8; 10] = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    let plain = inner(key.serialized_der());
    let (_, outer) = Sequence::from_der(&plain).expect("a sequence");
    // Version, private key, [0] curve, [1] public key.
    let content = [&outer.content[..37], &[0xa0, 10], &P256, &outer.content[37..]].concat();
    let length = u8::try_from(content.len()).expect("short");
    assert!(length < 0x80);
    let der = [&[0x30, length][..], &content].concat();
    to_pem("EC PARAMETERS", &P256) + &to_pem("EC PRIVATE KEY", &der)
}

#[test]
fn k9_every_form_and_kind_of_key_loads() {
    let ec = KeyPair::generate().expect("a key");
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).expect("a key");
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    for (what, text) in [
        ("PKCS#8, P-256", ec.serialize_pem()),
        ("PKCS#8, RSA", rsa.serialize_pem()),
        ("PKCS#8, P-521", p521.serialize_pem()),
        ("PKCS#8, Ed25519", ed25519.serialize_pem()),
        ("PKCS#1", to_pem("RSA PRIVATE KEY", &inner(rsa.serialized_der()))),
        ("SEC1", to_pem("EC PRIVATE KEY", &inner(ec.serialized_der()))),
        ("SEC1 of OpenSSL", sec1_of_openssl(&ec)),
        (
            "PKCS#1 with the wrong label",
            to_pem("PRIVATE KEY", &inner(rsa.serialized_der())),
        ),
        (
            "PKCS#8 with the wrong label",
            to_pem("EC PRIVATE KEY", ec.serialized_der()),
        ),
        ("CRLF", ec.serialize_pem().replace('\n', "\r\n")),
    ] {
        let keys = loaded(&text);
        assert_eq!(keys.len(), 1, "{what}");
        assert!(signing_key(&keys[0].key).is_ok(), "{what}");
        assert!(keys[0].signing.public_key().is_some(), "{what}");
    }
    assert_eq!(ec.sign(b"").map(|_| ()), Ok(()));
}

#[test]
fn k9_encrypted_keys_are_named_as_such() {
    let error = refused(&to_pem("ENCRYPTED PRIVATE KEY", &[1, 2, 3]));
    assert_eq!(error.reason, "encrypted_key");
    assert!(error.message.contains("store it without one"), "{error}");
    let traditional = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n\
                       -----END RSA PRIVATE KEY-----\n";
    assert_eq!(refused(traditional).reason, "encrypted_key");
}

#[test]
fn k9_keys_that_cannot_be_used_are_named_exactly() {
    let pkcs8 = |algorithm: &[u8]| {
        let algorithm = [
            &[0x30, u8::try_from(algorithm.len()).expect("short")][..],
            algorithm,
        ]
        .concat();
        let content = [&[2, 1, 0][..], &algorithm, &[4, 2, 4, 0]].concat();
        to_pem(
            "PRIVATE KEY",
            &[&[0x30, u8::try_from(content.len()).expect("short")][..], &content].concat(),
        )
    };
    for (algorithm, what) in [
        (&[6, 3, 0x2b, 0x65, 0x71][..], "Ed448"),
        (&[6, 3, 0x2b, 0x65, 0x6e], "X25519"),
        (
            &[
                6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x0a,
            ],
            "secp256k1",
        ),
        (&[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x38, 4, 1], "DSA"),
    ] {
        let error = refused(&pkcs8(algorithm));
        assert_eq!(error.reason, "unsupported_key", "{error}");
        assert!(error.message.contains(what), "{error}");
    }
    assert_eq!(
        refused(&to_pem("OPENSSH PRIVATE KEY", b"x")).reason,
        "unsupported_key"
    );
    assert_eq!(
        refused(&to_pem("PRIVATE KEY", b"nonsense")).reason,
        "bad_private_key"
    );
}

#[test]
fn k9_a_short_rsa_key_is_told_its_length() {
    // The shape of PKCS#1 with a modulus of 1024 bits.
    let mut content = vec![2, 1, 0, 2, 0x81, 129, 0];
    content.extend([0xff; 128]);
    let length = u8::try_from(content.len()).expect("short");
    let der = [&[0x30, 0x81, length][..], &content].concat();
    let error = refused(&to_pem("RSA PRIVATE KEY", &der));
    assert_eq!(error.reason, "unsupported_key");
    assert!(error.message.contains("1024 bits and at least 2048"), "{error}");
}

#[test]
fn a_text_without_a_key_says_what_stands_there() {
    for (text, says) in [
        ("", "it is empty"),
        ("  \r\n ", "it is empty"),
        ("hello", "no `-----BEGIN` line"),
        ("LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t", "encode it once"),
    ] {
        let error = refused(text);
        assert_eq!(error.reason, "no_private_key");
        assert!(error.message.contains(says), "{error}");
    }
    let error = refused(&to_pem("CERTIFICATE", b"x"));
    assert!(error.message.contains("only certificates"), "{error}");
}

#[test]
fn a_broken_key_does_not_hide_a_good_one_and_is_not_quoted() {
    let good = KeyPair::generate().expect("a key").serialize_pem();
    let broken = "-----BEGIN PRIVATE KEY-----\nsecret!words\n-----END PRIVATE KEY-----\n";
    assert_eq!(loaded(&(broken.to_owned() + &good)).len(), 1);
    let error = refused(broken);
    assert_eq!(error.reason, "bad_pem");
    assert!(
        error.message.contains("line 1") && !error.message.contains("secret!words"),
        "{error}"
    );
    let cut = good.replace("-----END PRIVATE KEY-----", "");
    assert!(refused(&cut).message.contains("no END line"));
}
