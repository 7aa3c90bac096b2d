//! Was a certificate of this chain revoked? The policy of rows C1 to C10:
//!
//! - A certificate that its issuer lists is `revoked`, whichever of the issuer's lists has it: serial numbers
//!   are unique for an issuer.
//! - Otherwise one of the issuer's lists must cover it, or it is `crl_unknown`.
//! - Certificates of an issuer without any list are not checked (rows C4, C5).
//! - A list past its next update still says what it says; that it is overdue is told as `crl_expired` and
//!   refuses nothing (row C6).

use std::sync::Arc;

use nuncio_model::{CrlSet, Digest, Reason};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::VerifiedPath;
use x509_parser::certificate::X509Certificate;

use crate::crl::named as list_named;
use crate::describe::{parse, rfc3339, seconds};
use crate::interned::Interned;
use crate::list::List;
use crate::material::named;
use crate::signed::content;
use crate::verify::Flaw;

/// Lists in force. Shared by everything that has the same.
pub(crate) struct Revocation {
    /// Each with the key that signed it.
    lists: Vec<(Vec<u8>, List)>,
}

static KNOWN: Interned<Digest, Revocation> = Interned::new();

/// One link of a verified path.
pub(crate) struct Link<'a> {
    /// The certificate.
    pub(crate) certificate: CertificateDer<'a>,
    /// Content of its issuer's SubjectPublicKeyInfo.
    pub(crate) issuer_key: Vec<u8>,
}

/// The certificates of a path, leaf first, without the anchor that ends it.
pub(crate) fn links<'a>(path: &'a VerifiedPath<'_>) -> Vec<Link<'a>> {
    let leaf = path.end_entity().der();
    let certificates: Vec<CertificateDer<'a>> = std::iter::once(leaf)
        .chain(path.intermediate_certificates().map(webpki::Cert::der))
        .collect();
    let mut keys: Vec<Vec<u8>> = certificates.iter().skip(1).map(key_of).collect();
    keys.push(path.anchor().subject_public_key_info.to_vec());
    certificates
        .into_iter()
        .zip(keys)
        .map(|(certificate, issuer_key)| Link {
            certificate,
            issuer_key,
        })
        .collect()
}

fn key_of(der: &CertificateDer<'_>) -> Vec<u8> {
    parse(der)
        .ok()
        .and_then(|certificate| content(certificate.public_key().raw).map(<[u8]>::to_vec))
        .unwrap_or_default()
}

impl Revocation {
    /// The parsed form of `crls`.
    pub(crate) fn of(crls: &CrlSet) -> Result<Arc<Self>, &'static str> {
        KNOWN.get(crls.digest, || {
            let lists: Result<_, &'static str> = crls
                .lists
                .iter()
                .map(|crl| Ok((crl.signer.clone(), List::parse(&crl.der)?)))
                .collect();
            Ok(Self { lists: lists? })
        })
    }

    /// Whether the certificates of a path are good, each by its issuer's lists.
    pub(crate) fn check(&self, links: &[Link<'_>]) -> Result<(), Flaw> {
        links.iter().try_for_each(|link| self.check_link(link))
    }

    fn check_link(&self, link: &Link<'_>) -> Result<(), Flaw> {
        let Ok(certificate) = parse(&link.certificate) else {
            return Ok(());
        };
        let mut lists = self.lists_of(&certificate, &link.issuer_key).peekable();
        if lists.peek().is_none() {
            return Ok(());
        }
        let mut covered = false;
        for list in lists {
            refuse_listed(list, &certificate, &named(&link.certificate))?;
            covered |= list.covers(&certificate);
        }
        if covered {
            return Ok(());
        }
        Err(Flaw {
            reason: Reason::CrlUnknown,
            message: format!(
                "whether {} was revoked is not known: there are revocation lists of its issuer, but none for its \
                 distribution point",
                named(&link.certificate)
            ),
        })
    }

    /// What must be told of lists whose time is over, though it refuses nothing (row C6).
    pub(crate) fn alarm(&self, links: &[Link<'_>], now: UnixTime) -> Option<Flaw> {
        let now = seconds(now);
        links.iter().find_map(|link| {
            let certificate = parse(&link.certificate).ok()?;
            let covering: Vec<&List> = self
                .lists_of(&certificate, &link.issuer_key)
                .filter(|list| list.covers(&certificate))
                .collect();
            let overdue = covering.iter().all(|list| list.is_overdue(now));
            let list = covering.first().filter(|_| overdue)?;
            Some(Flaw {
                reason: Reason::CrlExpired,
                message: format!(
                    "{} was to be followed by the next by {}, and now is {}",
                    list_named(list),
                    list.next_update.map_or_else(String::new, rfc3339),
                    rfc3339(now)
                ),
            })
        })
    }

    fn lists_of<'a>(
        &'a self,
        certificate: &X509Certificate<'_>,
        issuer_key: &'a [u8],
    ) -> impl Iterator<Item = &'a List> {
        let issuer = content(certificate.issuer().as_raw()).map(<[u8]>::to_vec);
        self.lists
            .iter()
            .filter(move |(signer, list)| issuer.as_ref() == Some(&list.issuer) && signer == issuer_key)
            .map(|(_, list)| list)
    }

    /// Whether a certificate that was configured itself is listed by its issuer's name. Nothing need cover
    /// it: it is trusted for being configured.
    pub(crate) fn check_configured(
        &self,
        certificate: &X509Certificate<'_>,
        which: &str,
    ) -> Result<(), Flaw> {
        let issuer = content(certificate.issuer().as_raw());
        self.lists
            .iter()
            .filter(|(_, list)| issuer == Some(&list.issuer))
            .try_for_each(|(_, list)| refuse_listed(list, certificate, which))
    }

    /// The seconds at which what is said here changes.
    pub(crate) fn changes(&self) -> impl Iterator<Item = i64> + '_ {
        self.lists.iter().filter_map(|(_, list)| list.next_update)
    }
}

fn refuse_listed(list: &List, certificate: &X509Certificate<'_>, which: &str) -> Result<(), Flaw> {
    let Some(entry) = list.entry(certificate.raw_serial()) else {
        return Ok(());
    };
    let why = entry
        .reason()
        .map_or_else(String::new, |reason| format!(" ({reason})"));
    Err(Flaw {
        reason: Reason::Revoked,
        message: format!(
            "{which} with serial number {} was revoked by `{}` at {}{why}",
            certificate.raw_serial_as_string(),
            list.name,
            rfc3339(entry.at)
        ),
    })
}

#[cfg(test)]
#[path = "revocation/tests.rs"]
mod tests;
