//! Which files a path stands for.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use nuncio_model::{Problem, Severity};

use crate::fingerprint::Fingerprint;
use crate::kustomize::Kustomization;
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
    let mut folders = Vec::new();
    for item in fs::read_dir(path)? {
        let item = item?;
        let name = item.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let kind = item.file_type()?;
        let is_folder = kind.is_dir() || (kind.is_symlink() && item.path().is_dir());
        if is_folder {
            folders.extend(Some(item.path()).filter(|path| holds_manifests(path)));
        } else if is_manifest(Path::new(&name)) {
            let real = (!kind.is_symlink()).then(|| real.join(&name));
            entries.push(entry(item.path(), real, now));
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    folders.sort();
    let kustomization = Kustomization::of(path);
    if let Some(kustomization) = &kustomization {
        let (out, rest): (Vec<Entry>, _) = entries
            .into_iter()
            .partition(|entry| kustomization.leaves_out(&entry.path));
        entries = rest;
        folders.retain(|folder| !kustomization.names(folder));
        let out: Vec<PathBuf> = out.into_iter().map(|entry| entry.path).collect();
        listing.problems.push(kustomization.notice(&out));
    }
    if entries.is_empty() && kustomization.is_none() {
        listing.problems.push(no_manifests(path, &folders));
    } else {
        listing
            .problems
            .extend(folders.iter().map(|folder| not_read(folder)));
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

fn holds_manifests(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|items| {
        items
            .filter_map(Result::ok)
            .any(|item| is_manifest(Path::new(&item.file_name())))
    })
}

/// About a folder in a folder, where it looks as if it was meant to be read.
fn not_read(path: &Path) -> Problem {
    let end = "lies in a folder that was named and is not read itself; name it too";
    of(path, Severity::Notice, "folder_not_read", end)
}

/// About a folder without manifests; `folders` are those in it that hold some.
fn no_manifests(path: &Path, folders: &[PathBuf]) -> Problem {
    let end = match folders {
        [] => "holds no .yaml, .yml or .json file; put manifests there".to_owned(),
        [folder] => format!(
            "holds no .yaml, .yml or .json file itself, and folders in it are not read; name {}",
            folder.display()
        ),
        [first, ..] => format!(
            "holds no .yaml, .yml or .json file itself, and the {} folders in it that do are not read; name each of \
             them, such as {}",
            folders.len(),
            first.display()
        ),
    };
    of(path, Severity::Warning, "no_manifests", &end)
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
    fn a_folder_of_folders_says_which_to_name() {
        let folder = tempfile::tempdir().unwrap();
        let hidden = folder.path().join(".github");
        fs::create_dir_all(hidden.join("workflows")).unwrap();
        fs::write(hidden.join("workflows/a.yaml"), "").unwrap();
        let listing = &list(std::slice::from_ref(&hidden), SystemTime::now())[0];
        assert_eq!(reasons(listing), ["no_manifests"]);
        assert!(listing.problems[0].message.ends_with(".github/workflows"));
        fs::write(hidden.join("b.yaml"), "").unwrap();
        let listing = &list(std::slice::from_ref(&hidden), SystemTime::now())[0];
        assert_eq!(
            names(listing),
            ["b.yaml"],
            "a hidden folder that is named is read"
        );
        assert_eq!(reasons(listing), ["folder_not_read"]);
    }

    #[test]
    fn patches_of_a_kustomization_are_left_out_with_one_notice() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [
            "m.yaml",
            "one.yaml",
            "two.yaml",
            "three.yaml",
            "four.yaml",
            "five.yaml",
        ] {
            fs::write(at(name), "").unwrap();
        }
        fs::create_dir(at("base")).unwrap();
        fs::write(at("base/n.yaml"), "").unwrap();
        let kustomization = "resources: [m.yaml, base/]\npatches:\n- path: one.yaml\n- patch: '[]'\n\
                             patchesStrategicMerge: [./two.yaml, three.yaml]\n\
                             patchesJson6902: [{path: four.yaml}]\ncomponents: [../c]\n";
        fs::write(at("kustomization.yaml"), kustomization).unwrap();
        let listing = &list(&[folder.path().to_owned()], SystemTime::now())[0];
        assert_eq!(names(listing), ["five.yaml", "m.yaml"]);
        let [problem] = listing.problems.as_slice() else {
            panic!("{:?}", listing.problems)
        };
        let says = "leaves out four.yaml, one.yaml, three.yaml and 1 more, which only change other objects";
        assert!(problem.message.contains(says), "{}", problem.message);
        assert!(
            problem.message.contains("kubectl kustomize"),
            "{}",
            problem.message
        );
        // One that cannot be read is told as a file.
        fs::write(at("kustomization.yaml"), "a: [\n").unwrap();
        let listing = &list(&[folder.path().to_owned()], SystemTime::now())[0];
        assert_eq!(names(listing).len(), 7);
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
                .ends_with("does not exist; correct the path, or put the file there")
        );
        assert_eq!(reasons(&listings[1]), ["no_manifests"]);
    }
}
