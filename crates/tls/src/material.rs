//! What Secrets and files hold, as checked values, or exactly why it cannot be used.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::SystemTime;

use nuncio_model::{ClientIdentity, Severity, TrustBundle};
use rustls_pki_types::CertificateDer;
use webpki::anchor_from_trusted_cert;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::x509::X509Version;

use crate::describe::{distinguished_name, parse, rfc3339, sha256, unix_seconds};
use crate::issuer::anchor_fault;
use crate::key::{LoadedKey, key_bytes, private_keys};
use crate::pem::{Block, Label, blocks, why_nothing_found};

/// Something worth telling about material that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters: a notice or a warning.
    pub severity: Severity,
    /// Stable `snake_case` code: `certificate_expired`, `certificate_not_yet_valid`,
    /// `duplicate_certificate`, `unrelated_certificate`, `root_in_chain`, `bad_pem_block`,
    /// `bad_certificate`, `not_a_ca`, `not_for_clients`, `unexpected_pem_block`, `crl_expired`,
    /// `superseded_crl`.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

/// Why material cannot be used. Never holds bytes of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaterialError {
    /// Stable `snake_case` code: `no_certificate`, `no_private_key`, `encrypted_key`, `key_mismatch`,
    /// `unsupported_key`, `bad_private_key`, `bad_certificate`, `bad_pem`, `no_crl`, `bad_crl`,
    /// `unsupported_crl`, `crl_unknown_issuer`, and for settings `bad_sni`, `no_roots`, `no_cipher_suite`,
    /// `no_group`, `bad_settings`.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

impl MaterialError {
    pub(crate) fn new(reason: &'static str, message: &str) -> Self {
        Self {
            reason,
            message: message.to_owned(),
        }
    }
}

impl fmt::Display for MaterialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for MaterialError {}

/// A client certificate and its key, from PEM (rows K9, K10).
///
/// The leaf is the certificate that belongs to the key, wherever it stands; what it needs follows in
/// order, a root and strangers are left out, and the findings say so. `key_pem` may be the same text
/// as `chain_pem`.
pub fn client_identity(
    chain_pem: &[u8],
    key_pem: &[u8],
    now: SystemTime,
) -> Result<(ClientIdentity, Vec<Finding>), MaterialError> {
    let (identity, mut findings) = identity(chain_pem, key_pem, now)?;
    if let Some(leaf) = identity.chain.first().and_then(|der| parse(der).ok())
        && !for_clients(&leaf)
    {
        findings.push(warning(
            "not_for_clients",
            format!(
                "certificate `{}` is not meant for clients (its extended key usage lacks clientAuth), so \
                 upstreams may refuse it",
                distinguished_name(leaf.subject())
            ),
        ));
    }
    Ok((identity, findings))
}

/// A certificate for either side, and its key.
pub(crate) fn identity(
    chain_pem: &[u8],
    key_pem: &[u8],
    now: SystemTime,
) -> Result<(ClientIdentity, Vec<Finding>), MaterialError> {
    let (certificates, mut findings) = some_certificates(chain_pem).map_err(|error| {
        let are_exchanged = private_keys(chain_pem).is_ok() && some_certificates(key_pem).is_ok();
        if are_exchanged { exchanged() } else { error }
    })?;
    let keys = private_keys(key_pem)?;
    let Some((leaf, key)) = leaf_and_key(&certificates, keys) else {
        return Err(mismatch(&certificates, &findings));
    };
    let chain = in_order(&certificates, leaf, &mut findings);
    for der in &chain {
        findings.extend(validity_finding(der, now, Severity::Warning));
    }
    let mut parts: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    parts.push(key_bytes(&key));
    let digest = digest_of(&parts);
    Ok((ClientIdentity { chain, key, digest }, findings))
}

fn exchanged() -> MaterialError {
    let message = "the certificate stands where the private key belongs, and the key where the certificate belongs; \
                   exchange them";
    MaterialError::new("no_certificate", message)
}

/// A CA bundle from PEM (rows V4, V5, V7 to V10). Each distinct certificate is kept: expired ones too,
/// so that a peer that still uses one is told `expired`, and ones that are no CA, which then accept
/// exactly themselves.
///
/// Fails when nothing can be used; private keys that stand in the text are passed over.
pub fn trust_bundle(pem: &[u8], now: SystemTime) -> Result<(TrustBundle, Vec<Finding>), MaterialError> {
    let (certificates, mut findings) = anchors(pem);
    let mut seen = HashSet::new();
    let mut anchors = Vec::new();
    for der in certificates {
        if !seen.insert(sha256(&[&der])) {
            findings.push(notice(
                "duplicate_certificate",
                format!("{} stands there twice", named(&der)),
            ));
        } else if anchor_from_trusted_cert(&CertificateDer::from(der.as_slice())).is_err() {
            findings.push(warning(
                "bad_certificate",
                format!("{} cannot end a chain and is left out", named(&der)),
            ));
        } else {
            findings.extend(validity_finding(&der, now, Severity::Notice));
            findings.extend(ca_finding(&der));
            anchors.push(der);
        }
    }
    if anchors.is_empty() {
        return Err(first_broken(findings).unwrap_or_else(|| no_certificate(pem)));
    }
    let parts: Vec<&[u8]> = anchors.iter().map(Vec::as_slice).collect();
    let digest = digest_of(&parts);
    Ok((TrustBundle { anchors, digest }, findings))
}

/// As [`certificates`], without those whose trust settings do not let them vouch for servers.
fn anchors(pem: &[u8]) -> (Vec<Vec<u8>>, Vec<Finding>) {
    let mut certificates = Vec::new();
    let mut findings = Vec::new();
    for block in blocks(pem) {
        match certificate(&block) {
            Some(Ok(_)) if !trusts_servers(&block) => findings.push(warning(
                "not_trusted",
                format!(
                    "the `TRUSTED CERTIFICATE` in line {} is left out, because its trust settings do not allow TLS servers; remove \
                     them with `openssl x509 -clrtrust -clrreject` if it shall be trusted",
                    block.line
                ),
            )),
            Some(Ok(der)) => certificates.push(der),
            Some(Err(finding)) => findings.push(finding),
            None => {}
        }
    }
    (certificates, findings)
}

/// Whether the settings of a `TRUSTED CERTIFICATE` let it vouch for TLS servers; true for any other block, and where
/// it has no settings. Those that cannot be read allow nothing.
fn trusts_servers(block: &Block) -> bool {
    match (&block.label, &block.content) {
        (Label::TrustedCertificate, Ok(der)) => match parse_first(der) {
            Ok((rest, _)) => rest.is_empty() || allow_servers(rest).unwrap_or(false),
            Err(_) => false,
        },
        _ => true,
    }
}

/// OpenSSL's `X509_CERT_AUX`: a sequence of the uses that are trusted, where there are any, and under the tag 0 those
/// that are rejected; names and other things follow. None where it is malformed.
fn allow_servers(settings: &[u8]) -> Option<bool> {
    use x509_parser::der_parser::asn1_rs::{Any, FromDer, Oid, Tag};
    /// `serverAuth` and `anyExtendedKeyUsage` (RFC 5280 section 4.2.1.12).
    const FOR_SERVERS: [&str; 2] = ["1.3.6.1.5.5.7.3.1", "2.5.29.37.0"];
    let names_servers = |mut uses: &[u8]| {
        let mut found = false;
        while !uses.is_empty() {
            let (rest, one) = Oid::from_der(uses).ok()?;
            found |= FOR_SERVERS.contains(&one.to_id_string().as_str());
            uses = rest;
        }
        Some(found)
    };
    let ([], whole) = Any::from_der(settings).ok()? else {
        return None;
    };
    let (mut trusted, mut rejected) = (true, false);
    let mut rest = whole.data;
    while !rest.is_empty() {
        let (after, part) = Any::from_der(rest).ok()?;
        if part.tag() == Tag::Sequence && part.class() == x509_parser::der_parser::asn1_rs::Class::Universal {
            trusted = names_servers(part.data)?;
        } else if part.class() == x509_parser::der_parser::asn1_rs::Class::ContextSpecific
            && part.tag().0 == 0
        {
            rejected = names_servers(part.data)?;
        }
        rest = after;
    }
    Some(trusted && !rejected)
}

/// The certificate that DER begins with, and what follows after it.
fn parse_first(der: &[u8]) -> Result<(&[u8], X509Certificate<'_>), MaterialError> {
    use x509_parser::prelude::FromDer;
    X509Certificate::from_der(der)
        .map_err(|_| MaterialError::new("bad_certificate", "it is not an X.509 certificate"))
}

/// The certificates of a PEM text as DER, in their order, and what is wrong with the rest of it.
pub fn certificates(pem: &[u8]) -> (Vec<Vec<u8>>, Vec<Finding>) {
    let mut certificates = Vec::new();
    let mut findings = Vec::new();
    for block in blocks(pem) {
        match certificate(&block) {
            Some(Ok(der)) => certificates.push(der),
            Some(Err(finding)) => findings.push(finding),
            None => {}
        }
    }
    (certificates, findings)
}

/// As [`certificates`], where there must be one.
///
/// # Errors
/// `no_certificate`, or `bad_pem` where all that stand there are broken.
pub fn some_certificates(pem: &[u8]) -> Result<(Vec<Vec<u8>>, Vec<Finding>), MaterialError> {
    let (certificates, findings) = certificates(pem);
    if certificates.is_empty() {
        return Err(first_broken(findings).unwrap_or_else(|| no_certificate(pem)));
    }
    Ok((certificates, findings))
}

/// Whether any block of PEM can be decoded in a text, whatever it holds.
pub fn holds_pem(text: &[u8]) -> bool {
    blocks(text).iter().any(|block| block.content.is_ok())
}

/// Whether a certificate may issue others: its basic constraints say so, or it is of version 1 (which
/// has none) and issued by itself.
pub fn is_ca(der: &[u8]) -> bool {
    parse(der).is_ok_and(|certificate| {
        certificate.is_ca() || (certificate.version() == X509Version::V1 && is_self_issued(&certificate))
    })
}

/// The certificate in a block; nothing when the block is about something else that may stand there.
fn certificate(block: &Block) -> Option<Result<Vec<u8>, Finding>> {
    match (&block.label, &block.content) {
        (Label::Certificate, Ok(der)) => Some(match parse(der) {
            Ok(_) => Ok(der.to_vec()),
            Err(error) => Err(warning(
                "bad_pem_block",
                format!(
                    "the certificate in line {} is left out: {}",
                    block.line, error.message
                ),
            )),
        }),
        // Trust settings follow after the certificate; see `trusts_servers`.
        (Label::TrustedCertificate, Ok(der)) => Some(match parse_first(der) {
            Ok((rest, _)) => Ok(der[..der.len() - rest.len()].to_vec()),
            Err(error) => Err(warning(
                "bad_pem_block",
                format!(
                    "the certificate in line {} is left out: {}",
                    block.line, error.message
                ),
            )),
        }),
        (Label::Certificate | Label::TrustedCertificate, Err(why)) => Some(Err(warning(
            "bad_pem_block",
            format!("the certificate in line {} is left out: {why}", block.line),
        ))),
        (Label::Other(name), _) if name.contains("CERTIFICATE") => Some(Err(warning(
            "unexpected_pem_block",
            format!(
                "the `{name}` in line {} is left out, because only `CERTIFICATE` is read; {}",
                block.line,
                if name.contains("REQUEST") {
                    "put the certificate there that was issued for the request"
                } else {
                    "put a certificate there"
                }
            ),
        ))),
        (Label::Other(name), _) if matches!(name.as_str(), "PKCS7" | "CMS" | "PKCS12") => Some(Err(warning(
            "unexpected_pem_block",
            format!(
                "the `{name}` in line {} is left out; make certificates of it with `openssl {}`",
                block.line,
                if name == "PKCS12" {
                    "pkcs12 -in FILE -nokeys -out tls.crt"
                } else {
                    "pkcs7 -in FILE -print_certs -out tls.crt"
                }
            ),
        ))),
        (Label::Crl, _) => Some(Err(warning(
            "unexpected_pem_block",
            format!(
                "the `X509 CRL` in line {} is left out; put it under `crl.pem` into the Secret of spec.crl_secret",
                block.line
            ),
        ))),
        _ => None,
    }
}

/// Turns the first broken certificate into the error, where no good one is left.
fn first_broken(findings: Vec<Finding>) -> Option<MaterialError> {
    let broken = findings
        .into_iter()
        .find(|finding| finding.severity == Severity::Warning)?;
    let message = format!("no certificate can be used: {}", broken.message);
    Some(MaterialError {
        reason: "bad_pem",
        message,
    })
}

fn no_certificate(pem: &[u8]) -> MaterialError {
    let blocks = blocks(pem);
    let message = if blocks.is_empty() {
        format!("no certificate was found: {}", why_nothing_found(pem))
    } else if blocks.iter().all(|block| block.label.is_key()) {
        "no certificate was found: only a private key stands there; put the certificate that belongs to it there"
            .to_owned()
    } else {
        "no certificate was found among the PEM blocks; put one there".to_owned()
    };
    MaterialError {
        reason: "no_certificate",
        message,
    }
}

/// The position of the certificate that belongs to one of the keys, and that key. Each certificate is
/// parsed once, however many keys there are.
fn leaf_and_key(certificates: &[Vec<u8>], keys: Vec<LoadedKey>) -> Option<(usize, nuncio_model::PrivateKey)> {
    let mut by_key = HashMap::with_capacity(certificates.len());
    for (position, der) in certificates.iter().enumerate() {
        if let Ok(certificate) = parse(der) {
            by_key
                .entry(certificate.tbs_certificate.subject_pki.raw)
                .or_insert(position);
        }
    }
    keys.into_iter().find_map(|LoadedKey { key, signing }| {
        let leaf = by_key.get(signing.public_key()?.as_ref())?;
        Some((*leaf, key))
    })
}

fn mismatch(certificates: &[Vec<u8>], findings: &[Finding]) -> MaterialError {
    let named = certificates.first().map_or_else(String::new, |der| named(der));
    let whom = match certificates.len() {
        1 => named,
        several => format!("any of the {several} certificates, of which the first is {named}"),
    };
    let broken = findings
        .first()
        .map_or_else(String::new, |finding| format!("; {}", finding.message));
    MaterialError {
        reason: "key_mismatch",
        message: format!(
            "the private key does not belong to {whom}{broken}; put the key and the certificate of one pair there"
        ),
    }
}

/// What a chain is put in order by.
struct Link<'c> {
    der: &'c Vec<u8>,
    subject: &'c [u8],
    issuer: &'c [u8],
    /// Subject key identifier.
    key: Option<Vec<u8>>,
    /// Authority key identifier.
    issuer_key: Option<Vec<u8>>,
}

impl<'c> Link<'c> {
    fn of(der: &'c Vec<u8>) -> Option<Self> {
        let certificate = parse(der).ok()?;
        let (mut key, mut issuer_key) = (None, None);
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => key = Some(id.0.to_vec()),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    issuer_key = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                _ => {}
            }
        }
        Some(Self {
            der,
            subject: certificate.tbs_certificate.subject.as_raw(),
            issuer: certificate.tbs_certificate.issuer.as_raw(),
            key,
            issuer_key,
        })
    }

    fn is_root(&self) -> bool {
        self.subject == self.issuer
    }

    /// Where its issuer stands: of several of that name, the one that says it has the right key.
    fn issuer_among(&self, others: &[Link<'_>]) -> Option<usize> {
        let is_named = |other: &Link<'_>| !self.is_root() && other.subject == self.issuer;
        let has_the_key = |other: &Link<'_>| self.issuer_key.is_some() && other.key == self.issuer_key;
        let exact = |other: &Link<'_>| is_named(other) && has_the_key(other);
        others
            .iter()
            .position(exact)
            .or_else(|| others.iter().position(is_named))
    }
}

/// The chain as it is sent: the leaf, then the issuer of each, without the root.
fn in_order(certificates: &[Vec<u8>], leaf: usize, findings: &mut Vec<Finding>) -> Vec<Vec<u8>> {
    let mut left: Vec<Link<'_>> = certificates.iter().filter_map(Link::of).collect();
    let mut last = left.remove(leaf);
    let mut chain = vec![last.der.clone()];
    while let Some(position) = last.issuer_among(&left) {
        last = left.remove(position);
        if last.is_root() {
            findings.push(notice(
                "root_in_chain",
                format!("{} is a root and is not sent", named(last.der)),
            ));
            break;
        }
        chain.push(last.der.clone());
    }
    for Link { der, .. } in left {
        let (reason, what) = if chain.contains(der) {
            ("duplicate_certificate", "stands there twice and is sent once")
        } else {
            (
                "unrelated_certificate",
                "did not issue any of the others and is not sent",
            )
        };
        findings.push(notice(reason, format!("{} {what}", named(der))));
    }
    chain
}

pub(crate) fn is_self_issued(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

fn for_clients(certificate: &X509Certificate<'_>) -> bool {
    match certificate.extended_key_usage() {
        Ok(Some(usage)) => usage.value.client_auth || usage.value.any,
        _ => true,
    }
}

fn validity_finding(der: &[u8], now: SystemTime, severity: Severity) -> Option<Finding> {
    let certificate = parse(der).ok()?;
    let now = unix_seconds(now);
    let (begin, end) = (
        certificate.validity().not_before.timestamp(),
        certificate.validity().not_after.timestamp(),
    );
    let (reason, message) = if now > end {
        (
            "certificate_expired",
            format!("{} expired at {}", named(der), rfc3339(end)),
        )
    } else if now < begin {
        (
            "certificate_not_yet_valid",
            format!("{} is not valid before {}", named(der), rfc3339(begin)),
        )
    } else {
        return None;
    };
    Some(Finding {
        severity,
        reason,
        message,
    })
}

fn ca_finding(der: &[u8]) -> Option<Finding> {
    if !is_ca(der) {
        let message = format!(
            "{} is no CA, so it accepts exactly itself and issues nothing",
            named(der)
        );
        return Some(notice("not_a_ca", message));
    }
    // It was meant to issue, and what it has issued is refused.
    let why = anchor_fault(&parse(der).ok()?)?;
    Some(warning(
        "not_a_ca",
        format!(
            "{} may not issue certificates, so it accepts exactly itself: {why}",
            named(der)
        ),
    ))
}

/// `certificate `CN=a.test``, for messages.
pub(crate) fn named(der: &[u8]) -> String {
    match parse(der) {
        Ok(certificate) => format!("certificate `{}`", distinguished_name(certificate.subject())),
        Err(_) => "an unreadable certificate".to_owned(),
    }
}

/// The moments, in seconds since 1970, at which certificates begin to be valid and at which they end. Between
/// two of them reading the certificates again finds out the same.
pub fn validity_moments(certificates: &[Vec<u8>]) -> Vec<i64> {
    let parsed = certificates.iter().filter_map(|der| parse(der).ok());
    let moments = parsed.flat_map(|certificate| {
        let validity = certificate.validity();
        [validity.not_before.timestamp(), validity.not_after.timestamp()]
    });
    moments.collect()
}

/// SHA-256 over parts with their lengths, so that no two lists of parts have one digest.
pub fn digest_of(parts: &[&[u8]]) -> nuncio_model::Digest {
    let lengths: Vec<[u8; 8]> = parts
        .iter()
        .map(|part| (part.len() as u64).to_be_bytes())
        .collect();
    let all: Vec<&[u8]> = lengths
        .iter()
        .zip(parts)
        .flat_map(|(length, part)| [length.as_slice(), part])
        .collect();
    sha256(&all)
}

pub(crate) fn notice(reason: &'static str, message: String) -> Finding {
    Finding {
        severity: Severity::Notice,
        reason,
        message,
    }
}

pub(crate) fn warning(reason: &'static str, message: String) -> Finding {
    Finding {
        severity: Severity::Warning,
        reason,
        message,
    }
}

#[cfg(test)]
#[path = "material/tests.rs"]
mod tests;
