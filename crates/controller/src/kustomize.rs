//! Folders that kustomize puts together: their patches are parts of objects, and no objects of their own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nuncio_compile::yaml;
use nuncio_model::{Problem, Severity};
use serde_json::Value;

use crate::manifest::{MANIFEST_LIMIT, file_problem, read_bounded};

/// Names that kustomize looks for.
const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Lists whose entries name files that are no objects to serve, as text or under `path`.
const LEFT_OUT: [&str; 7] = [
    "patches",
    "patchesStrategicMerge",
    "patchesJson6902",
    "replacements",
    "configurations",
    "generators",
    "transformers",
];

/// Lists that name what a folder is put together from.
const PARTS: [&str; 4] = ["resources", "components", "bases", "crds"];

/// Files that a notice names.
const NAMED: usize = 3;

/// What a Kustomization says about its own folder.
#[derive(Debug)]
pub(crate) struct Kustomization {
    path: PathBuf,
    left_out: BTreeSet<String>,
    parts: BTreeSet<String>,
}

impl Kustomization {
    /// That of a folder; none where there is none, or where it cannot be read, which is told of it as of any file.
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        let path = NAMES
            .iter()
            .map(|name| folder.join(name))
            .find(|path| path.is_file())?;
        let text = String::from_utf8(read_bounded(&path, MANIFEST_LIMIT).ok()?).ok()?;
        let pieces = yaml::pieces(&text);
        let [piece] = pieces.as_slice() else { return None };
        let (documents, None) = yaml::parse(*piece) else {
            return None;
        };
        let [document] = <[_; 1]>::try_from(documents).ok()?;
        let document = document.into_value().ok().filter(Value::is_object)?;
        let parts = names(&document, &PARTS);
        let left_out = names(&document, &LEFT_OUT);
        Some(Self {
            path,
            left_out: left_out.difference(&parts).cloned().collect(),
            parts,
        })
    }

    /// Whether a file of the folder is the Kustomization itself, or only changes what others say.
    pub(crate) fn leaves_out(&self, path: &Path) -> bool {
        path == self.path || file_name(path).is_some_and(|name| self.left_out.contains(name))
    }

    /// Whether a folder in the folder is a part of what it puts together.
    pub(crate) fn names(&self, path: &Path) -> bool {
        file_name(path).is_some_and(|name| self.parts.contains(name))
    }

    /// What to say of the folder, whose files without objects are these.
    pub(crate) fn notice(&self, left_out: &[PathBuf]) -> Problem {
        let names: Vec<&str> = left_out
            .iter()
            .filter(|path| **path != self.path)
            .filter_map(|path| file_name(path))
            .collect();
        let follows = match names.as_slice() {
            [] => String::new(),
            [one] => format!(", and leaves out {one}, which only changes other objects"),
            several => {
                let more = several.len().saturating_sub(NAMED);
                let named = several[..several.len() - more].join(", ");
                let more = match more {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!(", and leaves out {named}{more}, which only change other objects")
            }
        };
        let name: Arc<str> = self.path.to_string_lossy().into();
        let folder = self.path.parent().unwrap_or(&self.path).display();
        let message = format!(
            "nuncio does not read this Kustomization{follows}; check what it makes with `kubectl kustomize {folder} | \
             nuncio check -`"
        );
        file_problem(Severity::Notice, "kustomization", &name, message)
    }
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// The names in the folder itself that these lists hold.
fn names(document: &Value, lists: &[&str]) -> BTreeSet<String> {
    let entries = lists
        .iter()
        .filter_map(|list| document.get(list)?.as_array())
        .flatten();
    entries
        .filter_map(|entry| entry.as_str().or_else(|| entry.get("path")?.as_str()))
        .map(|name| name.trim_start_matches("./").trim_end_matches('/'))
        .filter(|name| !name.contains(['/', '\n']))
        .map(str::to_owned)
        .collect()
}
