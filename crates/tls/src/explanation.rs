//! Why a chain was refused, in words: which of its certificates is at fault, and what is wrong with it.

use nuncio_model::Reason;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::EndEntityCert;
use x509_parser::x509::X509Version;

use crate::describe::{distinguished_name, parse, rfc3339, seconds};
use crate::key::{MIN_RSA_BITS, is_weak};
use crate::material::{is_self_issued, named};
use crate::path::bad_issuer;
use crate::roots::{Trust, Unfit};
use crate::signed::{Signed, content};
use crate::verify::{Flaw, in_time, validity};

pub(crate) fn not_for_servers(leaf: &CertificateDer<'_>) -> Flaw {
    Flaw::new(
        Reason::BadPurpose,
        format!(
            "{} is not meant for servers: its extended key usage lacks serverAuth",
            named(leaf)
        ),
    )
}

/// A failure of the clock, with both times.
pub(crate) fn untimely(which: &str, error: &webpki::Error) -> Flaw {
    let at = |time: &UnixTime| rfc3339(seconds(*time));
    match error {
        webpki::Error::CertNotValidYet { time, not_before } => Flaw::new(
            Reason::NotYetValid,
            format!(
                "{which} is not valid before {}, and now is {}",
                at(not_before),
                at(time)
            ),
        ),
        webpki::Error::CertExpired { time, not_after } => Flaw::new(
            Reason::Expired,
            format!("{which} expired at {}, and now is {}", at(not_after), at(time)),
        ),
        other => Flaw::new(Reason::BadCertificate, format!("{which} {}", words(other))),
    }
}

/// A chain that was refused, to say why in words.
pub(crate) struct Context<'a> {
    pub(crate) trust: &'a Trust,
    pub(crate) leaf: &'a CertificateDer<'a>,
    pub(crate) intermediates: &'a [CertificateDer<'a>],
    pub(crate) now: UnixTime,
}

impl Context<'_> {
    pub(crate) fn explain(&self, error: &webpki::Error) -> Flaw {
        use webpki::Error as E;
        let leaf = named(self.leaf);
        match error {
            E::CertExpired { .. } | E::CertNotValidYet { .. } => untimely(&self.untimely_one(), error),
            E::UnknownIssuer
            | E::InvalidSignatureForPublicKey
            | E::CaUsedAsEndEntity
            | E::EndEntityUsedAsCa => self.of_issuer(error),
            E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => not_for_servers(self.leaf),
            E::PathLenConstraintViolated => Flaw::new(
                Reason::BadIssuer,
                format!("a CA in the chain of {leaf} has more CAs below it than its path length allows"),
            ),
            E::NameConstraintViolation => Flaw::new(
                Reason::NameConstraint,
                format!("a CA in the chain of {leaf} may not issue for a name in it"),
            ),
            E::UnsupportedSignatureAlgorithmContext(_)
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
            | E::SignatureAlgorithmMismatch => {
                let (which, algorithm) = self.unsupported_signature();
                Flaw::new(
                    Reason::BadSignatureAlgorithm,
                    format!("{which} is signed with {algorithm}, which is not accepted"),
                )
            }
            // webpki's limits (row F14).
            E::MaximumPathDepthExceeded
            | E::MaximumPathBuildCallsExceeded
            | E::MaximumSignatureChecksExceeded
            | E::MaximumNameConstraintComparisonsExceeded => Flaw::new(
                Reason::BadCertificate,
                format!("the chain of {leaf} is too long or too tangled to be followed"),
            ),
            E::UnsupportedCertVersion | E::BadDer if self.of_version_1().is_some() => Flaw::new(
                Reason::BadCertificate,
                format!(
                    "{} is an X.509 certificate of version 1 and version 3 is needed",
                    self.of_version_1().unwrap_or(leaf)
                ),
            ),
            other => Flaw::new(
                Reason::BadCertificate,
                format!("{} {}", self.unreadable_one(other), words(other)),
            ),
        }
    }

    /// A chain that leads to no trusted CA, and why.
    fn of_issuer(&self, error: &webpki::Error) -> Flaw {
        let leaf = named(self.leaf);
        if let Some(unfit) = self.unfit_issuer() {
            return bad_issuer(&format!("the configured {}", named(&unfit.der)), &unfit.why);
        }
        match error {
            webpki::Error::EndEntityUsedAsCa => Flaw::new(Reason::UnknownIssuer, self.missing_issuer()),
            webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey
                if self.weak_issuer() =>
            {
                Flaw::new(
                    Reason::BadSignatureAlgorithm,
                    format!(
                        "{leaf} chains to an RSA key of fewer than {MIN_RSA_BITS} bits, and such signatures are not \
                         accepted"
                    ),
                )
            }
            _ if self.self_issued() => Flaw::new(
                Reason::UnknownIssuer,
                format!("{leaf} is self-signed and is not among the trusted CA certificates"),
            ),
            webpki::Error::CaUsedAsEndEntity => Flaw::new(
                Reason::BadPurpose,
                format!("{leaf} is a CA certificate and may not be used by a server"),
            ),
            webpki::Error::InvalidSignatureForPublicKey => Flaw::new(
                Reason::UnknownIssuer,
                format!(
                    "{}; a CA of that name is configured, but another key signed",
                    self.missing_issuer()
                ),
            ),
            _ => Flaw::new(Reason::UnknownIssuer, self.missing_issuer()),
        }
    }

    /// A configured certificate that issued one of the chain and may not issue.
    fn unfit_issuer(&self) -> Option<&Unfit> {
        let issued = |unfit: &&Unfit, der: &CertificateDer<'_>| {
            let certificate = parse(der).ok();
            let issuer = certificate
                .as_ref()
                .and_then(|certificate| content(certificate.issuer().as_raw()));
            issuer == Some(&*unfit.subject)
                && Signed::parse(der).is_some_and(|signed| signed.is_by(&unfit.key))
        };
        let unfit = |der| self.trust.unfit.iter().find(|unfit| issued(unfit, der));
        self.chain().find_map(unfit)
    }

    /// Names the first certificate that `webpki` cannot read for this reason, else the peer's own.
    fn unreadable_one(&self, error: &webpki::Error) -> String {
        let is_at_fault =
            |der: &&CertificateDer<'_>| EndEntityCert::try_from(*der).err().as_ref() == Some(error);
        named(self.chain().find(is_at_fault).unwrap_or(self.leaf))
    }

    fn chain(&self) -> impl Iterator<Item = &CertificateDer<'_>> {
        std::iter::once(self.leaf).chain(self.intermediates)
    }

    /// Names the certificate whose time it is not: one that was sent, else a configured CA.
    fn untimely_one(&self) -> String {
        self.chain()
            .find(|der| {
                parse(der).is_ok_and(|certificate| in_time(Some(validity(&certificate)), self.now).is_err())
            })
            .map_or_else(|| self.untimely_anchor(), |der| named(der))
    }

    fn untimely_anchor(&self) -> String {
        let issuers: Vec<Vec<u8>> = self
            .chain()
            .filter_map(|der| Some(content(parse(der).ok()?.issuer().as_raw())?.to_vec()))
            .collect();
        let mut anchors = self.trust.anchors.iter().zip(&self.trust.facts);
        let untimely = anchors.find(|(anchor, facts)| {
            let issues = issuers.iter().any(|issuer| *issuer == *anchor.subject);
            issues && in_time(facts.validity, self.now).is_err()
        });
        match untimely.and_then(|(_, facts)| facts.der.as_ref()) {
            Some(der) => format!("the configured CA {}", named(der)),
            None => format!("the configured CA of {}", named(self.leaf)),
        }
    }

    /// Names the first certificate of version 1.
    fn of_version_1(&self) -> Option<String> {
        let is_of_version_1 = |der: &&CertificateDer<'_>| {
            parse(der).is_ok_and(|certificate| certificate.version() == X509Version::V1)
        };
        self.chain().find(is_of_version_1).map(|der| named(der))
    }

    fn self_issued(&self) -> bool {
        parse(self.leaf).is_ok_and(|certificate| is_self_issued(&certificate))
    }

    fn weak_issuer(&self) -> bool {
        self.intermediates
            .iter()
            .any(|der| parse(der).is_ok_and(|certificate| is_weak(&certificate)))
            || self.chain().any(|der| self.is_issued_by_weak_anchor(der))
    }

    fn is_issued_by_weak_anchor(&self, der: &CertificateDer<'_>) -> bool {
        let Ok(certificate) = parse(der) else { return false };
        let issuer = certificate.issuer().as_raw();
        let mut anchors = self.trust.anchors.iter().zip(&self.trust.facts);
        anchors.any(|(anchor, facts)| facts.weak_key && issuer.ends_with(&anchor.subject))
    }

    /// The issuer at which the chain ends, in words.
    fn missing_issuer(&self) -> String {
        let sent = self.intermediates.len();
        let issuer = self
            .chain()
            .last()
            .and_then(|der| {
                parse(der)
                    .ok()
                    .map(|certificate| distinguished_name(certificate.issuer()))
            })
            .unwrap_or_default();
        let with = match sent {
            0 => "the peer sent no intermediate certificate".to_owned(),
            1 => "the peer sent one more certificate".to_owned(),
            more => format!("the peer sent {more} more certificates"),
        };
        format!(
            "the chain of {} leads to issuer `{issuer}`, which is not among the trusted CA certificates \
             ({with})",
            named(self.leaf)
        )
    }

    /// The first certificate whose signature is of a kind that is not accepted, and that kind, by name where it has one.
    fn unsupported_signature(&self) -> (String, String) {
        const OLD: &[(&str, &str)] = &[
            ("1.2.840.113549.1.1.5", "SHA-1 and RSA"),
            ("1.2.840.113549.1.1.4", "MD5 and RSA"),
            ("1.2.840.10045.4.1", "SHA-1 and ECDSA"),
            ("1.2.840.10040.4.3", "SHA-1 and DSA"),
        ];
        let is_unsupported = |der: &&CertificateDer<'_>| {
            !Signed::parse(der).is_some_and(|signed| signed.has_supported_algorithm())
        };
        let der = self.chain().find(is_unsupported).unwrap_or(self.leaf);
        let oid = parse(der).map(|certificate| certificate.signature_algorithm.algorithm.to_id_string());
        let oid = oid.unwrap_or_default();
        let name = OLD
            .iter()
            .find(|(known, _)| oid == *known)
            .map(|(_, name)| (*name).to_owned());
        (named(der), name.unwrap_or_else(|| format!("algorithm {oid}")))
    }
}

/// What is wrong with a certificate, to be read after its name. `webpki` has identifiers for it.
fn words(error: &webpki::Error) -> &'static str {
    use webpki::Error as E;
    match error {
        E::UnsupportedCriticalExtension => "has an extension that is marked critical and is not supported",
        E::ExtensionValueInvalid => "has an extension twice",
        E::MalformedExtensions => "has extensions that cannot be read",
        E::InvalidCertValidity => "has a validity that ends before it begins",
        E::BadDerTime => "has a validity that cannot be read",
        E::InvalidSerialNumber => "has an invalid serial number",
        E::TrailingData(_) => "has bytes where it should have ended",
        E::UnsupportedCertVersion => "is not an X.509 certificate of version 3",
        E::MalformedDnsIdentifier => "has a DNS name that is malformed, and a CA of its chain limits names",
        E::InvalidNetworkMaskConstraint | E::MalformedNameConstraint => {
            "has a CA in its chain whose nameConstraints are malformed"
        }
        E::BadDer => "is not encoded as X.509 demands",
        _ => "cannot be used",
    }
}
