//! What stands between a chain and the roots, to say who can close the gap.

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;

use crate::describe::{distinguished_name, parse};
use crate::material::is_self_issued;
use crate::roots::Trust;
use crate::signed::content;

/// Why a chain leads to no root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    /// The leaf is its own issuer.
    SelfSigned,
    /// The peer sent the root of its chain, which is not trusted; its subject.
    StrangeRoot(String),
    /// A CA of this name is trusted, but the chain is signed with another key.
    OtherKey(String),
    /// Nobody has the certificate of this issuer, and the leaf came alone.
    LeafAlone(String),
    /// Nobody has the certificate of this issuer.
    NoIssuer(String),
}

impl Gap {
    /// The gap after the last certificate that the chain leads to; none where a certificate cannot be read.
    pub(crate) fn of(
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        trust: &Trust,
    ) -> Option<Self> {
        let leaf = parse(leaf).ok()?;
        let others: Vec<X509Certificate<'_>> =
            intermediates.iter().filter_map(|der| parse(der).ok()).collect();
        let end = end_of(&leaf, &others);
        if is_self_issued(end) {
            return Some(if std::ptr::eq(end, &raw const leaf) {
                Self::SelfSigned
            } else {
                Self::StrangeRoot(distinguished_name(end.subject()))
            });
        }
        let issuer = distinguished_name(end.issuer());
        let name = content(end.issuer().as_raw())?;
        let named = |anchor: &rustls_pki_types::TrustAnchor<'_>| anchor.subject.as_ref() == name;
        Some(if trust.anchors.iter().any(named) {
            Self::OtherKey(issuer)
        } else if others.is_empty() {
            Self::LeafAlone(issuer)
        } else {
            Self::NoIssuer(issuer)
        })
    }
}

/// The certificate at which the chain ends, by the names of issuers.
fn end_of<'a, 'b>(
    leaf: &'a X509Certificate<'b>,
    others: &'a [X509Certificate<'b>],
) -> &'a X509Certificate<'b> {
    let mut end = leaf;
    // As many steps as there are certificates: names may go round in a circle.
    for _ in others {
        let issuer = end.issuer().as_raw();
        match others.iter().find(|other| other.subject().as_raw() == issuer) {
            Some(next) if !is_self_issued(end) => end = next,
            _ => break,
        }
    }
    end
}
