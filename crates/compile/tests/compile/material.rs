//! Certificates and Secrets for tests.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
};

/// A CA that can issue.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(crate) struct Pair {
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// A new CA.
pub(crate) fn authority(name: &str) -> Authority {
    authority_until(name, (2027, 1, 1))
}

/// A new CA that ends with the beginning of this day.
pub(crate) fn authority_until(name: &str, (year, month, day): (i32, u8, u8)) -> Authority {
    let mut params = params(name);
    params.not_after = rcgen::date_time_ymd(year, month, day);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("keys can be made");
    let certificate = params.self_signed(&key).expect("certificates can be made");
    Authority {
        pem: certificate.pem(),
        issuer: Issuer::new(params, key),
    }
}

impl Authority {
    /// A revocation list with these serial numbers that is good until the end of this day.
    pub(crate) fn crl(&self, serials: &[u64], until: (i32, u8, u8)) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: rcgen::date_time_ymd(2026, 2, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 3, 1),
            next_update: rcgen::date_time_ymd(until.0, until.1, until.2),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).expect("lists can be made");
        list.pem().expect("lists can be written")
    }

    /// A leaf for one name.
    pub(crate) fn leaf(&self, name: &str) -> Pair {
        self.issue(&params(name))
    }

    /// A leaf for one name, for servers alone.
    pub(crate) fn server(&self, name: &str) -> Pair {
        let mut params = params(name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(&params)
    }

    fn issue(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("keys can be made");
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("certificates can be made");
        Pair {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("the name is one");
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    params
}

/// A Secret whose values stand in `stringData`.
pub(crate) fn secret(name: &str, namespace: &str, kind: &str, values: &[(&str, &str)]) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: {namespace}\ntype: {kind}\nstringData:\n"
    );
    for (key, value) in values {
        text.push_str(&format!("  {key}: |\n"));
        for line in value.lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text
}

/// A Secret of type `kubernetes.io/tls`.
pub(crate) fn tls_secret(name: &str, namespace: &str, pair: &Pair) -> String {
    secret(
        name,
        namespace,
        "kubernetes.io/tls",
        &[("tls.crt", &pair.chain), ("tls.key", &pair.key)],
    )
}

/// An opaque Secret with one value.
pub(crate) fn ca_secret(name: &str, key: &str, pem: &str) -> String {
    secret(name, "default", "Opaque", &[(key, pem)])
}
