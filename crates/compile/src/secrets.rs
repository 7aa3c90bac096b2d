//! Certificates and keys from Secrets and files, each read once however many contexts use it.

mod authority;
mod contents;
mod directory;
mod identity;
mod inspection;
mod known;
mod makers;
mod revocations;
mod shown;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use nuncio_model::{ClientIdentity, CrlSet, Digest, LoadedCertificate, Problem, Severity, TrustBundle};
use nuncio_tls::{Finding, MaterialError};

use crate::expiry::Shared;
use crate::inventory::{Expanded, by_name};
use crate::problems::Problems;
use crate::tellable::tellable;
use crate::{LastGood, Object, Objects, Options};

use contents::Contents;
use directory::Directory;
use makers::{Makers, is_of_sops, makers};

pub(crate) use directory::files as directory_files;
pub(crate) use identity::by_purpose;
pub(crate) use known::{Known, Text};

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
        let (name, namespace) = (tellable(&self.name), tellable(&self.namespace));
        write!(f, "Secret `{name}` in namespace `{namespace}`")
    }
}

/// Material that can be used, and the certificates in it.
#[derive(Debug)]
pub(crate) struct Loaded<T> {
    /// What it was read from.
    pub(crate) text: Text,
    pub(crate) value: Arc<T>,
    pub(crate) certificates: Arc<[LoadedCertificate]>,
}

impl<T> Clone for Loaded<T> {
    fn clone(&self) -> Self {
        Self {
            text: self.text,
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
    /// A warning where something in the manifests sees to it that it will be usable.
    pub(crate) severity: Severity,
}

impl Unusable {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            severity: Severity::Error,
        }
    }

    fn expected(reason: &'static str, message: String) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::new(reason, message)
        }
    }

    /// The whole sentence about a field, with what follows from it before what to do.
    pub(crate) fn message_for(&self, field: &str, follows: &str) -> String {
        match self.message.rsplit_once("; ") {
            Some((what, fix)) => format!("`{field}` {what}, {follows}; {fix}"),
            None => format!("`{field}` {}, {follows}", self.message),
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
    expanded: &'a [Expanded<'a>],
    /// Looked for when the first Secret is missing.
    makers: OnceCell<Makers>,
    directory: Option<Directory>,
    /// Namespaces whose Secrets must not be read.
    forbidden: &'a BTreeSet<String>,
    /// The only namespace whose Secrets count, and the variable that says so.
    only: Option<(String, &'static str)>,
    files: &'a BTreeMap<PathBuf, Result<Vec<u8>, String>>,
    now: SystemTime,
    known: Known,
    contents: HashMap<SecretName, Result<Arc<Contents>, Unusable>>,
    clients: HashMap<SecretName, Outcome<ClientIdentity>>,
    servers: HashMap<SecretName, Result<Shared, Unusable>>,
    authorities: HashMap<SecretName, Outcome<TrustBundle>>,
    roots: HashMap<SecretName, Option<Outcome<TrustBundle>>>,
    crls: HashMap<CrlKey, Result<Revocations, Unusable>>,
    /// What has been told of a Secret: it may be read for several purposes.
    told: HashSet<(SecretName, String)>,
    /// Secrets of which something was told: only who asks first hears it.
    noisy: HashSet<SecretName>,
    /// Every Secret is looked through.
    inspects: bool,
    /// See [`Self::unfit`].
    unfit: HashMap<SecretName, Vec<Problem>>,
}

impl<'a> Materials<'a> {
    /// With `force_secret_validation` every Secret is looked through at once.
    pub(crate) fn new(
        secrets: &[&'a Object],
        expanded: &'a [Expanded<'a>],
        objects: &'a Objects,
        options: &Options,
        last_good: &LastGood,
        problems: &mut Problems,
    ) -> Self {
        let directory = options
            .istio_directory
            .as_deref()
            .map(|path| Directory::read(path, &options.namespace, &objects.files));
        let mut materials = Self {
            secrets: by_name(secrets),
            expanded,
            makers: OnceCell::new(),
            directory,
            forbidden: &objects.forbidden_secrets,
            only: only_namespace(options),
            files: &objects.files,
            now: options.now,
            known: last_good.known.clone(),
            contents: HashMap::new(),
            clients: HashMap::new(),
            servers: HashMap::new(),
            authorities: HashMap::new(),
            roots: HashMap::new(),
            crls: HashMap::new(),
            told: HashSet::new(),
            noisy: HashSet::new(),
            inspects: options.force_secret_validation,
            unfit: HashMap::new(),
        };
        materials.place_directory(problems);
        if options.force_secret_validation {
            materials.inspect_all(secrets, problems);
        }
        materials
    }

    /// The object of a Secret as it is now.
    pub(crate) fn secret(&self, name: &SecretName) -> Option<&'a Object> {
        let key = (name.namespace.as_str(), name.name.as_str());
        self.secrets.get(&key).copied()
    }

    /// Whether what was made of a text in the last compile would come out the same; it is in use then.
    pub(crate) fn keep(&mut self, text: Text) -> bool {
        self.known.keep(text, self.now)
    }

    /// Whether nothing was told of a Secret.
    pub(crate) fn is_silent(&self, name: &SecretName) -> bool {
        !self.noisy.contains(name)
    }

    /// Something was told of a Secret if there are more problems than before.
    fn note_noise(&mut self, name: &SecretName, before: usize, problems: &Problems) {
        if problems.count() > before {
            self.noisy.insert(name.clone());
        }
    }

    /// Whether Secrets are what their objects say: not where each is looked through whoever uses it, and not where
    /// one is a directory.
    pub(crate) fn are_plain(&self) -> bool {
        self.directory.is_none() && !self.inspects
    }

    /// What was read, for the next compile.
    pub(crate) fn into_known(self) -> Known {
        self.known.next()
    }

    /// The decoded values of a Secret.
    fn contents(&mut self, name: &SecretName, problems: &mut Problems) -> Result<Arc<Contents>, Unusable> {
        if let Some(contents) = self.contents.get(name) {
            return contents.clone();
        }
        let before = problems.count();
        let contents = match self.secrets.get(&(name.namespace.as_str(), name.name.as_str())) {
            Some(object) if is_of_sops(object) => Err(Unusable::expected(
                "encrypted_secret",
                format!(
                    "names {name}, whose values sops has encrypted; once it is decrypted, this works without an edit"
                ),
            )),
            Some(object) => contents::read(object, problems)
                .map(Arc::new)
                .map_err(|why| Unusable::new("bad_secret", format!("names {name}, {why}"))),
            None => Err(self.missing_secret(name)),
        };
        self.note_noise(name, before, problems);
        self.contents.insert(name.clone(), contents.clone());
        contents
    }

    fn missing_secret(&self, name: &SecretName) -> Unusable {
        if let Some((only, variable)) = self.only.as_ref().filter(|(only, _)| *only != name.namespace) {
            let message = format!(
                "names {name}, but with {variable} Secrets of `{only}` alone are read; put a copy there, or unset \
                 the variable"
            );
            return Unusable::new("missing_secret", message);
        }
        if self.forbidden.contains(&name.namespace) {
            let namespace = tellable(&name.namespace);
            let message = format!(
                "names {name}, whose Secrets nuncio may not read; grant it with `kubectl create role nuncio-secrets -n \
                 {namespace} --verb=get,list,watch --resource=secrets` and a role binding to its service account"
            );
            return Unusable::new("forbidden_secret", message);
        }
        let absent = self
            .directory
            .as_ref()
            .filter(|directory| directory.name == *name)
            .and_then(Directory::why_absent);
        if absent.is_none()
            && let Some(maker) = self.maker(name)
        {
            return Unusable::expected(
                "missing_secret",
                format!("names {name}, which {maker} makes; once it is there, this works without an edit"),
            );
        }
        let fix = match absent {
            Some(why) => format!(", because {why}"),
            None => match name.name.split_once('/') {
                Some(("", _)) => {
                    "; name a Secret, or name files in the fields for files, such as `cacert_chain_file`"
                        .to_owned()
                }
                Some((namespace, name)) => format!(
                    "; write `{}.{}` for a Secret of another namespace",
                    tellable(name),
                    tellable(namespace)
                ),
                None => "; create it or correct the name".to_owned(),
            },
        };
        Unusable::new(
            "missing_secret",
            format!("names {name}, which does not exist{fix}"),
        )
    }

    /// What makes a Secret that is not there.
    fn maker(&self, name: &SecretName) -> Option<&str> {
        let makers = self.makers.get_or_init(|| makers(self.expanded));
        makers.get(name).map(String::as_str)
    }

    fn file(&self, path: &str) -> Result<&'a [u8], Unusable> {
        let found = self.files.get(Path::new(path));
        let path = tellable(path);
        match found {
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

    /// The object that problems with a Secret are about.
    fn object(&self, name: &SecretName) -> Option<&Object> {
        let of_directory = self.directory.as_ref().and_then(|it| it.object_of(name));
        let key = (name.namespace.as_str(), name.name.as_str());
        of_directory.or_else(|| self.secrets.get(&key).copied())
    }

    fn report(&mut self, name: &SecretName, key: &str, mut findings: Vec<Finding>, problems: &mut Problems) {
        let told = &mut self.told;
        findings.retain(|finding| told.insert((name.clone(), finding.message.clone())));
        if let Some(object) = self.object(name) {
            problems.findings(object, &contents::field_of(object, key), findings);
        }
    }
}

/// Where Secrets of one namespace alone count.
fn only_namespace(options: &Options) -> Option<(String, &'static str)> {
    let variable = if options.single_namespace {
        "AMBASSADOR_SINGLE_NAMESPACE"
    } else if options.certs_single_namespace {
        "AMBASSADOR_CERTS_SINGLE_NAMESPACE"
    } else {
        return None;
    };
    Some((options.namespace.clone(), variable))
}

/// Keys that a message names.
const NAMED_KEYS: usize = 4;

impl Materials<'_> {
    /// A Secret without what is needed; what it holds under other keys may be it.
    fn missing(&self, name: &SecretName, what: &str, key: &str) -> Unusable {
        let document = self.object(name).map(|object| object.document.value());
        let maps = ["data", "stringData"];
        let found = maps
            .iter()
            .filter_map(|map| document.as_ref()?.get(map)?.as_object());
        let keys: Vec<String> = found
            .flat_map(|map| map.keys())
            .filter(|found| *found != key)
            .take(NAMED_KEYS)
            .map(|key| format!("`{}`", tellable(key)))
            .collect();
        let other = match keys.as_slice() {
            [] => String::new(),
            keys => format!(" under a key that counts, but {}", keys.join(", ")),
        };
        Unusable::new(
            "incomplete_secret",
            format!("names {name}, which holds {what}{other}; put one under the key `{key}`"),
        )
    }
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
        format!(
            "names the file `{}`, which cannot be used: {}",
            tellable(path),
            error.message
        ),
    )
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
