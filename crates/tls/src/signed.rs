//! What certificates and revocation lists have in common: a body, and a signature of it (X.509's SIGNED).

use x509_parser::asn1_rs::{Any, FromDer};

use crate::client::algorithms;

/// The parts of something signed. All are slices of its DER.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed<'a> {
    /// What the signature is over, whole.
    body: &'a [u8],
    /// Content of the AlgorithmIdentifier.
    algorithm: &'a [u8],
    /// Content of the BIT STRING.
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// The parts of `der`; none where it is not built like that.
    pub(crate) fn parse(der: &'a [u8]) -> Option<Self> {
        let (body, rest) = element(content(der)?)?;
        let (algorithm, rest) = element(rest)?;
        let (signature, _) = element(rest)?;
        Some(Self {
            body,
            algorithm: content(algorithm)?,
            signature: content(signature)?,
        })
    }

    /// Whether the signature is of a kind that is accepted of any key.
    pub(crate) fn has_supported_algorithm(&self) -> bool {
        algorithms()
            .all
            .iter()
            .any(|one| *one.signature_alg_id() == *self.algorithm)
    }

    /// Whether `key`, the content of a SubjectPublicKeyInfo, made the signature.
    pub(crate) fn is_by(&self, key: &[u8]) -> bool {
        self.verify(key).unwrap_or(false)
    }

    fn verify(&self, key: &[u8]) -> Option<bool> {
        let (kind, rest) = element(key)?;
        let (kind, point) = (content(kind)?, content(rest)?);
        // Both are whole octets: the count of unused bits before them is zero.
        let (point, signature) = (point.strip_prefix(&[0])?, self.signature.strip_prefix(&[0])?);
        let verified = algorithms()
            .all
            .iter()
            .filter(|one| *one.signature_alg_id() == *self.algorithm && *one.public_key_alg_id() == *kind)
            .any(|one| one.verify_signature(point, self.body, signature).is_ok());
        Some(verified)
    }
}

/// The first element of `der`, whole, and what follows it.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, _) = Any::from_der(der).ok()?;
    Some((&der[..der.len() - rest.len()], rest))
}

/// The content of the element that `der` begins with, as `webpki` has names and keys of anchors.
pub(crate) fn content(der: &[u8]) -> Option<&[u8]> {
    Any::from_der(der).ok().map(|(_, element)| element.data)
}
