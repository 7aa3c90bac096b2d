//! Authorities, certificates and keys, made for one test.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationList, CertificateRevocationListParams,
    CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate authority.
pub struct Certificates {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// PEM of the authorities between this one and the root, this one first; empty for a root.
    above: String,
}

/// A chain, leaf first, and the leaf's key; both PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    pub chain: String,
    pub key: String,
}

impl Certificates {
    /// A root with a name of its own.
    pub fn new() -> Self {
        Self::named("test CA")
    }

    /// A root called `name`.
    pub fn named(name: &str) -> Self {
        Self::made_of(authority(name))
    }

    /// A root of any kind; see [`authority`] for something to start from.
    pub fn made_of(params: CertificateParams) -> Self {
        let issuer = CertifiedIssuer::self_signed(params, key()).unwrap();
        Self {
            issuer,
            above: String::new(),
        }
    }

    /// An authority below this one; what it issues carries its certificate in the chain.
    pub fn intermediate(&self, name: &str) -> Self {
        let issuer = CertifiedIssuer::signed_by(authority(name), key(), &self.issuer).unwrap();
        let above = format!("{}{}", issuer.pem(), self.above);
        Self { issuer, above }
    }

    /// The authority's certificate, PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The first certificate of a chain.
    pub fn first_of(chain: &str) -> String {
        let end = "-----END CERTIFICATE-----";
        let at = chain.find(end).unwrap() + end.len();
        format!("{}\n", &chain[..at])
    }

    /// A server certificate for these DNS names and IP addresses.
    pub fn server(&self, names: &[&str]) -> Identity {
        let mut params = leaf("test server", names);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(&params)
    }

    /// A client certificate with this common name.
    pub fn client(&self, name: &str) -> Identity {
        let mut params = leaf(name, &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&params)
    }

    /// A certificate of any kind; see [`leaf`] for something to start from.
    pub fn issue(&self, params: &CertificateParams) -> Identity {
        self.issue_for(params, &key())
    }

    /// A certificate of any kind for a key of any kind.
    pub fn issue_for(&self, params: &CertificateParams, key: &KeyPair) -> Identity {
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        Identity {
            chain: format!("{}{}", certificate.pem(), self.above),
            key: key.serialize_pem(),
        }
    }

    /// The authority's key.
    pub fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    /// A revocation list of this authority.
    pub fn crl(&self, params: &CertificateRevocationListParams) -> CertificateRevocationList {
        params.signed_by(&self.issuer).unwrap()
    }

    /// A Secret that holds the authority under `tls.crt`, as `ca_secret` reads it.
    pub fn secret(&self, name: &str) -> String {
        secret(name, &[("tls.crt", &self.pem())])
    }
}

impl Identity {
    /// A certificate that signs itself; with `ca`, as `openssl req -x509` makes them.
    pub fn self_signed(names: &[&str], ca: bool) -> Self {
        let mut params = leaf("self-signed", names);
        if ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = key();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A `kubernetes.io/tls` Secret with chain and key.
    pub fn secret(&self, name: &str) -> String {
        secret(name, &[("tls.crt", &self.chain), ("tls.key", &self.key)])
    }

    /// The chain as rustls takes it.
    pub fn chain_der(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.chain.as_bytes())
            .map(Result::unwrap)
            .collect()
    }

    /// The key as rustls takes it.
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

/// A Secret in namespace `default` with these entries.
pub fn secret(name: &str, entries: &[(&str, &str)]) -> String {
    let mut text = format!("---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\ndata:\n");
    for (key, value) in entries {
        text.push_str(&format!("  {key}: {}\n", STANDARD.encode(value)));
    }
    text
}

/// A key as most certificates have one today.
pub fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// What a leaf begins as: this common name, these DNS names and IP addresses, no purpose.
pub fn leaf(name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// What an authority begins as.
pub fn authority(name: &str) -> CertificateParams {
    let mut params = leaf(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
