//! Certificates and keys from Secrets and files, each read once however many contexts use it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use data_encoding::BASE64;
use nuncio_crds::Secret;
use nuncio_model::{CertificateRole, ClientIdentity, CrlSet, Digest, LoadedCertificate, Roots, TrustBundle};
use nuncio_tls::{Finding, MaterialError, client_identity, crl_set, describe, is_ca, trust_bundle};

use crate::decode;
use crate::inventory::by_name;
use crate::problems::Problems;
use crate::{Object, Objects};

/// Types of Secrets that may hold certificates (D9a).
const TYPES: &[&str] = &["Opaque", "kubernetes.io/tls", "istio.io/key-and-cert"];

/// Keys of a Secret under which a CA stands beside what may be a leaf (decision 11).
const CA_KEYS: &[&str] = &["ca.crt", "root-cert.pem", "cacert"];

/// Keys of a Secret under which a revocation list stands; the second is how old manifests call it (D.4).
const CRL_KEYS: &[&str] = &["crl.pem", "user.key"];

/// Which Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SecretName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl SecretName {
    /// What `text` names from inside `namespace`: with `namespacing`, the part after the last dot is
    /// the namespace (D3 to D5).
    pub(crate) fn read(text: &str, namespace: &str, namespacing: bool) -> Self {
        match text
            .rsplit_once('.')
            .filter(|(name, elsewhere)| namespacing && !name.is_empty() && !elsewhere.is_empty())
        {
            Some((name, elsewhere)) => Self {
                namespace: elsewhere.into(),
                name: name.into(),
            },
            None => Self {
                namespace: namespace.into(),
                name: text.into(),
            },
        }
    }
}

impl std::fmt::Display for SecretName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret `{}` in namespace `{}`", self.name, self.namespace)
    }
}

/// Material that can be used, and the certificates in it.
#[derive(Debug)]
pub(crate) struct Loaded<T> {
    pub(crate) value: Arc<T>,
    pub(crate) certificates: Arc<[LoadedCertificate]>,
}

impl<T> Clone for Loaded<T> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
            certificates: Arc::clone(&self.certificates),
        }
    }
}

/// Why material cannot be used. The message follows after the name of the field that wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unusable {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Unusable {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// Revocation lists that can be used, and what is to be told of them to whoever uses them.
#[derive(Clone, Debug)]
pub(crate) struct Revocations {
    pub(crate) set: Arc<CrlSet>,
    pub(crate) findings: Vec<Finding>,
}

/// Lists are checked against roots, so one Secret may be good for some contexts and not for others.
type CrlKey = (SecretName, Option<Digest>, bool);

type Outcome<T> = Result<Loaded<T>, Unusable>;

/// Everything that certificates are loaded from.
pub(crate) struct Materials<'a> {
    secrets: HashMap<(&'a str, &'a str), &'a Object>,
    files: &'a BTreeMap<PathBuf, Result<Vec<u8>, String>>,
    now: SystemTime,
    contents: HashMap<SecretName, Result<Arc<Contents>, Unusable>>,
    clients: HashMap<SecretName, Outcome<ClientIdentity>>,
    servers: HashMap<SecretName, Result<(), Unusable>>,
    authorities: HashMap<SecretName, Outcome<TrustBundle>>,
    roots: HashMap<SecretName, Option<Outcome<TrustBundle>>>,
    crls: HashMap<CrlKey, Result<Revocations, Unusable>>,
}

/// Decoded values of a Secret by key; empty ones are left out.
type Contents = BTreeMap<String, Vec<u8>>;

impl<'a> Materials<'a> {
    pub(crate) fn new(secrets: &[&'a Object], objects: &'a Objects, now: SystemTime) -> Self {
        Self {
            secrets: by_name(secrets),
            files: &objects.files,
            now,
            contents: HashMap::new(),
            clients: HashMap::new(),
            servers: HashMap::new(),
            authorities: HashMap::new(),
            roots: HashMap::new(),
            crls: HashMap::new(),
        }
    }

    /// Certificate and key: `tls.crt` and `tls.key`, or `cert-chain.pem` and `key.pem`.
    pub(crate) fn client(&mut self, name: &SecretName, problems: &mut Problems) -> Outcome<ClientIdentity> {
        if let Some(outcome) = self.clients.get(name) {
            return outcome.clone();
        }
        let outcome = self.load_client(name, problems);
        self.clients.insert(name.clone(), outcome.clone());
        outcome
    }

    fn load_client(&mut self, name: &SecretName, problems: &mut Problems) -> Outcome<ClientIdentity> {
        let contents = self.contents(name, problems)?;
        let (chain_key, chain, key) = certificate_and_key(&contents, name)?;
        let (identity, findings) =
            client_identity(chain, key, self.now).map_err(|error| unusable(name, &error))?;
        self.report(name, chain_key, findings, problems);
        let certificates = describe_all(&identity.chain, CertificateRole::Client, name, chain_key);
        Ok(Loaded {
            value: Arc::new(identity),
            certificates,
        })
    }

    /// Whether the Secret holds a certificate and key that clients can be shown.
    pub(crate) fn server(&mut self, name: &SecretName, problems: &mut Problems) -> Result<(), Unusable> {
        if let Some(outcome) = self.servers.get(name) {
            return outcome.clone();
        }
        let outcome = self.load_server(name, problems);
        self.servers.insert(name.clone(), outcome.clone());
        outcome
    }

    fn load_server(&mut self, name: &SecretName, problems: &mut Problems) -> Result<(), Unusable> {
        let contents = self.contents(name, problems)?;
        let (chain_key, chain, key) = certificate_and_key(&contents, name)?;
        let (_, mut findings) =
            client_identity(chain, key, self.now).map_err(|error| unusable(name, &error))?;
        findings.retain(|finding| finding.reason != "not_for_clients");
        self.report(name, chain_key, findings, problems);
        Ok(())
    }

    /// Tells of every Secret with a certificate and key that do not work, used or not (D.7).
    pub(crate) fn validate_all(&mut self, problems: &mut Problems) {
        let secrets: Vec<&Object> = self.secrets.values().copied().collect();
        for object in secrets {
            let document = object.document.value();
            let holds = |key: &str| {
                ["data", "stringData"]
                    .iter()
                    .any(|map| document.get(map).and_then(|map| map.get(key)).is_some())
            };
            let name = SecretName {
                namespace: object.reference.namespace.to_string(),
                name: object.reference.name.to_string(),
            };
            if holds("tls.crt")
                && holds("tls.key")
                && let Err(unusable) = self.server(&name, problems)
            {
                let message = format!("whoever names this Secret {}", unusable.message);
                problems.error(object, unusable.reason, "", message);
            }
        }
    }

    /// The CA of a Secret that is named as one (decision 11).
    pub(crate) fn authority(&mut self, name: &SecretName, problems: &mut Problems) -> Outcome<TrustBundle> {
        if let Some(outcome) = self.authorities.get(name) {
            return outcome.clone();
        }
        let outcome = self.load_authority(name, problems);
        self.authorities.insert(name.clone(), outcome.clone());
        outcome
    }

    fn load_authority(&mut self, name: &SecretName, problems: &mut Problems) -> Outcome<TrustBundle> {
        let contents = self.contents(name, problems)?;
        let leaf = first(&contents, &["tls.crt", "cert-chain.pem"]);
        let beside = first(&contents, CA_KEYS);
        let (key, pem) = match (leaf, beside) {
            (None, None) => return Err(missing(name, "no CA certificate", "ca.crt")),
            (Some(only), None) | (None, Some(only)) => only,
            (Some(leaf), Some(beside)) => {
                let chosen = if holds_ca(leaf.1) { leaf } else { beside };
                if leaf.1 != beside.1 {
                    self.tell_choice(name, leaf.0, beside.0, chosen.0, problems);
                }
                chosen
            }
        };
        self.bundle(name, key, pem, problems)
    }

    /// `root-cert.pem` of a Secret that is named for its certificate and key: Istio puts the CA of the
    /// other side there (D.4).
    pub(crate) fn root(
        &mut self,
        name: &SecretName,
        problems: &mut Problems,
    ) -> Option<Outcome<TrustBundle>> {
        if let Some(outcome) = self.roots.get(name) {
            return outcome.clone();
        }
        let contents = self.contents(name, problems).ok()?;
        let outcome = contents
            .get("root-cert.pem")
            .map(|pem| self.bundle(name, "root-cert.pem", pem, problems));
        self.roots.insert(name.clone(), outcome.clone());
        outcome
    }

    fn bundle(
        &self,
        name: &SecretName,
        key: &str,
        pem: &[u8],
        problems: &mut Problems,
    ) -> Outcome<TrustBundle> {
        let (bundle, findings) = trust_bundle(pem, self.now).map_err(|error| unusable(name, &error))?;
        self.report(name, key, findings, problems);
        let certificates = describe_all(&bundle.anchors, CertificateRole::Ca, name, key);
        Ok(Loaded {
            value: Arc::new(bundle),
            certificates,
        })
    }

    /// The revocation lists of a Secret, checked against the roots that they are to be used with.
    pub(crate) fn crls(
        &mut self,
        name: &SecretName,
        roots: &Roots,
        problems: &mut Problems,
    ) -> Result<Revocations, Unusable> {
        let bundle = roots.bundle.as_ref().map(|bundle| bundle.digest);
        let key = (name.clone(), bundle, roots.system);
        if let Some(outcome) = self.crls.get(&key) {
            return outcome.clone();
        }
        let outcome = self.load_crls(name, roots, problems);
        self.crls.insert(key, outcome.clone());
        outcome
    }

    fn load_crls(
        &mut self,
        name: &SecretName,
        roots: &Roots,
        problems: &mut Problems,
    ) -> Result<Revocations, Unusable> {
        let contents = self.contents(name, problems)?;
        let (_, pem) =
            first(&contents, CRL_KEYS).ok_or_else(|| missing(name, "no revocation list", "crl.pem"))?;
        let (set, findings) = crl_set(pem, roots, self.now).map_err(|error| unusable(name, &error))?;
        Ok(Revocations {
            set: Arc::new(set),
            findings,
        })
    }

    /// The revocation lists of a file, likewise.
    pub(crate) fn crls_from_file(&self, path: &str, roots: &Roots) -> Result<Revocations, Unusable> {
        let pem = self.file(path)?;
        let (set, findings) = crl_set(pem, roots, self.now).map_err(|error| in_file(path, &error))?;
        Ok(Revocations {
            set: Arc::new(set),
            findings,
        })
    }

    /// Certificate and key from files.
    ///
    /// # Errors
    /// Which of the two is at fault, and why.
    pub(crate) fn client_from_files(
        &self,
        chain: &str,
        key: &str,
    ) -> Result<(Loaded<ClientIdentity>, Vec<Finding>), (bool, Unusable)> {
        let chain_pem = self.file(chain).map_err(|error| (true, error))?;
        let key_pem = self.file(key).map_err(|error| (false, error))?;
        let (identity, findings) =
            client_identity(chain_pem, key_pem, self.now).map_err(|error| (true, in_file(chain, &error)))?;
        let certificates = describe_file(&identity.chain, CertificateRole::Client, chain);
        Ok((
            Loaded {
                value: Arc::new(identity),
                certificates,
            },
            findings,
        ))
    }

    /// A CA from a file.
    pub(crate) fn authority_from_file(
        &self,
        path: &str,
    ) -> Result<(Loaded<TrustBundle>, Vec<Finding>), Unusable> {
        let (bundle, findings) =
            trust_bundle(self.file(path)?, self.now).map_err(|error| in_file(path, &error))?;
        let certificates = describe_file(&bundle.anchors, CertificateRole::Ca, path);
        Ok((
            Loaded {
                value: Arc::new(bundle),
                certificates,
            },
            findings,
        ))
    }

    fn file(&self, path: &str) -> Result<&'a [u8], Unusable> {
        match self.files.get(Path::new(path)) {
            Some(Ok(content)) => Ok(content),
            Some(Err(why)) => Err(Unusable::new(
                "file_unreadable",
                format!("names the file `{path}`, which cannot be read: {why}"),
            )),
            None => Err(Unusable::new(
                "file_unreadable",
                format!("names the file `{path}`, which was not read"),
            )),
        }
    }

    fn contents(&mut self, name: &SecretName, problems: &mut Problems) -> Result<Arc<Contents>, Unusable> {
        if let Some(contents) = self.contents.get(name) {
            return contents.clone();
        }
        let contents = match self.secrets.get(&(name.namespace.as_str(), name.name.as_str())) {
            Some(object) => read_contents(object, name, problems).map(Arc::new),
            None => Err(Unusable::new(
                "missing_secret",
                format!("names {name}, which does not exist; create it or correct the name"),
            )),
        };
        self.contents.insert(name.clone(), contents.clone());
        contents
    }

    fn report(&self, name: &SecretName, key: &str, findings: Vec<Finding>, problems: &mut Problems) {
        if let Some(object) = self.secrets.get(&(name.namespace.as_str(), name.name.as_str())) {
            problems.findings(object, &field_of(object, key), findings);
        }
    }

    fn tell_choice(
        &self,
        name: &SecretName,
        leaf: &str,
        beside: &str,
        chosen: &str,
        problems: &mut Problems,
    ) {
        if let Some(object) = self.secrets.get(&(name.namespace.as_str(), name.name.as_str())) {
            let why = if chosen == leaf {
                "which holds a CA certificate"
            } else {
                "since the other holds no CA certificate"
            };
            let message = format!(
                "of `{leaf}` and `{beside}`, `{chosen}` is the CA, {why}; keep only the one that is meant"
            );
            problems.notice(object, "ca_chosen", &field_of(object, chosen), message);
        }
    }
}

fn first<'c>(contents: &'c Contents, keys: &[&'static str]) -> Option<(&'static str, &'c [u8])> {
    keys.iter()
        .find_map(|key| contents.get(*key).map(|value| (*key, value.as_slice())))
}

type Pair<'c> = (&'static str, &'c [u8], &'c [u8]);

/// `tls.crt` and `tls.key`, or Istio's `cert-chain.pem` and `key.pem`; with the key of the first.
fn certificate_and_key<'c>(contents: &'c Contents, name: &SecretName) -> Result<Pair<'c>, Unusable> {
    let (chain_key, chain) = first(contents, &["tls.crt", "cert-chain.pem"])
        .ok_or_else(|| missing(name, "no certificate", "tls.crt"))?;
    let (_, key) =
        first(contents, &["tls.key", "key.pem"]).ok_or_else(|| missing(name, "no private key", "tls.key"))?;
    Ok((chain_key, chain, key))
}

fn holds_ca(pem: &[u8]) -> bool {
    nuncio_tls::certificates(pem)
        .0
        .first()
        .is_some_and(|der| is_ca(der))
}

fn missing(name: &SecretName, what: &str, key: &str) -> Unusable {
    Unusable::new(
        "incomplete_secret",
        format!("names {name}, which holds {what}; put one under the key `{key}`"),
    )
}

fn unusable(name: &SecretName, error: &MaterialError) -> Unusable {
    Unusable::new(
        error.reason,
        format!("names {name}, which cannot be used: {}", error.message),
    )
}

fn in_file(path: &str, error: &MaterialError) -> Unusable {
    Unusable::new(
        error.reason,
        format!("names the file `{path}`, which cannot be used: {}", error.message),
    )
}

/// `data.tls.crt` or `stringData.tls.crt`, wherever the value stands.
fn field_of(object: &Object, key: &str) -> String {
    let document = object.document.value();
    let under = |map: &str| document.get(map).and_then(|map| map.get(key)).is_some();
    let map = if under("stringData") { "stringData" } else { "data" };
    format!("{map}.{key}")
}

fn read_contents(object: &Object, name: &SecretName, problems: &mut Problems) -> Result<Contents, Unusable> {
    let secret = decode::document::<Secret>(object, problems)
        .ok_or_else(|| Unusable::new("bad_secret", format!("names {name}, which cannot be read")))?;
    let kind = secret.kind.as_deref().unwrap_or("Opaque");
    if !TYPES.contains(&kind) {
        let message = format!(
            "names {name}, which is of type `{kind}`; use one of type {}",
            TYPES.join(", ")
        );
        return Err(Unusable::new("bad_secret", message));
    }
    let mut contents = Contents::new();
    for (key, text) in secret.data.unwrap_or_default() {
        let packed: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let value = BASE64.decode(&packed).map_err(|_| {
            Unusable::new(
                "bad_secret",
                format!(
                    "names {name}, whose `data.{key}` is no base64; encode it, or put it under `stringData`"
                ),
            )
        })?;
        contents.insert(key, value);
    }
    contents.extend(
        secret
            .string_data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, text)| (key, text.into_bytes())),
    );
    contents.retain(|_, value| !value.is_empty());
    Ok(contents)
}

fn describe_all(
    chain: &[Vec<u8>],
    role: CertificateRole,
    name: &SecretName,
    key: &str,
) -> Arc<[LoadedCertificate]> {
    let from = format!("Secret {}.{}, {key}", name.name, name.namespace);
    describe_from(chain, role, &from, &name.namespace, &name.name)
}

fn describe_file(chain: &[Vec<u8>], role: CertificateRole, path: &str) -> Arc<[LoadedCertificate]> {
    describe_from(chain, role, path, "", path)
}

fn describe_from(
    chain: &[Vec<u8>],
    role: CertificateRole,
    from: &str,
    namespace: &str,
    secret: &str,
) -> Arc<[LoadedCertificate]> {
    let (namespace, secret): (Arc<str>, Arc<str>) = (namespace.into(), secret.into());
    chain
        .iter()
        .filter_map(|der| describe(der).ok())
        .map(|info| LoadedCertificate {
            role,
            info: Arc::new(info),
            from: from.into(),
            namespace: Arc::clone(&namespace),
            secret: Arc::clone(&secret),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k1_k2_k3_which_secret_a_name_means() {
        let read = |text, namespacing| {
            let SecretName { namespace, name } = SecretName::read(text, "own", namespacing);
            (name, namespace)
        };
        let pair = |name: &str, namespace: &str| (name.to_owned(), namespace.to_owned());
        assert_eq!(read("a", true), pair("a", "own"));
        assert_eq!(read("a.b", true), pair("a", "b"));
        assert_eq!(read("a.b.c", true), pair("a.b", "c"));
        assert_eq!(read("a.b", false), pair("a.b", "own"));
        assert_eq!(read("a.", true), pair("a.", "own"));
    }
}
