//! `AMBASSADOR_FORCE_SECRET_VALIDATION`: every Secret is looked through, used or not, and one that is wrong in
//! any part is withheld from everybody (D.7).
//!
//! The texts of the reference stand in ours. It looks at the first PEM block of `tls.crt` and `tls.key` and at
//! nothing else; here every block of every key counts, and whether key and certificate belong together. A
//! block that is broken beside good ones is a warning, as it is without the switch: it costs nothing but
//! itself (row V7). So is a certificate whose time is over, which upstreams judge.

use nuncio_model::Severity;
use nuncio_tls::{MaterialError, check_private_key, check_revocation_lists, holds_pem, some_certificates};

use super::authority::CA_KEYS;
use super::contents::{Contents, TYPES, field_of, first};
use super::identity::{CHAIN_KEYS, PRIVATE_KEYS};
use super::{Materials, SecretName, Unusable};
use crate::Object;
use crate::problems::Problems;

/// What is wrong with a value of a Secret.
struct Flaw {
    key: &'static str,
    reason: &'static str,
    /// To follow after the Secret's name.
    text: String,
}

impl Flaw {
    fn of(key: &'static str, error: &MaterialError, what: &str) -> Self {
        Self {
            key,
            reason: error.reason,
            text: format!("{key} {what}: {}", error.message),
        }
    }
}

impl Materials<'_> {
    /// Tells of every Secret that is wrong, and withholds it.
    pub(super) fn inspect_all(&mut self, secrets: &[&Object], problems: &mut Problems) {
        let of_directory = self.directory.as_ref().map(|directory| directory.name.clone());
        let named = secrets.iter().map(|object| SecretName {
            namespace: object.reference.namespace.to_string(),
            name: object.reference.name.to_string(),
        });
        for name in of_directory
            .into_iter()
            .filter(|name| self.is_directory(name))
            .collect::<Vec<_>>()
        {
            self.inspect("FSSecret", &name, problems);
        }
        for name in named {
            if !self.is_directory(&name) && self.is_of_known_type(&name) {
                self.inspect("K8sSecret", &name, problems);
            }
        }
    }

    /// Others are nobody's certificates (D9a).
    fn is_of_known_type(&self, name: &SecretName) -> bool {
        self.object(name).is_some_and(|object| {
            let document = object.document.value();
            let kind = document.get("type").and_then(serde_json::Value::as_str);
            TYPES.contains(&kind.unwrap_or("Opaque"))
        })
    }

    fn inspect(&mut self, what: &str, name: &SecretName, problems: &mut Problems) {
        let SecretName {
            namespace,
            name: bare,
        } = name;
        let (reason, key, text) = match self.contents(name, problems) {
            Err(unusable) => {
                let why = unusable.message.strip_prefix(&format!("names {name}"));
                let why = why.unwrap_or(&unusable.message);
                (
                    unusable.reason,
                    None,
                    format!("{what} secret {bare}.{namespace}{why}"),
                )
            }
            Ok(contents) => {
                let flaws = self.flaws(name, &contents, problems);
                let Some(first) = flaws.first() else { return };
                let texts: Vec<String> = flaws
                    .iter()
                    .map(|flaw| format!("{what} secret {bare}.{namespace} {}", flaw.text))
                    .collect();
                (first.reason, Some(first.key), joined(&texts))
            }
        };
        let switch = "AMBASSADOR_FORCE_SECRET_VALIDATION";
        if let Some(object) = self.object(name) {
            let field = key.map(|key| field_of(object, key)).unwrap_or_default();
            let message = match text.rsplit_once("; ").filter(|_| !text.contains(" errors:")) {
                Some((what, fix)) => format!("{what}, so {switch} keeps it from everybody; {fix}"),
                None => format!("{text}; {switch} keeps it from everybody until it is mended"),
            };
            problems.error(object, reason, &field, message);
        }
        let message = format!("names {name}, which {switch} withholds: {text}");
        self.contents
            .insert(name.clone(), Err(Unusable::new(reason, message)));
    }

    /// Everything that is wrong; what is only doubtful is told at once.
    fn flaws(&mut self, name: &SecretName, contents: &Contents, problems: &mut Problems) -> Vec<Flaw> {
        let pair = first(contents, CHAIN_KEYS).zip(first(contents, PRIVATE_KEYS));
        let identity = pair.map(|((_, chain), (_, key))| self.known.identity(chain, key, self.now));
        // Then there is nothing more to be found out about the key.
        let is_sound = matches!(identity, Some(Ok(_)));
        let mut flaws = Vec::new();
        for &key in CHAIN_KEYS.iter().chain(CA_KEYS) {
            let pem = contents.get(key);
            flaws.extend(pem.and_then(|pem| self.certificate_flaw(name, key, pem, problems)));
        }
        for &key in PRIVATE_KEYS {
            let is_known = is_sound && pair.is_some_and(|(_, (known, _))| known == key);
            let pem = contents.get(key).filter(|_| !is_known);
            flaws.extend(pem.and_then(|pem| private_key_flaw(key, pem)));
        }
        if let Some(Err(error)) = contents.get("crl.pem").map(|pem| check_revocation_lists(pem)) {
            flaws.push(Flaw::of("crl.pem", &error, "cannot be used"));
        }
        // Each by itself is right, but they do not belong together.
        if let (true, Some(((key, _), _)), Some(Err(error))) = (flaws.is_empty(), pair, identity) {
            flaws.push(Flaw::of(key, &error, "cannot be used"));
        }
        flaws
    }

    fn certificate_flaw(
        &mut self,
        name: &SecretName,
        key: &'static str,
        pem: &[u8],
        problems: &mut Problems,
    ) -> Option<Flaw> {
        if let Err(error) = some_certificates(pem) {
            let what = if holds_pem(pem) {
                "cannot be parsed as x.509"
            } else {
                "is not a PEM-encoded certificate"
            };
            return Some(Flaw::of(key, &error, what));
        }
        if let Ok((_, read)) = self.known.bundle(pem, self.now) {
            let mut findings = read.findings.clone();
            findings.retain(|finding| {
                finding.severity == Severity::Warning || finding.reason == "certificate_expired"
            });
            self.report(name, key, findings, problems);
        }
        None
    }
}

fn private_key_flaw(key: &'static str, pem: &[u8]) -> Option<Flaw> {
    let error = check_private_key(pem).err()?;
    let what = match error.reason {
        _ if !holds_pem(pem) => "is not a PEM-encoded key",
        "unsupported_key" => "cannot be used",
        _ => "cannot be parsed as PKCS1, PKCS8, or EC",
    };
    Some(Flaw::of(key, &error, what))
}

/// One text of several, in the reference's shape (D7.4).
fn joined(texts: &[String]) -> String {
    match texts {
        [only] => only.clone(),
        several => {
            let numbered = several.iter().enumerate();
            let numbered = numbered.map(|(index, text)| format!(";  {}. {text}", index + 1));
            format!("{} errors:{}", several.len(), numbered.collect::<String>())
        }
    }
}
