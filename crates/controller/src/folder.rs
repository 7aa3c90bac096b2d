//! Which files a path stands for.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use nuncio_model::{Problem, Severity};

use crate::fingerprint::Fingerprint;
use crate::manifest::{because, file_problem};

/// Manifests that are read in all.
const FILES: usize = 100_000;

/// A manifest that stands somewhere.
#[derive(Debug)]
pub(crate) struct Entry {
    /// As its user would write it: the path that was given, and the name in it.
    pub(crate) path: PathBuf,
    /// The same without symbolic links; what a watch reports.
    pub(crate) real: PathBuf,
    /// None when the file cannot be looked at.
    pub(crate) fingerprint: Option<Fingerprint>,
}

/// What stands at a path that was given.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Ordered by name. None when the path cannot be looked at: then nothing is known about it, and
    /// what it held stays.
    pub(crate) entries: Option<Vec<Entry>>,
    /// Of the path as a whole.
    pub(crate) problems: Vec<Problem>,
}

/// Lists each path. A file counts once, however often it is named.
pub(crate) fn list(paths: &[PathBuf], now: SystemTime) -> Vec<Listing> {
    let mut seen = HashSet::new();
    let mut left = FILES;
    paths
        .iter()
        .map(|path| {
            let mut listing = at(path, now);
            if let Some(entries) = &mut listing.entries {
                entries.retain(|entry| seen.insert(entry.real.clone()));
                if entries.len() > left {
                    listing.problems.push(of(
                        path,
                        Severity::Error,
                        "too_many_files",
                        &format!(
                            "brings the number of manifests over {FILES}, the rest is not read; join files"
                        ),
                    ));
                    entries.truncate(left);
                }
                left -= entries.len();
            }
            listing
        })
        .collect()
}

fn at(path: &Path, now: SystemTime) -> Listing {
    match fs::metadata(path) {
        Err(error) => unknown(path, &error),
        Ok(metadata) if metadata.is_dir() => folder(path, now).unwrap_or_else(|error| unknown(path, &error)),
        Ok(_) => Listing {
            entries: Some(vec![entry(path.to_owned(), None, now)]),
            problems: Vec::new(),
        },
    }
}

/// Of a folder that held objects and holds none any more.
pub(crate) fn emptied(path: &Path) -> Problem {
    let end =
        "holds no object any more, what it held still serves; put manifests there, or restart without them";
    of(path, Severity::Error, "emptied_folder", end)
}

fn unknown(path: &Path, error: &io::Error) -> Listing {
    Listing {
        entries: None,
        problems: vec![of(path, Severity::Error, "unreadable_path", &because(error))],
    }
}

fn of(path: &Path, severity: Severity, reason: &'static str, end: &str) -> Problem {
    let name: Arc<str> = path.to_string_lossy().into();
    file_problem(severity, reason, &name, format!("path {name} {end}"))
}

/// The manifests of one folder, as `kubectl -f` takes them: one level, names that end in `.yaml`,
/// `.yml` or `.json`. Hidden names are left out, and with them the `..data` of mounted ConfigMaps.
fn folder(path: &Path, now: SystemTime) -> io::Result<Listing> {
    let real = fs::canonicalize(path)?;
    let mut listing = Listing::default();
    let mut entries = Vec::new();
    for item in fs::read_dir(path)? {
        let item = item?;
        let name = item.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let kind = item.file_type()?;
        let is_folder = kind.is_dir() || (kind.is_symlink() && item.path().is_dir());
        if is_folder {
            listing.problems.extend(not_read(&item.path()));
        } else if is_manifest(Path::new(&name)) {
            let real = (!kind.is_symlink()).then(|| real.join(&name));
            entries.push(entry(item.path(), real, now));
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    listing.problems.sort_by(|a, b| a.message.cmp(&b.message));
    if entries.is_empty() {
        let end = "holds no .yaml, .yml or .json file; put manifests there";
        listing
            .problems
            .push(of(path, Severity::Warning, "no_manifests", end));
    }
    listing.entries = Some(entries);
    Ok(listing)
}

fn entry(path: PathBuf, real: Option<PathBuf>, now: SystemTime) -> Entry {
    let real = real
        .or_else(|| fs::canonicalize(&path).ok())
        .unwrap_or_else(|| path.clone());
    let fingerprint = fs::metadata(&path)
        .ok()
        .map(|metadata| Fingerprint::of(&metadata, now));
    Entry {
        path,
        real,
        fingerprint,
    }
}

fn is_manifest(name: &Path) -> bool {
    name.extension().is_some_and(|end| {
        ["yaml", "yml", "json"]
            .iter()
            .any(|known| end.eq_ignore_ascii_case(known))
    })
}

/// A notice about a folder in a folder, where it looks as if it was meant to be read.
fn not_read(path: &Path) -> Option<Problem> {
    let holds_manifests = fs::read_dir(path)
        .ok()?
        .filter_map(Result::ok)
        .any(|item| is_manifest(Path::new(&item.file_name())));
    let end = "lies in a folder that was named and is not read itself; name it too";
    holds_manifests.then(|| of(path, Severity::Notice, "folder_not_read", end))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(listing: &Listing) -> Vec<String> {
        let entries = listing.entries.as_deref().unwrap_or_default();
        let name = |entry: &Entry| entry.path.file_name().unwrap().to_string_lossy().into_owned();
        entries.iter().map(name).collect()
    }

    fn reasons(listing: &Listing) -> Vec<&str> {
        listing.problems.iter().map(|problem| &*problem.reason).collect()
    }

    #[test]
    fn a_folder_is_read_one_level_deep_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "c.JSON", "d.txt", ".hidden.yaml", "e.yaml~"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("certs")).unwrap();
        fs::create_dir(folder.path().join("more")).unwrap();
        fs::write(folder.path().join("more/f.yaml"), "").unwrap();
        let listing = &list(&[folder.path().to_owned()], SystemTime::now())[0];
        assert_eq!(names(listing), ["a.yml", "b.yaml", "c.JSON"]);
        assert_eq!(reasons(listing), ["folder_not_read"]);
    }

    #[test]
    fn a_mounted_config_map_is_read_through_its_links() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("..2026")).unwrap();
        fs::write(folder.path().join("..2026/a.yaml"), "").unwrap();
        symlink("..2026", folder.path().join("..data")).unwrap();
        symlink("..data/a.yaml", folder.path().join("a.yaml")).unwrap();
        let listing = &list(&[folder.path().to_owned()], SystemTime::now())[0];
        assert_eq!(names(listing), ["a.yaml"]);
        let entry = &listing.entries.as_ref().unwrap()[0];
        assert!(entry.real.ends_with("..2026/a.yaml"));
    }

    #[test]
    fn a_file_named_twice_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        fs::write(&path, "").unwrap();
        let listings = list(&[path.clone(), folder.path().to_owned(), path], SystemTime::now());
        let counts: Vec<_> = listings.iter().map(|listing| names(listing).len()).collect();
        assert_eq!(counts, [1, 0, 0]);
    }

    #[test]
    fn paths_that_lead_nowhere_or_to_nothing_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none");
        let listings = list(&[missing, folder.path().to_owned()], SystemTime::now());
        assert!(listings[0].entries.is_none());
        assert_eq!(reasons(&listings[0]), ["unreadable_path"]);
        assert!(
            listings[0].problems[0]
                .message
                .ends_with("does not exist; mend the path, or put the file there")
        );
        assert_eq!(reasons(&listings[1]), ["no_manifests"]);
    }
}
