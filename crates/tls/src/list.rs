//! One certificate revocation list (RFC 5280 section 5), parsed.
//!
//! `webpki` can check revocation, but by one policy for all of a chain: of several lists with one issuer's
//! name it believes the first, whoever's key signed it, and a list for part of an issuer's certificates is
//! silently none at all. Here the lists are chosen, so that what each of them covers is known, and so are
//! lists of version 1, which OpenSSL still makes.

use std::cmp::Ordering;
use std::collections::HashMap;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{DistributionPointName, IssuingDistributionPoint, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Extension};
use x509_parser::revocation_list::{CertificateRevocationList, RevokedCertificate};

use crate::describe::{distinguished_name, general_name};
use crate::signed::content;

/// A parsed list.
#[derive(Debug)]
pub(crate) struct List {
    /// Content of the issuer's name.
    pub(crate) issuer: Vec<u8>,
    /// The issuer in words.
    pub(crate) name: String,
    /// Seconds since 1970.
    this_update: i64,
    /// Seconds since 1970 by which the next list should be there; none where the issuer does not say.
    pub(crate) next_update: Option<i64>,
    /// Without leading zeros.
    number: Vec<u8>,
    scope: Scope,
    /// By serial number without leading zeros.
    revoked: HashMap<Box<[u8]>, Entry>,
}

/// When and why a certificate was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Seconds since 1970.
    pub(crate) at: i64,
    /// As RFC 5280 section 5.3.1 numbers them.
    reason: Option<u8>,
}

/// Which certificates of its issuer a list speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Scope {
    leaves: bool,
    authorities: bool,
    /// The distribution points that it was made for; none where it was made for all.
    points: Option<Vec<String>>,
}

impl List {
    /// Parses the DER of a list.
    ///
    /// # Errors
    /// What is wrong with it or not spoken here, to follow after its name: "it ...".
    pub(crate) fn parse(der: &[u8]) -> Result<Self, &'static str> {
        let Ok(([], list)) = CertificateRevocationList::from_der(der) else {
            return Err("is not a certificate revocation list");
        };
        let Some(issuer) = content(list.issuer().as_raw()) else {
            return Err("is not a certificate revocation list");
        };
        let scope = scope(list.extensions())?;
        let revoked: Result<_, _> = list.iter_revoked_certificates().map(entry).collect();
        Ok(Self {
            issuer: issuer.to_vec(),
            name: distinguished_name(list.issuer()),
            this_update: list.last_update().timestamp(),
            next_update: list.next_update().map(|time| time.timestamp()),
            number: list
                .crl_number()
                .map(|number| without_zeros(&number.to_bytes_be()).to_vec())
                .unwrap_or_default(),
            scope,
            revoked: revoked?,
        })
    }

    /// What it says about a serial number of its issuer.
    pub(crate) fn entry(&self, serial: &[u8]) -> Option<Entry> {
        self.revoked.get(without_zeros(serial)).copied()
    }

    /// Whether it would name `certificate`, which its issuer signed, had it been revoked (row C10). A list
    /// for certain distribution points knows only of certificates that name one of them.
    pub(crate) fn covers(&self, certificate: &X509Certificate<'_>) -> bool {
        let kind = if certificate.is_ca() {
            self.scope.authorities
        } else {
            self.scope.leaves
        };
        let point = self.scope.points.as_ref().is_none_or(|points| {
            distribution_points(certificate)
                .iter()
                .any(|point| points.contains(point))
        });
        kind && point
    }

    /// Whether its time is over at `now`.
    pub(crate) fn is_overdue(&self, now: i64) -> bool {
        self.next_update.is_some_and(|next| next <= now)
    }

    /// Whether both come from one issuer and are for the same certificates, so that only the newer counts.
    pub(crate) fn is_about_the_same(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.scope == other.scope
    }

    /// Which was issued later.
    pub(crate) fn by_age(&self, other: &Self) -> Ordering {
        let number = |list: &Self| (list.number.len(), list.number.clone());
        self.this_update
            .cmp(&other.this_update)
            .then_with(|| number(self).cmp(&number(other)))
    }

    /// Where it is for certain distribution points, their names.
    pub(crate) fn points(&self) -> &[String] {
        self.scope.points.as_deref().unwrap_or_default()
    }
}

impl Entry {
    /// The reason in words, where there is one.
    pub(crate) fn reason(self) -> Option<&'static str> {
        Some(match self.reason? {
            1 => "key compromise",
            2 => "compromise of the CA",
            3 => "affiliation changed",
            4 => "superseded",
            5 => "cessation of operation",
            6 => "on hold",
            9 => "privilege withdrawn",
            10 => "compromise of the attribute authority",
            _ => return None,
        })
    }
}

fn entry(revoked: &RevokedCertificate<'_>) -> Result<(Box<[u8]>, Entry), &'static str> {
    for extension in revoked.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::ReasonCode(_) | ParsedExtension::InvalidityDate(_) => {}
            _ if extension.oid.to_id_string() == "2.5.29.29" => return Err(INDIRECT),
            _ if extension.critical => {
                return Err("has an entry with a critical extension that is not known here");
            }
            _ => {}
        }
    }
    let entry = Entry {
        at: revoked.revocation_date.timestamp(),
        reason: revoked.reason_code().map(|(_, code)| code.0),
    };
    Ok((without_zeros(revoked.raw_serial()).into(), entry))
}

const INDIRECT: &str =
    "is an indirect list, which speaks of certificates of other issuers and is not read here";

/// What the extensions of a list say of its scope. One that is not understood may make it say less than it
/// seems to, so it is refused (RFC 5280 section 5.2).
fn scope(extensions: &[X509Extension<'_>]) -> Result<Scope, &'static str> {
    let mut found = None;
    for extension in extensions {
        match (
            extension.oid.to_id_string().as_str(),
            extension.parsed_extension(),
        ) {
            ("2.5.29.28", ParsedExtension::IssuingDistributionPoint(point)) if found.is_none() => {
                found = Some(scope_of(point)?);
            }
            ("2.5.29.28", _) => return Err("has an issuing distribution point that cannot be read"),
            ("2.5.29.27", _) => {
                return Err("is a delta list, which is not read here: give the complete list");
            }
            ("2.5.29.20", _) if extension.critical => {
                return Err("has a CRL number that is marked critical, which RFC 5280 section 5.2.3 forbids");
            }
            ("2.5.29.20" | "2.5.29.35", _) => {}
            _ if extension.critical => return Err("has a critical extension that is not known here"),
            _ => {}
        }
    }
    Ok(found.unwrap_or(Scope {
        leaves: true,
        authorities: true,
        points: None,
    }))
}

fn scope_of(point: &IssuingDistributionPoint<'_>) -> Result<Scope, &'static str> {
    if point.indirect_crl {
        return Err(INDIRECT);
    }
    if point.only_contains_attribute_certs {
        return Err("is for attribute certificates only, which TLS does not use");
    }
    if point.only_some_reasons.is_some() {
        return Err("is for some reasons of revocation only and is not read here: give one for all reasons");
    }
    Ok(Scope {
        leaves: !point.only_contains_ca_certs,
        authorities: !point.only_contains_user_certs,
        points: point.distribution_point.as_ref().map(names),
    })
}

fn names(point: &DistributionPointName<'_>) -> Vec<String> {
    match point {
        DistributionPointName::FullName(names) => names.iter().map(general_name).collect(),
        // It never equals one that is written in full, so it counts as a name of its own.
        DistributionPointName::NameRelativeToCRLIssuer(relative) => vec![format!("relative:{relative:?}")],
    }
}

/// Where a certificate says that its issuer tells of all revocations. A point that is for some reasons only, or
/// where somebody else tells, is passed over.
fn distribution_points(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for extension in certificate.extensions() {
        if let ParsedExtension::CRLDistributionPoints(points) = extension.parsed_extension() {
            let complete = points
                .iter()
                .filter(|point| point.reasons.is_none() && point.crl_issuer.is_none());
            found.extend(
                complete
                    .filter_map(|point| point.distribution_point.as_ref())
                    .flat_map(names),
            );
        }
    }
    found
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    use x509_parser::asn1_rs::oid;

    use super::*;

    #[test]
    fn a_critical_crl_number_is_refused() {
        let number = |critical| {
            let parsed = ParsedExtension::CRLNumber(1_u32.into());
            scope(&[X509Extension::new(oid!(2.5.29.20), critical, &[2, 1, 1], parsed)])
        };
        assert!(number(false).is_ok());
        let why = number(true).map(drop).expect_err("a refusal");
        assert!(why.contains("RFC 5280 section 5.2.3"), "{why}");
    }
}
