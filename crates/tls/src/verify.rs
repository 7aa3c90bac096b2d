//! Does this chain end at a trusted root, and is it for one of these names?
//!
//! Both questions are always answered apart, so that a mode may refuse for one and report the other.
//! Answers are kept by the digest of the chain for as long as no certificate in it begins or ceases to
//! be valid: a new connection to a peer that was met before costs one hash instead of a path search.
//! The signature of each handshake is verified all the same, see `verifier`.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use nuncio_model::{CertificateInfo, Digest, Pin, Reason, VerifyMode, VerifyName};
use rustls::CertificateError;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::client::algorithms;
use crate::describe::{alternative_names, describe, parse, seconds, sha256};
use crate::explanation::{Context, not_for_servers, untimely};
use crate::gap::Gap;
use crate::issuer::intermediate_fault;
use crate::material::named;
use crate::path::{Search, bad_issuer, check_anchor_length};
use crate::pin::{pin_of, pin_of_content};
use crate::revocation::{Link, Revocation, links};
use crate::roots::{AnchorFacts, Trust};

/// Why a peer's certificate would be, or was, refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Flaw {
    pub(crate) fn new(reason: Reason, message: String) -> Self {
        Self { reason, message }
    }

    /// The error that makes rustls send the alert that fits.
    pub(crate) fn as_error(&self) -> CertificateError {
        match self.reason {
            Reason::UnknownIssuer => CertificateError::UnknownIssuer,
            Reason::Expired => CertificateError::Expired,
            Reason::NotYetValid => CertificateError::NotValidYet,
            Reason::NameMismatch => CertificateError::NotValidForName,
            Reason::BadPurpose => CertificateError::InvalidPurpose,
            Reason::Revoked => CertificateError::Revoked,
            Reason::CrlUnknown => CertificateError::UnknownRevocationStatus,
            Reason::PinMismatch => CertificateError::ApplicationVerificationFailure,
            _ => CertificateError::BadEncoding,
        }
    }
}

/// Everything that was found out about a chain.
#[derive(Debug)]
pub(crate) struct Judgement {
    chain: Option<Flaw>,
    pin: Option<Flaw>,
    name: Option<Flaw>,
    /// What no mode refuses and somebody must hear of.
    alarm: Option<Flaw>,
    /// Where the chain leads to no root: who can close the gap.
    pub(crate) gap: Option<Gap>,
    /// The chain in words, leaf first.
    pub(crate) peer: Vec<CertificateInfo>,
    /// First and last second for which this holds.
    holds: (i64, i64),
}

impl Judgement {
    /// What a mode refuses it for.
    pub(crate) fn refusal(&self, mode: VerifyMode) -> Option<&Flaw> {
        match mode {
            VerifyMode::None | VerifyMode::Report => None,
            VerifyMode::Chain => self.chain.as_ref().or(self.pin.as_ref()),
            VerifyMode::Full => self.flaw(),
        }
    }

    /// Last second for which this holds.
    pub(crate) fn until(&self) -> i64 {
        self.holds.1
    }

    /// What `full` would refuse it for.
    pub(crate) fn flaw(&self) -> Option<&Flaw> {
        self.chain.as_ref().or(self.pin.as_ref()).or(self.name.as_ref())
    }

    /// What is to be told of it: what `full` would refuse it for, else what needs attention all the same.
    pub(crate) fn finding(&self) -> Option<&Flaw> {
        self.flaw().or(self.alarm.as_ref())
    }
}

/// Chains that are remembered for each set of names and roots: more than one only while endpoints of
/// an upstream show different ones.
const REMEMBERED: usize = 8;

/// What chains are judged by.
pub(crate) struct Standards {
    pub(crate) trust: Arc<Trust>,
    pub(crate) names: Arc<[VerifyName]>,
    pub(crate) revocation: Option<Arc<Revocation>>,
    pub(crate) pins: Arc<[Pin]>,
}

/// Judges the chains of one upstream.
pub(crate) struct Judge {
    standards: Standards,
    memory: Mutex<Vec<(Digest, Arc<Judgement>)>>,
}

impl Judge {
    pub(crate) fn new(standards: Standards) -> Self {
        Self {
            standards,
            memory: Mutex::new(Vec::new()),
        }
    }

    /// Judges a chain as it was sent, leaf first.
    pub(crate) fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Arc<Judgement> {
        let key = chain_digest(leaf, intermediates);
        if let Some(known) = self.recall(&key, seconds(now)) {
            return known;
        }
        let judgement = Arc::new(self.search(leaf, intermediates, now));
        self.remember(key, &judgement);
        judgement
    }

    fn recall(&self, key: &Digest, now: i64) -> Option<Arc<Judgement>> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, known) = memory.iter().find(|(known, _)| known == key)?;
        (known.holds.0 <= now && now <= known.holds.1).then(|| Arc::clone(known))
    }

    fn remember(&self, key: Digest, judgement: &Arc<Judgement>) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.retain(|(known, _)| *known != key);
        if memory.len() == REMEMBERED {
            memory.remove(0);
        }
        memory.push((key, Arc::clone(judgement)));
    }

    fn search(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Judgement {
        let all = || std::iter::once(leaf).chain(intermediates);
        let standards = &self.standards;
        let (chain, alarm, keys) = match check_chain(standards, leaf, intermediates, now) {
            Ok(Found { alarm, keys }) => (None, alarm, keys),
            // Nobody but the leaf has proven to be part of the chain.
            Err(flaw) => (Some(flaw), None, pin_of(leaf).into_iter().collect()),
        };
        let lost = |flaw: &Flaw| flaw.reason == Reason::UnknownIssuer;
        Judgement {
            gap: chain
                .as_ref()
                .filter(|flaw| lost(flaw))
                .and_then(|_| Gap::of(leaf, intermediates, &standards.trust)),
            chain,
            pin: check_pins(leaf, &keys, &standards.pins).err(),
            name: check_name(leaf, &standards.names).err(),
            alarm,
            peer: all().filter_map(|der| describe(der).ok()).collect(),
            holds: holds(all(), standards, seconds(now)),
        }
    }
}

fn chain_digest(leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Digest {
    // Each certificate is DER and so tells its own length: no two chains read the same.
    let mut parts: Vec<&[u8]> = Vec::with_capacity(1 + intermediates.len());
    parts.push(leaf);
    parts.extend(intermediates.iter().map(AsRef::<[u8]>::as_ref));
    sha256(&parts)
}

/// The seconds around `now` in which no certificate of the chain or the roots begins or ends, and no
/// revocation list.
fn holds<'a>(
    chain: impl Iterator<Item = &'a CertificateDer<'a>>,
    standards: &Standards,
    now: i64,
) -> (i64, i64) {
    let of_chain = chain.filter_map(|der| parse(der).ok().map(|certificate| validity(&certificate)));
    let of_roots = standards.trust.facts.iter().filter_map(|facts| facts.validity);
    let lists = standards
        .revocation
        .iter()
        .flat_map(|revocation| revocation.changes());
    of_chain
        .chain(of_roots)
        .flat_map(|(begin, end)| [begin, end.saturating_add(1)])
        .chain(lists)
        .fold((i64::MIN, i64::MAX), |(from, until), change| {
            if change <= now {
                (from.max(change), until)
            } else {
                (from, until.min(change - 1))
            }
        })
}

pub(crate) fn validity(certificate: &X509Certificate<'_>) -> (i64, i64) {
    let validity = certificate.validity();
    (validity.not_before.timestamp(), validity.not_after.timestamp())
}

/// A chain that is good.
struct Found {
    alarm: Option<Flaw>,
    /// Pins of its keys: of the leaf, of the intermediates that were needed, of the CA that ends it. Looked
    /// for only where pins are configured.
    keys: Vec<Pin>,
}

impl Found {
    fn of(links: &[Link<'_>], standards: &Standards, now: UnixTime) -> Self {
        let mut keys = Vec::new();
        if !standards.pins.is_empty() {
            keys.extend(links.first().and_then(|leaf| pin_of(&leaf.certificate)));
            keys.extend(links.iter().map(|link| pin_of_content(&link.issuer_key)));
        }
        let revocation = standards.revocation.as_ref();
        Self {
            alarm: revocation.and_then(|revocation| revocation.alarm(links, now)),
            keys,
        }
    }
}

/// Whether the chain ends at a trusted root, was not revoked, and may be used by a server now.
fn check_chain(
    standards: &Standards,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<Found, Flaw> {
    let (trust, revocation) = (&*standards.trust, standards.revocation.as_deref());
    if trust.holds(&sha256(&[leaf])) {
        check_configured(leaf, revocation, now)?;
        return Ok(Found {
            alarm: None,
            keys: pin_of(leaf).into_iter().collect(),
        });
    }
    let context = Context {
        trust,
        leaf,
        intermediates,
        now,
    };
    // What `webpki` only has a code for is kept in words.
    let kept = RefCell::new(None);
    let usable = |links: &[Link<'_>], anchor: &TrustAnchor<'_>| {
        let checked = path_usable(links, revocation);
        checked.map_err(|flaw| not_good(flaw, &kept))?;
        anchor_usable(trust, revocation, links, anchor, now, &kept)
    };
    let entity = EndEntityCert::try_from(leaf).map_err(|error| context.explain(&error))?;
    let verified = entity.verify_for_usage(
        algorithms().all,
        &trust.anchors,
        intermediates,
        now,
        KeyUsage::server_auth(),
        None,
        Some(&|path: &VerifiedPath<'_>| usable(&links(path), path.anchor())),
    );
    let error = match verified {
        Ok(path) => return Ok(Found::of(&links(&path), standards, now)),
        Err(error) => error,
    };
    let refused = kept.take().filter(|_| is_kept(&error));
    // Some chains are good by RFC 5280 and not by `webpki`; of others it says what is wrong and not with which.
    let fault = match Search::new(trust, leaf, intermediates, now) {
        Some(search) if !is_out_of_budget(&error) => {
            match search.run(&|links, anchor| usable(links, anchor).is_ok()) {
                Ok(links) => return Ok(Found::of(&links, standards, now)),
                Err(fault) => fault,
            }
        }
        _ => None,
    };
    Err(refused.or(fault).unwrap_or_else(|| context.explain(&error)))
}

/// What `webpki` does not ask of the certificates of a path, leaf first.
fn path_usable(links: &[Link<'_>], revocation: Option<&Revocation>) -> Result<(), Flaw> {
    for (place, link) in links.iter().enumerate() {
        let der = &link.certificate;
        let certificate = parse(der).map_err(|error| Flaw::new(Reason::BadCertificate, error.message))?;
        if certificate.extensions_map().is_err() {
            let message = format!("{} has an extension twice", named(der));
            return Err(Flaw::new(Reason::BadCertificate, message));
        }
        if let Some(why) = intermediate_fault(&certificate).filter(|_| place > 0) {
            return Err(bad_issuer(&named(der), why));
        }
    }
    revocation.map_or(Ok(()), |revocation| revocation.check(links))
}

/// Whether an error is one that [`not_good`] has made.
fn is_kept(error: &webpki::Error) -> bool {
    matches!(
        error,
        webpki::Error::CertRevoked | webpki::Error::UnknownRevocationStatus
    )
}

fn is_out_of_budget(error: &webpki::Error) -> bool {
    use webpki::Error as E;
    matches!(
        error,
        E::MaximumPathBuildCallsExceeded
            | E::MaximumSignatureChecksExceeded
            | E::MaximumNameConstraintComparisonsExceeded
    )
}

/// Keeps a flaw and turns it into the error that lets `webpki` look for another path.
fn not_good(flaw: Flaw, kept: &RefCell<Option<Flaw>>) -> webpki::Error {
    let error = match flaw.reason {
        Reason::CrlUnknown => webpki::Error::UnknownRevocationStatus,
        _ => webpki::Error::CertRevoked,
    };
    kept.replace(Some(flaw));
    error
}

/// `webpki` takes anchors for granted; one that has expired (row V5), was revoked by another or allows fewer CAs below
/// it ends no chain here.
fn anchor_usable(
    trust: &Trust,
    revocation: Option<&Revocation>,
    links: &[Link<'_>],
    anchor: &TrustAnchor<'_>,
    now: UnixTime,
    kept: &RefCell<Option<Flaw>>,
) -> Result<(), webpki::Error> {
    let mut outcome = Ok(());
    for facts in trust.facts_of(anchor) {
        outcome = in_time(facts.validity, now).and_then(|()| {
            let long_enough = check_anchor_length(facts, links);
            let good = long_enough
                .and_then(|()| revocation.map_or(Ok(()), |revocation| anchor_good(facts, revocation)));
            good.map_err(|flaw| not_good(flaw, kept))
        });
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn anchor_good(facts: &AnchorFacts, revocation: &Revocation) -> Result<(), Flaw> {
    let Some(der) = &facts.der else { return Ok(()) };
    let Ok(certificate) = parse(der) else {
        return Ok(());
    };
    revocation.check_configured(&certificate, &format!("the configured CA {}", named(der)))
}

pub(crate) fn in_time(validity: Option<(i64, i64)>, now: UnixTime) -> Result<(), webpki::Error> {
    let Some((begin, end)) = validity else {
        return Ok(());
    };
    if seconds(now) > end {
        return Err(webpki::Error::CertExpired {
            time: now,
            not_after: unix_time(end),
        });
    }
    if seconds(now) < begin {
        return Err(webpki::Error::CertNotValidYet {
            time: now,
            not_before: unix_time(begin),
        });
    }
    Ok(())
}

fn unix_time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        u64::try_from(seconds).unwrap_or(0),
    ))
}

/// A certificate that was configured itself needs no issuer, and may be a CA (rows V9, V10).
fn check_configured(
    leaf: &CertificateDer<'_>,
    revocation: Option<&Revocation>,
    now: UnixTime,
) -> Result<(), Flaw> {
    let certificate = parse(leaf).map_err(|error| Flaw::new(Reason::BadCertificate, error.message))?;
    in_time(Some(validity(&certificate)), now).map_err(|error| untimely(&named(leaf), &error))?;
    if let Some(revocation) = revocation {
        revocation.check_configured(&certificate, &named(leaf))?;
    }
    match certificate.extended_key_usage() {
        Ok(Some(usage)) if !usage.value.server_auth && !usage.value.any => Err(not_for_servers(leaf)),
        _ => Ok(()),
    }
}

/// Whether one of these keys is pinned, where any is.
fn check_pins(leaf: &CertificateDer<'_>, keys: &[Pin], pins: &[Pin]) -> Result<(), Flaw> {
    if pins.is_empty() || keys.iter().any(|key| pins.contains(key)) {
        return Ok(());
    }
    let own = pin_of(leaf).map_or_else(String::new, |pin| format!("; the pin of its own key is {pin}"));
    Err(Flaw::new(
        Reason::PinMismatch,
        format!("no key in the verified chain of {} is pinned{own}", named(leaf)),
    ))
}

/// Whether the certificate is for one of the names. Only subject alternative names count (row V12).
fn check_name(leaf: &CertificateDer<'_>, names: &[VerifyName]) -> Result<(), Flaw> {
    let certificate = parse(leaf).map_err(|error| Flaw::new(Reason::BadCertificate, error.message))?;
    if names.iter().any(|name| carries(&certificate, name)) {
        return Ok(());
    }
    Err(Flaw::new(
        Reason::NameMismatch,
        mismatch(leaf, &certificate, names),
    ))
}

fn carries(certificate: &X509Certificate<'_>, wanted: &VerifyName) -> bool {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return false;
    };
    extension
        .value
        .general_names
        .iter()
        .any(|name| match (name, wanted) {
            (GeneralName::DNSName(pattern), VerifyName::Dns(wanted)) => covers(pattern, wanted),
            (GeneralName::IPAddress(bytes), VerifyName::Ip(IpAddr::V4(ip))) => *bytes == ip.octets(),
            (GeneralName::IPAddress(bytes), VerifyName::Ip(IpAddr::V6(ip))) => *bytes == ip.octets(),
            (GeneralName::URI(uri), VerifyName::Uri(wanted)) => **uri == **wanted,
            _ => false,
        })
}

/// Whether a DNS name of a certificate is `wanted`, or its wildcard stands for the first label of it (RFC
/// 9525 section 6.3). `webpki` wants two more labels after the wildcard; a private CA may well issue
/// `*.test` or `*.local` (row S14). A wildcard for all of `com` is nobody's.
fn covers(pattern: &str, wanted: &str) -> bool {
    let parent = wanted
        .split_once('.')
        .filter(|(label, _)| !label.is_empty())
        .map(|(_, parent)| parent);
    match pattern.strip_prefix("*.") {
        Some(pattern) => {
            parent.is_some_and(|parent| pattern.eq_ignore_ascii_case(parent)) && !is_top_level_domain(pattern)
        }
        None => pattern.eq_ignore_ascii_case(wanted),
    }
}

/// Whether a name is a domain of the root zone, as of October 2026.
fn is_top_level_domain(name: &str) -> bool {
    const TOP_LEVEL_DOMAINS: &str = include_str!("top_level_domains.txt");
    !name.contains('.')
        && TOP_LEVEL_DOMAINS
            .lines()
            .any(|domain| domain.eq_ignore_ascii_case(name))
}

/// Subject alternative names that a message lists at most.
const LISTED: usize = 20;

fn mismatch(leaf: &CertificateDer<'_>, certificate: &X509Certificate<'_>, names: &[VerifyName]) -> String {
    let wanted: Vec<String> = names.iter().map(ToString::to_string).collect();
    let sans = alternative_names(certificate);
    let wants_dns = names.iter().any(|name| matches!(name, VerifyName::Dns(_)));
    let mut found = if sans.is_empty() {
        "it has no DNS SAN and none of another kind".to_owned()
    } else if wants_dns && !sans.iter().any(|san| san.starts_with("DNS:")) {
        format!("it has no DNS SAN, only {}", listed(&sans))
    } else {
        format!("it is for {}", listed(&sans))
    };
    if sans.is_empty() && certificate.subject().iter_common_name().next().is_some() {
        found.push_str("; a common name does not count");
    }
    let of_a_domain = |san: &&String| san.strip_prefix("DNS:*.").is_some_and(is_top_level_domain);
    if sans.iter().any(|san| of_a_domain(&san)) {
        found.push_str("; a wildcard for a whole top-level domain does not count");
    }
    format!("{} is not for {}: {found}", named(leaf), wanted.join(" or "))
}

fn listed(sans: &[String]) -> String {
    let mut text = sans[..sans.len().min(LISTED)].join(", ");
    if sans.len() > LISTED {
        text.push_str(&format!(" and {} more", sans.len() - LISTED));
    }
    text
}

#[cfg(test)]
#[path = "verify/tests.rs"]
mod tests;
#[cfg(test)]
#[path = "verify/vectors.rs"]
mod vectors;
