//! A certificate in words: names as RFC 4514 writes them, times as RFC 3339 does.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use nuncio_model::{CertificateInfo, Digest, hex};
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, RelativeDistinguishedName, X509Name};

use crate::MaterialError;
use crate::pin::pin_of_key;

/// Short names of attribute types: the table of RFC 4514 section 3, then others that are common.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.4", "SN"),
    ("2.5.4.42", "givenName"),
    ("2.5.4.12", "title"),
    ("2.5.4.97", "organizationIdentifier"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// What the certificate `der` says about itself.
///
/// Fails with `bad_certificate` when it is no X.509 certificate.
pub fn describe(der: &[u8]) -> Result<CertificateInfo, MaterialError> {
    let certificate = parse(der)?;
    let validity = certificate.validity();
    Ok(CertificateInfo {
        subject: distinguished_name(certificate.subject()),
        issuer: distinguished_name(certificate.issuer()),
        sans: alternative_names(&certificate),
        not_before: rfc3339(validity.not_before.timestamp()),
        not_after: rfc3339(validity.not_after.timestamp()),
        not_before_seconds: validity.not_before.timestamp(),
        not_after_seconds: validity.not_after.timestamp(),
        sha256: hex(&sha256(&[der])),
        pin: pin_of_key(&certificate).to_string(),
    })
}

/// Parses one certificate and nothing after it.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, MaterialError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(MaterialError::new(
            "bad_certificate",
            "bytes follow the end of the certificate",
        )),
        Err(_) => Err(MaterialError::new(
            "bad_certificate",
            "it is not an X.509 certificate",
        )),
    }
}

/// SHA-256 over `parts`, one after the other.
pub(crate) fn sha256(parts: &[&[u8]]) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = Digest::default();
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// Seconds since 1970, negative before.
pub fn unix_seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    }
}

/// Seconds since 1970 of a time as rustls has it.
pub(crate) fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// A time in UTC; one that the calendar of RFC 3339 cannot hold is given in seconds since 1970.
pub(crate) fn rfc3339(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("@{seconds}"))
}

/// Subject alternative names as `DNS:a.test`, `IP:10.0.0.5`, `URI:spiffe://...`.
pub(crate) fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    extension.value.general_names.iter().map(general_name).collect()
}

pub(crate) fn general_name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => format!("DNS:{}", printable(name)),
        GeneralName::URI(uri) => format!("URI:{}", printable(uri)),
        GeneralName::RFC822Name(address) => format!("email:{}", printable(address)),
        GeneralName::DirectoryName(name) => format!("dirName:{}", distinguished_name(name)),
        GeneralName::RegisteredID(oid) => format!("RID:{oid}"),
        GeneralName::IPAddress(bytes) => match ip_address(bytes) {
            Some(ip) => format!("IP:{ip}"),
            None => format!("IP:#{}", hex(bytes)),
        },
        GeneralName::OtherName(oid, _) => format!("otherName:{oid}"),
        GeneralName::X400Address(_) => "X400".to_owned(),
        GeneralName::EDIPartyName(_) => "EDIParty".to_owned(),
        GeneralName::Invalid(tag, bytes) => format!("invalid:{}:#{}", tag.0, hex(bytes)),
    }
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// Text of a peer's making, fit for a log line: control characters are escaped.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_unicode());
            let plain = (!c.is_control()).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// A distinguished name as RFC 4514 writes it: the last RDN first.
pub(crate) fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut rdns: Vec<String> = name.iter_rdn().map(relative_name).collect();
    rdns.reverse();
    rdns.join(",")
}

fn relative_name(rdn: &RelativeDistinguishedName<'_>) -> String {
    rdn.iter().map(attribute).collect::<Vec<_>>().join("+")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let name = ATTRIBUTES
        .iter()
        .find(|(known, _)| *known == oid)
        .map(|(_, name)| *name);
    match (name, attribute.as_str()) {
        (Some(name), Ok(value)) => format!("{name}={}", escaped(value)),
        (name, _) => format!("{}=#{}", name.unwrap_or(&oid), hex(attribute.as_slice())),
    }
}

/// A value as RFC 4514 section 2.4 escapes it, and control characters besides.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (index, c) in value.chars().enumerate() {
        let special = matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\');
        let at_an_end = (c == ' ' && (index == 0 || index == last)) || (c == '#' && index == 0);
        if c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\{byte:02x}");
            }
            continue;
        }
        if special || at_an_end {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
#[path = "describe/tests.rs"]
mod tests;
