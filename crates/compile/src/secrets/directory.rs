//! The Secret that Istio writes as files into a folder (D.6).
//!
//! The reference takes the files for a pair when both were written within five seconds of each other. Times
//! prove nothing: a pair may be written slowly, and half of an update is new as well. Here key and certificate
//! are a pair when they belong together, which is what every Secret is asked; until they do, the last good
//! pair serves on (decision 1).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nuncio_model::{Place, Severity};

use super::contents::Contents;
use super::{Materials, SecretName, Unusable};
use crate::Object;
use crate::problems::Problems;

/// What the Secret is called.
const SECRET: &str = "istio-certs";

const CHAIN: &str = "cert-chain.pem";
const KEY: &str = "key.pem";
/// The CA: only where `ca_secret` names the Secret, because the reference never uses it.
pub(super) const ROOT: &str = "root-cert.pem";

type Files = BTreeMap<PathBuf, Result<Vec<u8>, String>>;

/// The files of the folder that count.
pub(crate) fn files(path: &Path) -> impl Iterator<Item = PathBuf> {
    [CHAIN, KEY, ROOT].into_iter().map(|name| path.join(name))
}

/// The folder.
pub(super) struct Directory {
    /// The Secret that it stands for.
    pub(super) name: SecretName,
    path: PathBuf,
    /// The Secret as an object, for problems to point to, and certificate and key; or why it is not there.
    pair: Result<(Box<Object>, Contents), String>,
    root: Result<Vec<u8>, String>,
}

impl Directory {
    /// What stands in the folder at `path`, for the gateway's own namespace.
    pub(super) fn read(path: &Path, namespace: &str, files: &Files) -> Self {
        let name = SecretName {
            namespace: namespace.to_owned(),
            name: SECRET.to_owned(),
        };
        let pair = content(path, CHAIN, files).and_then(|chain| {
            let key = content(path, KEY, files)?;
            let contents = [(CHAIN.to_owned(), chain), (KEY.to_owned(), key)];
            Ok((object(&name, path)?, Contents::from(contents)))
        });
        Self {
            pair,
            root: content(path, ROOT, files),
            path: path.to_owned(),
            name,
        }
    }

    /// The object of the Secret, if it is this one.
    pub(super) fn object_of(&self, name: &SecretName) -> Option<&Object> {
        let (object, _) = self.pair.as_ref().ok()?;
        (self.name == *name).then_some(&**object)
    }

    /// Why there is no Secret, as a sentence that begins with the file.
    pub(super) fn why_absent(&self) -> Option<&str> {
        self.pair.as_ref().err().map(String::as_str)
    }
}

/// What a file holds; the error begins with its name.
fn content(path: &Path, name: &str, files: &Files) -> Result<Vec<u8>, String> {
    let path = path.join(name);
    let why = match files.get(&path) {
        Some(Ok(content)) if content.trim_ascii().is_empty() => "is empty; write it",
        Some(Ok(content)) => return Ok(content.clone()),
        Some(Err(why)) => why,
        None => "was not read",
    };
    Err(format!("file `{}` {why}", path.display()))
}

fn object(name: &SecretName, path: &Path) -> Result<Box<Object>, String> {
    let document = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": name.name, "namespace": name.namespace },
        "type": "kubernetes.io/tls",
    });
    let place = Place {
        file: path.to_string_lossy().into(),
        line: 1,
        column: 1,
    };
    Object::from_document(document, Some(place))
        .map(Box::new)
        .map_err(|problem| problem.message)
}

impl Materials<'_> {
    /// Puts the Secret of the folder in its place, before one of the same name in the manifests (D23).
    pub(super) fn place_directory(&mut self, problems: &mut Problems) {
        let Some(directory) = &self.directory else { return };
        let folder = directory.path.display();
        match &directory.pair {
            Ok((_, contents)) => {
                let name = &directory.name;
                if let Some(object) = self.secrets.get(&(name.namespace.as_str(), name.name.as_str())) {
                    let message = format!(
                        "{name} has no effect, because the files in `{folder}` (AMBASSADOR_ISTIO_SECRET_DIR) are the \
                         Secret of that name; remove one of the two"
                    );
                    problems.notice(object, "replaced", "metadata.name", message);
                }
                self.contents.insert(name.clone(), Ok(contents.clone().into()));
            }
            Err(why) => {
                let message = format!(
                    "AMBASSADOR_ISTIO_SECRET_DIR is `{folder}`, but there is no Secret `{SECRET}` from it: {why}"
                );
                problems.general(Severity::Warning, "no_istio_secret", message);
            }
        }
    }

    /// Whether the files of the folder are this Secret.
    pub(super) fn is_directory(&self, name: &SecretName) -> bool {
        let directory = self.directory.as_ref();
        directory.is_some_and(|directory| directory.object_of(name).is_some())
    }

    /// The CA beside certificate and key.
    pub(super) fn directory_root(&self, name: &SecretName) -> Result<Vec<u8>, Unusable> {
        let root = self.directory.as_ref().map(|directory| directory.root.clone());
        let root = root.unwrap_or_else(|| Err("there is no folder".to_owned()));
        root.map_err(|why| {
            Unusable::new(
                "incomplete_secret",
                format!("names {name}, which holds no CA certificate: {why}"),
            )
        })
    }
}
