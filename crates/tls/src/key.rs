//! Private keys: which forms are read, and exactly why one cannot be.

use std::sync::Arc;

use nuncio_model::PrivateKey;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::SigningKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use x509_parser::asn1_rs::{Any, FromDer, Integer, OctetString, Oid, Sequence};
use x509_parser::certificate::X509Certificate;
use x509_parser::public_key::PublicKey;
use zeroize::Zeroizing;

use crate::MaterialError;
use crate::pem::{Block, Label, blocks, why_nothing_found};

/// A key that can sign.
pub(crate) struct LoadedKey {
    pub(crate) key: PrivateKey,
    pub(crate) signing: Arc<dyn SigningKey>,
}

/// Every usable private key in a PEM text; at least one.
///
/// Fails with `no_private_key`, `encrypted_key`, `unsupported_key`, `bad_private_key` or `bad_pem`:
/// the reason of the first key that could not be used.
pub(crate) fn private_keys(pem: &[u8]) -> Result<Vec<LoadedKey>, MaterialError> {
    let found = blocks(pem);
    let mut keys = Vec::new();
    let mut first_error = None;
    for block in &found {
        match load(block) {
            Some(Ok(key)) => keys.push(key),
            Some(Err(error)) => {
                first_error.get_or_insert(error);
            }
            None => {}
        }
    }
    if keys.is_empty() {
        Err(first_error.unwrap_or_else(|| none_in(&found, pem)))
    } else {
        Ok(keys)
    }
}

/// Whether a text holds a private key that can be used.
///
/// # Errors
/// Why not: `no_private_key`, `encrypted_key`, `unsupported_key`, `bad_private_key` or `bad_pem`.
pub fn check_private_key(pem: &[u8]) -> Result<(), MaterialError> {
    private_keys(pem).map(drop)
}

fn none_in(found: &[Block], pem: &[u8]) -> MaterialError {
    let message = match found.first() {
        None => format!("no private key was found: {}", why_nothing_found(pem)),
        Some(_)
            if found
                .iter()
                .any(|block| matches!(block.label, Label::Certificate | Label::TrustedCertificate)) =>
        {
            "no private key was found: only certificates stand there; put the key that belongs to them there"
                .to_owned()
        }
        Some(_) => "no private key was found among the PEM blocks; put one there".to_owned(),
    };
    MaterialError {
        reason: "no_private_key",
        message,
    }
}

/// The key in a block; nothing when the block is not about a key.
fn load(block: &Block) -> Option<Result<LoadedKey, MaterialError>> {
    let form = match &block.label {
        Label::Pkcs8 => PrivateKey::Pkcs8,
        Label::Pkcs1 => PrivateKey::Pkcs1,
        Label::Sec1 => PrivateKey::Sec1,
        Label::EncryptedKey => return Some(Err(encrypted(block.line))),
        Label::ForeignKey(name) => return Some(Err(foreign(name, block.line))),
        Label::Certificate | Label::TrustedCertificate | Label::Crl | Label::Other(_) => return None,
    };
    if block.encrypted {
        return Some(Err(encrypted(block.line)));
    }
    Some(match &block.content {
        Ok(der) => usable(form, der),
        Err(why) => Err(MaterialError {
            reason: "bad_pem",
            message: format!("the private key in line {} cannot be read: {why}", block.line),
        }),
    })
}

fn encrypted(line: usize) -> MaterialError {
    MaterialError {
        reason: "encrypted_key",
        message: format!(
            "the private key in line {line} is encrypted, and there is nobody to ask for its passphrase; store it \
             without one, as `openssl pkey -in FILE -out tls.key` makes it"
        ),
    }
}

fn foreign(name: &str, line: usize) -> MaterialError {
    MaterialError {
        reason: "unsupported_key",
        message: format!(
            "the private key in line {line} is a `{name}`, which is not read; {}",
            if name.contains("OPENSSH") {
                "make a `PRIVATE KEY` of it with `ssh-keygen -p -N '' -m PKCS8 -f FILE` if it is RSA or ECDSA, else a new \
                 key and certificate"
            } else {
                "make a `PRIVATE KEY` of it with `openssl pkey -in FILE -out tls.key`"
            }
        ),
    }
}

type Form = fn(Zeroizing<Vec<u8>>) -> PrivateKey;

/// Tries the form that the label promises, then the others: labels are often wrong, and the
/// reference does not look at them (D7.2).
fn usable(promised: Form, der: &Zeroizing<Vec<u8>>) -> Result<LoadedKey, MaterialError> {
    let forms: [Form; 4] = [promised, PrivateKey::Pkcs8, PrivateKey::Pkcs1, PrivateKey::Sec1];
    for form in forms {
        let key = form(der.clone());
        if let Ok(signing) = any_supported_type(&as_der(&key)) {
            return Ok(LoadedKey { key, signing });
        }
    }
    Err(why_unusable(der))
}

/// The key that signs, from a checked identity.
pub(crate) fn signing_key(key: &PrivateKey) -> Result<Arc<dyn SigningKey>, MaterialError> {
    any_supported_type(&as_der(key)).map_err(|_| why_unusable(key_bytes(key)))
}

fn as_der(key: &PrivateKey) -> PrivateKeyDer<'_> {
    match key {
        PrivateKey::Pkcs8(der) => PrivatePkcs8KeyDer::from(der.as_slice()).into(),
        PrivateKey::Pkcs1(der) => PrivatePkcs1KeyDer::from(der.as_slice()).into(),
        PrivateKey::Sec1(der) => PrivateSec1KeyDer::from(der.as_slice()).into(),
    }
}

/// The DER of a key.
pub(crate) fn key_bytes(key: &PrivateKey) -> &[u8] {
    match key {
        PrivateKey::Pkcs8(der) | PrivateKey::Pkcs1(der) | PrivateKey::Sec1(der) => der,
    }
}

/// Fewest bits of an RSA modulus that are accepted, for keys of our own and of peers.
pub(crate) const MIN_RSA_BITS: usize = 2048;

/// Whether a certificate's key is RSA of too few bits to verify a signature with.
pub(crate) fn is_weak(certificate: &X509Certificate<'_>) -> bool {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => key.key_size() < MIN_RSA_BITS,
        _ => false,
    }
}

/// Key algorithms and curves that exist and cannot be used, by object identifier.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("1.3.101.110", "an X25519 key, which cannot sign"),
    ("1.3.101.111", "an X448 key, which cannot sign"),
    ("1.3.101.113", "an Ed448 key"),
    ("1.2.840.10040.4.1", "a DSA key"),
    ("1.2.840.113549.1.1.10", "an RSA key bound to PSS"),
    ("1.3.132.0.33", "an EC key on curve P-224"),
    ("1.3.132.0.10", "an EC key on curve secp256k1"),
    ("1.2.840.10045.3.1.1", "an EC key on curve P-192"),
    ("1.3.36.3.3.2.8.1.1.7", "an EC key on curve brainpoolP256r1"),
    ("1.3.36.3.3.2.8.1.1.11", "an EC key on curve brainpoolP384r1"),
    ("1.3.36.3.3.2.8.1.1.13", "an EC key on curve brainpoolP512r1"),
];

/// Says as exactly as can be seen why a key is of no use. Never quotes it.
fn why_unusable(der: &[u8]) -> MaterialError {
    if let Some(bits) = rsa_bits(der).filter(|bits| *bits < MIN_RSA_BITS) {
        return MaterialError {
            reason: "unsupported_key",
            message: format!(
                "the private key is an RSA key of {bits} bits and at least {MIN_RSA_BITS} are needed; make a \
                 new key and certificate"
            ),
        };
    }
    let named = identifiers(der).into_iter().find_map(|oid| {
        UNSUPPORTED
            .iter()
            .find(|(known, _)| *known == oid)
            .map(|(_, what)| what)
    });
    match named {
        Some(what) => MaterialError {
            reason: "unsupported_key",
            message: format!(
                "the private key is {what}; use RSA of {MIN_RSA_BITS} bits or more, P-256, P-384, P-521 or \
                 Ed25519"
            ),
        },
        None => MaterialError {
            reason: "bad_private_key",
            message: "the private key cannot be parsed as PKCS#8, PKCS#1 or SEC1; put the key of the certificate there".to_owned(),
        },
    }
}

/// Bits of the modulus, for an RSA key in PKCS#8 or PKCS#1.
fn rsa_bits(der: &[u8]) -> Option<usize> {
    let (_, outer) = Sequence::from_der(der).ok()?;
    let (rest, _version) = Integer::from_der(&outer.content).ok()?;
    if let Ok((_, modulus)) = Integer::from_der(rest) {
        let bytes = modulus.as_ref();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let top = bytes.get(zeros)?;
        return Some((bytes.len() - zeros) * 8 - top.leading_zeros() as usize);
    }
    let (rest, _algorithm) = Sequence::from_der(rest).ok()?;
    let (_, inner) = OctetString::from_der(rest).ok()?;
    rsa_bits(inner.as_ref())
}

/// Object identifiers of algorithm and curve, for a key in PKCS#8 or SEC1.
fn identifiers(der: &[u8]) -> Vec<String> {
    let Ok((_, outer)) = Sequence::from_der(der) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut rest: &[u8] = &outer.content;
    while let Ok((after, item)) = Any::from_der(rest) {
        // PKCS#8 has them in a SEQUENCE, SEC1 in a context tag.
        let mut inside = if item.header.is_constructed() {
            item.data
        } else {
            &[]
        };
        while let Ok((next, oid)) = Oid::from_der(inside) {
            found.push(oid.to_id_string());
            inside = next;
        }
        rest = after;
    }
    found
}

#[cfg(test)]
#[path = "key/tests.rs"]
mod tests;
