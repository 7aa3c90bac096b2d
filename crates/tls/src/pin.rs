//! Pins: which public keys a chain must hold.

use data_encoding::BASE64;
use nuncio_model::Pin;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;

use crate::describe::{parse, sha256};

/// A pin as it is configured: `sha256/` and the base64 of 32 bytes, as OpenSSL, curl and browsers write it.
///
/// # Errors
/// What is wrong with it, to follow after the text itself: "which ...".
pub fn pin(text: &str) -> Result<Pin, &'static str> {
    let base64 = text
        .strip_prefix("sha256/")
        .ok_or("does not begin with `sha256/`")?;
    let digest = BASE64
        .decode(base64.as_bytes())
        .map_err(|_| "is no base64 after `sha256/`")?;
    digest
        .try_into()
        .map(Pin)
        .map_err(|_| "is not the 32 bytes of a SHA-256 digest")
}

/// The pin of a certificate's key.
pub(crate) fn pin_of(certificate: &CertificateDer<'_>) -> Option<Pin> {
    Some(pin_of_key(&parse(certificate).ok()?))
}

/// The pin of a parsed certificate's key.
pub(crate) fn pin_of_key(certificate: &X509Certificate<'_>) -> Pin {
    Pin(sha256(&[certificate.public_key().raw]))
}

/// The pin of a key of which only the content of the SubjectPublicKeyInfo is known.
pub(crate) fn pin_of_content(content: &[u8]) -> Pin {
    Pin(sha256(&[&sequence_header(content.len()), content]))
}

/// Tag and length of a DER SEQUENCE.
fn sequence_header(length: usize) -> Vec<u8> {
    let bytes = length.to_be_bytes();
    let significant = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    match (length, u8::try_from(significant.len())) {
        (0..=0x7f, _) => vec![0x30, significant.first().copied().unwrap_or(0)],
        (_, Ok(count)) => [&[0x30, 0x80 | count], significant].concat(),
        (_, Err(_)) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::*;

    #[test]
    fn pins_are_read_as_they_are_shown() {
        let text = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let read = pin(text).expect("a pin");
        assert_eq!(read, Pin(sha256(&[])));
        assert_eq!(read.to_string(), text);
    }

    #[test]
    fn malformed_pins_are_told_apart() {
        for (text, why) in [
            ("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "begin"),
            ("sha1/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "begin"),
            ("sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU", "base64"),
            ("sha256/not base64", "base64"),
            ("sha256/AAAA", "32 bytes"),
            ("sha256/", "32 bytes"),
        ] {
            let error = pin(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_key_has_one_pin_however_it_is_known() {
        for key in [
            new_key(),
            rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key"),
        ] {
            let certificate = leaf_params(&["a.test"]).self_signed(&key).expect("a certificate");
            let whole = rcgen::PublicKeyData::subject_public_key_info(&key);
            assert_eq!(pin_of(certificate.der()), Some(Pin(sha256(&[&whole]))));
            let content = crate::signed::content(&whole).expect("a key");
            assert_eq!(pin_of_content(content), Pin(sha256(&[&whole])));
        }
    }
}
