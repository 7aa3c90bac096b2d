//! Whether a certificate may issue others (RFC 5280 sections 4.2.1.3, 4.2.1.9 and 4.2.1.12).

use x509_parser::certificate::X509Certificate;
use x509_parser::x509::X509Version;

use crate::material::is_self_issued;

/// Extensions that are processed here, or say nothing that a chain could break: basicConstraints, keyUsage,
/// subjectAltName, issuerAltName, nameConstraints, cRLDistributionPoints, extKeyUsage, and those of policies, of
/// which none is asked for.
const SUPPORTED: [&str; 11] = [
    "2.5.29.19",
    "2.5.29.15",
    "2.5.29.17",
    "2.5.29.18",
    "2.5.29.30",
    "2.5.29.31",
    "2.5.29.37",
    "2.5.29.32",
    "2.5.29.33",
    "2.5.29.36",
    "2.5.29.54",
];

/// Why a configured certificate may not end a chain, to be read after its name; none where it may. One of version 1
/// has no extensions, and may where it has issued itself.
pub(crate) fn anchor_fault(certificate: &X509Certificate<'_>) -> Option<String> {
    if certificate.version() == X509Version::V1 && is_self_issued(certificate) {
        return None;
    }
    critical_fault(certificate)
        .or_else(|| issuer_fault(certificate).map(str::to_owned))
        .or_else(|| purpose_fault(certificate, true).map(str::to_owned))
}

/// Why a certificate that the peer sent may not issue others.
pub(crate) fn intermediate_fault(certificate: &X509Certificate<'_>) -> Option<&'static str> {
    issuer_fault(certificate).or_else(|| purpose_fault(certificate, false))
}

fn issuer_fault(certificate: &X509Certificate<'_>) -> Option<&'static str> {
    match certificate.basic_constraints() {
        Ok(Some(constraints)) if constraints.value.ca => {}
        Ok(Some(_)) => return Some("its basicConstraints say CA:FALSE"),
        Ok(None) => return Some("it has no basicConstraints"),
        Err(_) => return Some("its basicConstraints cannot be read"),
    }
    match certificate.key_usage() {
        Ok(Some(usage)) if !usage.value.key_cert_sign() => Some("its keyUsage lacks keyCertSign"),
        Ok(_) => None,
        Err(_) => Some("its keyUsage cannot be read"),
    }
}

fn purpose_fault(certificate: &X509Certificate<'_>, any_suffices: bool) -> Option<&'static str> {
    match certificate.extended_key_usage() {
        Ok(Some(usage)) if usage.value.server_auth || (any_suffices && usage.value.any) => None,
        Ok(Some(_)) => Some("its extended key usage lacks serverAuth"),
        Ok(None) => None,
        Err(_) => Some("its extended key usage cannot be read"),
    }
}

fn critical_fault(certificate: &X509Certificate<'_>) -> Option<String> {
    let critical = certificate
        .extensions()
        .iter()
        .filter(|extension| extension.critical);
    let mut oids = critical.map(|extension| extension.oid.to_id_string());
    let oid = oids.find(|oid| !SUPPORTED.contains(&oid.as_str()))?;
    Some(match oid.as_str() {
        "2.5.29.35" => {
            "its authorityKeyIdentifier is marked critical, which RFC 5280 section 4.2.1.1 forbids".to_owned()
        }
        "2.5.29.14" => {
            "its subjectKeyIdentifier is marked critical, which RFC 5280 section 4.2.1.2 forbids".to_owned()
        }
        oid => format!("its extension {oid} is marked critical and is not supported"),
    })
}

/// How many CAs may follow a CA in a chain, besides those that have issued themselves; none where there is no limit.
pub(crate) fn path_length(certificate: &X509Certificate<'_>) -> Option<usize> {
    let constraints = certificate.basic_constraints().ok()??;
    let length = constraints.value.path_len_constraint?;
    Some(usize::try_from(length).unwrap_or(usize::MAX))
}
