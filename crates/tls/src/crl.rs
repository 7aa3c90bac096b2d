//! Revocation lists from PEM, as checked values (rows C1 to C8, C10).
//!
//! A list that cannot be used is never passed over: whoever asked for it would go unprotected without
//! noticing (row C8).

use std::time::SystemTime;

use nuncio_model::{Crl, CrlSet, Roots};
use x509_parser::certificate::X509Certificate;

use crate::describe::{parse, rfc3339, unix_seconds};
use crate::list::List;
use crate::material::{digest_of, notice, warning};
use crate::pem::{Block, Label, blocks, why_nothing_found};
use crate::roots::Trust;
use crate::signed::{Signed, content};
use crate::{Finding, MaterialError, is_ca};

/// Who may have signed a list.
struct Signer {
    /// Content of its name.
    subject: Vec<u8>,
    /// Content of its SubjectPublicKeyInfo.
    key: Vec<u8>,
    /// Its key usage, where it has one, allows it.
    may_sign_lists: bool,
}

/// A list of the text, parsed, with the key that signed it.
struct Checked {
    list: List,
    crl: Crl,
}

/// The revocation lists of a PEM text, each checked to be signed by one of `roots`, or by a CA that stands in
/// the same text and was issued by one of them. Of lists about the same certificates the newest is kept.
///
/// Fails with `no_crl`, `bad_pem`, `bad_crl`, `unsupported_crl` or `crl_unknown_issuer` as soon as one list
/// cannot be used. The first call with the system's roots loads them.
pub fn crl_set(pem: &[u8], roots: &Roots, now: SystemTime) -> Result<(CrlSet, Vec<Finding>), MaterialError> {
    let mut findings = Vec::new();
    let blocks = blocks(pem);
    let signers = signers(&blocks, roots, &mut findings);
    let mut kept: Vec<Checked> = Vec::new();
    for block in blocks.iter().filter(|block| block.label == Label::Crl) {
        keep_newest(&mut kept, check(block, &signers)?, &mut findings);
    }
    if kept.is_empty() {
        return Err(nothing_found(pem, &blocks));
    }
    let now = unix_seconds(now);
    findings.extend(kept.iter().filter_map(|checked| overdue(&checked.list, now)));
    let lists: Vec<Crl> = kept.into_iter().map(|checked| checked.crl).collect();
    let parts: Vec<&[u8]> = lists
        .iter()
        .flat_map(|crl| [crl.der.as_slice(), crl.signer.as_slice()])
        .collect();
    let digest = digest_of(&parts);
    Ok((CrlSet { lists, digest }, findings))
}

/// Whether every revocation list of a PEM text can be read, whoever signed it; there must be one.
///
/// # Errors
/// `no_crl`, `bad_pem`, `bad_crl` or `unsupported_crl`, of the first that cannot.
pub fn check_revocation_lists(pem: &[u8]) -> Result<(), MaterialError> {
    let blocks = blocks(pem);
    let mut lists = blocks.iter().filter(|block| block.label == Label::Crl).peekable();
    if lists.peek().is_none() {
        return Err(nothing_found(pem, &blocks));
    }
    lists.try_for_each(|block| parsed(block).map(drop))
}

fn overdue(list: &List, now: i64) -> Option<Finding> {
    let next = list.next_update.filter(|_| list.is_overdue(now))?;
    let message = format!(
        "{} was to be followed by the next by {}, so revocations since then are not known; put the newest in its place",
        named(list),
        rfc3339(next)
    );
    Some(warning("crl_expired", message))
}

/// `the revocation list of `CN=ca``, for messages.
pub(crate) fn named(list: &List) -> String {
    match list.points() {
        [] => format!("the revocation list of `{}`", list.name),
        [point] => format!("the revocation list of `{}` for {point}", list.name),
        [point, ..] => format!("the revocation list of `{}` for {point} and others", list.name),
    }
}

fn nothing_found(pem: &[u8], blocks: &[Block]) -> MaterialError {
    let message = if blocks.is_empty() {
        format!("no revocation list was found: {}", why_nothing_found(pem))
    } else {
        "no revocation list (`X509 CRL`) was found among the PEM blocks".to_owned()
    };
    MaterialError {
        reason: "no_crl",
        message,
    }
}

fn check(block: &Block, signers: &[Signer]) -> Result<Checked, MaterialError> {
    let (der, list) = parsed(block)?;
    match signer_of(&list, &der, signers) {
        Ok(signer) => {
            let next_update = list.next_update;
            Ok(Checked {
                list,
                crl: Crl {
                    der,
                    signer,
                    next_update,
                },
            })
        }
        Err(why) => Err(at_fault(block, "crl_unknown_issuer", &why)),
    }
}

fn parsed(block: &Block) -> Result<(Vec<u8>, List), MaterialError> {
    let der = match &block.content {
        Ok(der) => der.to_vec(),
        Err(why) => return Err(at_fault(block, "bad_pem", &format!("cannot be read: {why}"))),
    };
    match List::parse(&der) {
        Ok(list) => Ok((der, list)),
        Err(why) if why.starts_with("is not") => Err(at_fault(block, "bad_crl", why)),
        Err(why) => Err(at_fault(block, "unsupported_crl", why)),
    }
}

fn at_fault(block: &Block, reason: &'static str, why: &str) -> MaterialError {
    MaterialError {
        reason,
        message: format!("the revocation list in line {} {why}", block.line),
    }
}

/// The key that signed a list.
fn signer_of(list: &List, der: &[u8], signers: &[Signer]) -> Result<Vec<u8>, String> {
    let issuer = &list.name;
    let mut known = signers
        .iter()
        .filter(|signer| signer.subject == list.issuer)
        .peekable();
    if known.peek().is_none() {
        return Err(format!(
            "is by `{issuer}`, which is not among the trusted CA certificates; add that CA to spec.ca_secret, or put \
             its certificate beside the list"
        ));
    }
    let signed = Signed::parse(der);
    match known.find(|signer| signed.is_some_and(|signed| signed.is_by(&signer.key))) {
        Some(signer) if signer.may_sign_lists => Ok(signer.key.clone()),
        Some(_) => Err(format!(
            "is by `{issuer}`, whose certificate does not allow it to sign lists (its key usage lacks cRLSign)"
        )),
        None => Err(format!(
            "is not signed by the trusted CA `{issuer}`, whose name it bears: another key made its signature"
        )),
    }
}

/// The trusted CAs, and those in the text that they issued, directly or not.
fn signers(blocks: &[Block], roots: &Roots, findings: &mut Vec<Finding>) -> Vec<Signer> {
    let trust = Trust::of(roots);
    let mut signers: Vec<Signer> = trust
        .anchors
        .iter()
        .zip(&trust.facts)
        .map(|(anchor, facts)| Signer {
            subject: anchor.subject.to_vec(),
            key: anchor.subject_public_key_info.to_vec(),
            may_sign_lists: facts.may_sign_lists,
        })
        .collect();
    let mut beside: Vec<&[u8]> = blocks.iter().filter_map(authority).collect();
    while let Some(position) = beside.iter().position(|der| is_issued(der, &signers)) {
        signers.extend(signer(beside.remove(position)));
    }
    for stranger in beside {
        let message = format!(
            "{} was not issued by a trusted CA, so no revocation list of its counts",
            crate::material::named(stranger)
        );
        findings.push(notice("unrelated_certificate", message));
    }
    signers
}

/// The CA certificate in a block.
fn authority(block: &Block) -> Option<&[u8]> {
    let der = block
        .content
        .as_ref()
        .ok()
        .filter(|_| block.label == Label::Certificate)?;
    is_ca(der).then_some(der.as_slice())
}

fn is_issued(der: &[u8], signers: &[Signer]) -> bool {
    let (Ok(certificate), Some(signed)) = (parse(der), Signed::parse(der)) else {
        return false;
    };
    let issuer = content(certificate.issuer().as_raw());
    signers
        .iter()
        .any(|signer| issuer == Some(&signer.subject) && signed.is_by(&signer.key))
}

fn signer(der: &[u8]) -> Option<Signer> {
    let certificate = parse(der).ok()?;
    Some(Signer {
        subject: content(certificate.subject().as_raw())?.to_vec(),
        key: content(certificate.public_key().raw)?.to_vec(),
        may_sign_lists: may_sign_lists(&certificate),
    })
}

/// Whether a certificate's key usage, where it has one, allows its key to sign revocation lists (RFC 5280
/// section 4.2.1.3).
pub(crate) fn may_sign_lists(certificate: &X509Certificate<'_>) -> bool {
    match certificate.key_usage() {
        Ok(Some(usage)) => usage.value.crl_sign(),
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Keeps `new`, unless there is a newer one about the same (row C7).
fn keep_newest(kept: &mut Vec<Checked>, new: Checked, findings: &mut Vec<Finding>) {
    let same =
        |other: &Checked| other.crl.signer == new.crl.signer && other.list.is_about_the_same(&new.list);
    let Some(other) = kept.iter_mut().find(|other| same(other)) else {
        kept.push(new);
        return;
    };
    if new.crl.der != other.crl.der {
        let message = format!(
            "{} stands there more than once, and the newest counts",
            named(&new.list)
        );
        findings.push(notice("superseded_crl", message));
    }
    if new.list.by_age(&other.list).is_gt() {
        *other = new;
    }
}

#[cfg(test)]
#[path = "crl/tests.rs"]
mod tests;
