//! A search for a chain by all rules of RFC 5280 section 6.1, for what `webpki` refuses although the RFC has it:
//! constraints on directory names, and CAs that have issued themselves a certificate for a new key, which count
//! neither for path lengths nor for constraints. It also finds which certificate of a chain is at fault.
//!
//! It accepts nothing that `webpki` cannot read, and holds every certificate against every other rule that `webpki`
//! has, so a chain that passes here is as good as one that passes there.

use nuncio_model::Reason;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::EndEntityCert;
use x509_parser::certificate::X509Certificate;

use crate::constraints::broken;
use crate::describe::parse;
use crate::explanation::{not_for_servers, untimely};
use crate::issuer::{intermediate_fault, path_length};
use crate::material::{is_self_issued, named};
use crate::revocation::Link;
use crate::roots::{AnchorFacts, Trust};
use crate::signed::{Signed, content};
use crate::verify::{Flaw, in_time, validity};

/// Intermediates that a chain may have, as `webpki` has it.
const MOST_INTERMEDIATES: usize = 6;
/// Signatures that one search may verify, as `webpki` has it.
const MOST_SIGNATURES: usize = 100;

/// A certificate that the peer sent.
struct Sent<'a> {
    der: &'a CertificateDer<'a>,
    certificate: X509Certificate<'a>,
    /// The content of its SubjectPublicKeyInfo.
    key: Vec<u8>,
}

impl<'a> Sent<'a> {
    /// None where it cannot be read, by `webpki` or here.
    fn read(der: &'a CertificateDer<'a>) -> Option<Self> {
        EndEntityCert::try_from(der).ok()?;
        let certificate = parse(der).ok()?;
        // Repeated extensions are ambiguous (RFC 5280 section 4.2).
        certificate.extensions_map().ok()?;
        let key = content(certificate.public_key().raw)?.to_vec();
        Some(Self {
            der,
            certificate,
            key,
        })
    }

    fn subject(&self) -> Option<&[u8]> {
        content(self.certificate.subject().as_raw())
    }

    fn issuer(&self) -> Option<&[u8]> {
        content(self.certificate.issuer().as_raw())
    }
}

/// What ends a chain.
#[derive(Clone, Copy)]
struct End<'a> {
    anchor: &'a TrustAnchor<'static>,
    facts: &'a AnchorFacts,
}

/// A search over the certificates that a peer sent.
pub(crate) struct Search<'a> {
    trust: &'a Trust,
    sent: Vec<Sent<'a>>,
    now: UnixTime,
    /// Signatures that may still be verified.
    signatures: usize,
    /// What was wrong with the first chain that leads to a trusted CA.
    fault: Option<Flaw>,
}

/// Whether links of a chain, leaf first, and the anchor that ends it may be used.
type Usable<'f, 'a> = &'f dyn Fn(&[Link<'a>], &TrustAnchor<'_>) -> bool;

impl<'a> Search<'a> {
    pub(crate) fn new(
        trust: &'a Trust,
        leaf: &'a CertificateDer<'a>,
        intermediates: &'a [CertificateDer<'a>],
        now: UnixTime,
    ) -> Option<Self> {
        let mut sent = vec![Sent::read(leaf)?];
        sent.extend(intermediates.iter().filter_map(Sent::read));
        Some(Self {
            trust,
            sent,
            now,
            signatures: MOST_SIGNATURES,
            fault: None,
        })
    }

    /// A chain that keeps all rules, and `usable`. Without one: what is wrong with the first that at least leads to a
    /// trusted CA.
    pub(crate) fn run(mut self, usable: Usable<'_, 'a>) -> Result<Vec<Link<'a>>, Option<Flaw>> {
        match self.extend(&mut vec![0], usable) {
            Some(found) => Ok(found),
            None => Err(self.fault),
        }
    }

    /// Goes on from a path, as indices of `sent`, leaf first, whose signatures are verified but for the last.
    fn extend(&mut self, path: &mut Vec<usize>, usable: Usable<'_, 'a>) -> Option<Vec<Link<'a>>> {
        let last = *path.last()?;
        let trust = self.trust;
        for (anchor, facts) in trust.anchors.iter().zip(&trust.facts) {
            let end = End { anchor, facts };
            if self.sent[last].issuer() != Some(anchor.subject.as_ref())
                || !self.is_signed_by(last, &anchor.subject_public_key_info)
            {
                continue;
            }
            match self.check(path, end) {
                Ok(()) => {
                    let links = self.links(path, anchor);
                    if usable(&links, anchor) {
                        return Some(links);
                    }
                }
                Err(flaw) => {
                    self.fault.get_or_insert(flaw);
                }
            }
        }
        if path.len() > MOST_INTERMEDIATES {
            return None;
        }
        for next in 1..self.sent.len() {
            let issues =
                self.sent[next].subject().is_some() && self.sent[next].subject() == self.sent[last].issuer();
            let is_new = path
                .iter()
                .all(|known| self.sent[*known].der != self.sent[next].der);
            if !issues || !is_new || !self.is_issued_by(last, next) {
                continue;
            }
            path.push(next);
            let found = self.extend(path, usable);
            path.pop();
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn is_issued_by(&mut self, which: usize, issuer: usize) -> bool {
        let key = self.sent[issuer].key.clone();
        self.is_signed_by(which, &key)
    }

    fn is_signed_by(&mut self, which: usize, key: &[u8]) -> bool {
        let Some(left) = self.signatures.checked_sub(1) else {
            return false;
        };
        self.signatures = left;
        Signed::parse(self.sent[which].der).is_some_and(|signed| signed.is_by(key))
    }

    fn links(&self, path: &[usize], anchor: &TrustAnchor<'_>) -> Vec<Link<'a>> {
        let issuers = path.iter().skip(1).map(|index| self.sent[*index].key.clone());
        path.iter()
            .zip(issuers.chain([anchor.subject_public_key_info.to_vec()]))
            .map(|(index, issuer_key)| Link {
                certificate: self.sent[*index].der.clone(),
                issuer_key,
            })
            .collect()
    }

    /// Holds a path whose signatures are verified against every other rule.
    fn check(&self, path: &[usize], end: End<'_>) -> Result<(), Flaw> {
        let chain: Vec<&Sent<'_>> = path.iter().map(|index| &self.sent[*index]).collect();
        for sent in &chain {
            in_time(Some(validity(&sent.certificate)), self.now)
                .map_err(|error| untimely(&named(sent.der), &error))?;
        }
        let [leaf, issuers @ ..] = chain.as_slice() else {
            return Ok(());
        };
        check_leaf(leaf)?;
        for issuer in issuers {
            if let Some(why) = intermediate_fault(&issuer.certificate) {
                return Err(bad_issuer(&named(issuer.der), why));
            }
        }
        // From the CA that issued the leaf upwards.
        for (below, issuer) in issuers.iter().enumerate() {
            let which = named(issuer.der);
            let is_counted = |sent: &&&Sent<'_>| !is_self_issued(&sent.certificate);
            let follow = issuers[..below].iter().filter(is_counted).count();
            check_length(&which, path_length(&issuer.certificate), follow)?;
            check_names(&which, &issuer.certificate, &chain[..=below])?;
        }
        check_end(end, &chain)
    }
}

fn check_leaf(leaf: &Sent<'_>) -> Result<(), Flaw> {
    if leaf.certificate.is_ca() {
        let message = format!(
            "{} is a CA certificate and may not be used by a server",
            named(leaf.der)
        );
        return Err(Flaw::new(Reason::BadPurpose, message));
    }
    match leaf.certificate.extended_key_usage() {
        Ok(Some(usage)) if !usage.value.server_auth => Err(not_for_servers(leaf.der)),
        Ok(_) => Ok(()),
        Err(_) => Err(Flaw::new(
            Reason::BadCertificate,
            format!("the extended key usage of {} cannot be read", named(leaf.der)),
        )),
    }
}

/// An anchor's constraints on names, where its certificate is known.
fn check_end(end: End<'_>, chain: &[&Sent<'_>]) -> Result<(), Flaw> {
    let Some(der) = &end.facts.der else {
        // One of those that come with the program; none of them has constraints.
        return match end.anchor.name_constraints {
            None => Ok(()),
            Some(_) => Err(Flaw::new(
                Reason::NameConstraint,
                "a CA of the system has nameConstraints and its certificate is not known".to_owned(),
            )),
        };
    };
    let certificate = parse(der).map_err(|error| Flaw::new(Reason::BadCertificate, error.message))?;
    let which = format!("the configured CA {}", named(der));
    check_names(&which, &certificate, chain)
}

/// Whether an anchor allows as many CAs below it as a chain has.
pub(crate) fn check_anchor_length(facts: &AnchorFacts, links: &[Link<'_>]) -> Result<(), Flaw> {
    let Some(der) = facts.der.as_ref().filter(|_| facts.path_length.is_some()) else {
        return Ok(());
    };
    let is_counted = |link: &&Link<'_>| !parse(&link.certificate).is_ok_and(|ca| is_self_issued(&ca));
    let follow = links.iter().skip(1).filter(is_counted).count();
    check_length(
        &format!("the configured CA {}", named(der)),
        facts.path_length,
        follow,
    )
}

/// `follow` are the CAs between this one and the leaf, without those that have issued themselves.
fn check_length(which: &str, length: Option<usize>, follow: usize) -> Result<(), Flaw> {
    match length {
        Some(length) if follow > length => {
            let allowed = match length {
                0 => "no other CA".to_owned(),
                1 => "one other CA".to_owned(),
                more => format!("{more} other CAs"),
            };
            let message =
                format!("{which} allows {allowed} below it (its path length), and the chain has {follow}");
            Err(Flaw::new(Reason::BadIssuer, message))
        }
        _ => Ok(()),
    }
}

/// `below` are the certificates under this one, leaf first. CAs that have issued themselves are exempt.
fn check_names(which: &str, issuer: &X509Certificate<'_>, below: &[&Sent<'_>]) -> Result<(), Flaw> {
    for (place, sent) in below.iter().enumerate() {
        if place > 0 && is_self_issued(&sent.certificate) {
            continue;
        }
        if let Some(how) = broken(issuer, &sent.certificate) {
            return Err(Flaw::new(
                Reason::NameConstraint,
                format!("{which} {how} ({})", named(sent.der)),
            ));
        }
    }
    Ok(())
}

pub(crate) fn bad_issuer(which: &str, why: &str) -> Flaw {
    Flaw::new(
        Reason::BadIssuer,
        format!("{which} may not issue certificates: {why}"),
    )
}
