//! The objects of all files, kept up to date at little cost.
//!
//! What keeps serving is decided here. A file that cannot be parsed keeps what it held, whole, until
//! it is mended; at the start, where it held nothing yet, the documents that can be read count. A
//! file that was emptied is taken for one that is being written and keeps what it held too. A file
//! that is gone from its folder takes its objects along; a path that was named and is gone does not, nor
//! does a folder that holds no object at all any more, such as a volume that is not mounted.

use std::collections::HashMap;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use nuncio_compile::{Document, Object, Objects, Options};
use nuncio_model::{Problem, Severity};

use crate::fingerprint::Fingerprint;
use crate::folder::{self, Entry, Listing};
use crate::locate::Text;
use crate::manifest::{Manifest, file_problem};
use crate::material::Material;

/// Objects and the texts they came from.
#[derive(Debug, Default)]
pub struct Loaded {
    /// For the compiler.
    pub objects: Objects,
    paths: Vec<PathBuf>,
    /// In the order of `objects.objects`.
    files: Vec<SourceFile>,
    /// Problems of each path as a whole.
    path_problems: Vec<Vec<Problem>>,
    /// Positions of the folders that hold no object any more and keep what they held.
    emptied: Vec<usize>,
    /// The files in `objects.files`.
    material: Material,
}

/// A manifest and what came of it.
#[derive(Debug)]
struct SourceFile {
    /// Position of the path that it was found under.
    root: usize,
    path: PathBuf,
    name: Arc<str>,
    fingerprint: Option<Fingerprint>,
    /// What its objects were read from.
    text: String,
    /// How many of the objects are its own.
    count: usize,
    problems: Vec<Problem>,
}

/// What a refresh changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Anything that a compile reads.
    pub(crate) any: bool,
    /// Nothing but Services and their endpoints.
    pub(crate) only_addresses: bool,
}

/// Whether a file, named without symbolic links, is being written at the moment.
pub(crate) type Busy<'a> = &'a dyn Fn(&Path) -> bool;

impl Loaded {
    /// Nothing yet from these paths and the folders that the options name.
    pub(crate) fn of(paths: &[PathBuf], options: &Options) -> Self {
        Self {
            paths: paths.to_vec(),
            material: Material::of(options),
            ..Self::default()
        }
    }

    /// Reads what changed on disk since the last call.
    pub(crate) fn refresh(&mut self, busy: Busy<'_>) -> Changes {
        let now = SystemTime::now();
        let listings = folder::list(&self.paths, now);
        let mut path_problems: Vec<_> = listings.iter().map(|listing| listing.problems.clone()).collect();
        let files = if self.is_current(&listings, busy) {
            self.emptied.clear();
            Changes::default()
        } else {
            self.read_files(listings, busy)
        };
        for root in &self.emptied {
            if let (Some(problems), Some(path)) = (path_problems.get_mut(*root), self.paths.get(*root)) {
                problems.push(folder::emptied(path));
            }
        }
        let problems_changed = self.path_problems != path_problems;
        self.path_problems = path_problems;
        if files.any || problems_changed {
            self.collect_problems();
        }
        let material_changed = self.material.refresh(&mut self.objects, files.any, now, busy);
        Changes {
            any: files.any || problems_changed || material_changed,
            only_addresses: files.only_addresses && !problems_changed && !material_changed,
        }
    }

    /// Takes a manifest in that stands in no file, so no later refresh finds it.
    pub(crate) fn add(&mut self, (name, manifest): (Arc<str>, Manifest)) {
        self.files.push(SourceFile {
            root: self.paths.len(),
            path: PathBuf::from(&*name),
            name,
            fingerprint: None,
            text: manifest.text,
            count: manifest.objects.len(),
            problems: manifest.problems,
        });
        self.objects.objects.extend(manifest.objects);
        self.collect_problems();
        self.material
            .refresh(&mut self.objects, true, SystemTime::now(), &|_| false);
    }

    /// Warns where there is no object at all, and nothing says why: what should have made some may have failed.
    pub(crate) fn tell_nothing(&mut self) {
        if !self.objects.objects.is_empty() || !self.objects.problems.is_empty() {
            return;
        }
        let names = self.files.iter().map(|file| &*file.name);
        let message = match names.collect::<Vec<_>>().as_slice() {
            [] => return,
            [one] if one.starts_with('<') => {
                "standard input holds no object; pipe manifests into it, such as with `helm template CHART | nuncio \
                 check -`"
                    .to_owned()
            }
            [one] => format!("file {one} holds no object; write manifests to it"),
            several => format!(
                "none of the {} files holds an object; write manifests to them",
                several.len()
            ),
        };
        if let Some(file) = self.files.first() {
            let problem = file_problem(Severity::Warning, "no_manifests", &file.name, message);
            self.objects.problems.push(problem);
        }
    }

    /// Whether the files are those that are known, unchanged.
    fn is_current(&self, listings: &[Listing], busy: Busy<'_>) -> bool {
        let mut files = self.files.iter().peekable();
        for (root, listing) in listings.iter().enumerate() {
            let Some(entries) = &listing.entries else {
                while files.next_if(|file| file.root == root).is_some() {}
                continue;
            };
            for entry in entries {
                if files
                    .next_if(|file| file.is(root, entry) && file.holds(entry, busy))
                    .is_none()
                {
                    return false;
                }
            }
        }
        files.all(|file| file.root == self.paths.len())
    }

    fn read_files(&mut self, listings: Vec<Listing>, busy: Busy<'_>) -> Changes {
        let mut shelf = Shelf::new(mem::take(&mut self.files), mem::take(&mut self.objects.objects));
        self.emptied.clear();
        for (root, listing) in listings.into_iter().enumerate() {
            let Some(entries) = listing.entries else {
                shelf.keep_all(root);
                continue;
            };
            let before = shelf.objects.len();
            entries
                .into_iter()
                .for_each(|entry| shelf.place(root, entry, busy));
            if shelf.objects.len() == before && shelf.has_objects_of(root) {
                shelf.keep_all(root);
                self.emptied.push(root);
            }
        }
        // What stands in no file stays.
        shelf.keep_all(self.paths.len());
        shelf.drop_rest();
        self.files = shelf.files;
        self.objects.objects = shelf.objects;
        shelf.changes
    }

    fn collect_problems(&mut self) {
        let of_paths = self.path_problems.iter().flatten();
        let of_files = self.files.iter().flat_map(|file| &file.problems);
        self.objects.problems = of_paths.chain(of_files).cloned().collect();
    }

    /// Narrows the place of each problem from the start of its document to its field.
    pub fn locate(&self, problems: &mut [Problem]) {
        let mut texts: HashMap<&str, Text<'_>> = HashMap::new();
        let files: HashMap<&str, &str> = self.files.iter().map(|file| (&*file.name, &*file.text)).collect();
        for problem in problems {
            let Some(place) = &problem.place else { continue };
            let Some((name, text)) = files.get_key_value(&*place.file) else {
                continue;
            };
            let text = texts.entry(name).or_insert_with(|| Text::new(text));
            let spot = text.spot(place.line, problem);
            if let (Some(spot), Some(place)) = (spot, &mut problem.place) {
                (place.line, place.column) = (spot.line, spot.column);
            }
        }
    }

    /// The text of a file, by the name that places give it.
    pub fn source(&self, file: &str) -> Option<&str> {
        let found = self.files.iter().find(|known| &*known.name == file)?;
        (!found.text.is_empty()).then_some(found.text.as_str())
    }

    /// How many files were read.
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// Every path whose change matters, as it was named.
    pub(crate) fn watched(&self) -> impl Iterator<Item = &Path> {
        let roots = self.paths.iter().map(PathBuf::as_path);
        let files = self.files.iter().filter(|file| file.root < self.paths.len());
        let files = files.map(|file| file.path.as_path());
        roots.chain(files).chain(self.material.paths())
    }
}

impl SourceFile {
    fn is(&self, root: usize, entry: &Entry) -> bool {
        self.root == root && self.path == entry.path
    }

    /// Whether what was read is still what stands there, as far as one may look.
    fn holds(&self, entry: &Entry, busy: Busy<'_>) -> bool {
        let same = |(known, now): (Fingerprint, Fingerprint)| known.still_holds(&now);
        self.fingerprint.zip(entry.fingerprint).is_some_and(same) || busy(&entry.real)
    }
}

/// Files and objects on their way from the old order to the new.
struct Shelf {
    old: HashMap<(usize, PathBuf), (SourceFile, Vec<Object>)>,
    files: Vec<SourceFile>,
    objects: Vec<Object>,
    changes: Changes,
}

impl Shelf {
    fn new(files: Vec<SourceFile>, objects: Vec<Object>) -> Self {
        let mut objects = objects.into_iter();
        let mut take = |file: SourceFile| {
            let own: Vec<Object> = objects.by_ref().take(file.count).collect();
            ((file.root, file.path.clone()), (file, own))
        };
        let old = files.into_iter().map(&mut take).collect();
        Self {
            old,
            files: Vec::new(),
            objects: Vec::new(),
            changes: Changes {
                any: false,
                only_addresses: true,
            },
        }
    }

    /// A path that cannot be looked at, or holds nothing any more, keeps what it held.
    fn keep_all(&mut self, root: usize) {
        let mut kept: Vec<_> = self.old.extract_if(|(known, _), _| *known == root).collect();
        kept.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (_, (file, objects)) in kept {
            self.put(file, objects);
        }
    }

    /// Whether there were objects in files of this path that have not been found again.
    fn has_objects_of(&self, root: usize) -> bool {
        let mut left = self.old.iter();
        left.any(|((known, _), (_, objects))| *known == root && !objects.is_empty())
    }

    /// Takes a file over as it was, or reads it.
    fn place(&mut self, root: usize, entry: Entry, busy: Busy<'_>) {
        match self.old.remove(&(root, entry.path.clone())) {
            Some((file, objects)) if file.holds(&entry, busy) => self.put(file, objects),
            Some((file, objects)) => self.read_again(file, objects, &entry),
            // It is read when its writer is done with it.
            None if busy(&entry.real) => {}
            None => self.read_first(root, entry),
        }
    }

    fn read_first(&mut self, root: usize, entry: Entry) {
        let name: Arc<str> = entry.path.to_string_lossy().into();
        let manifest = Manifest::read(&entry.path, &name);
        self.note(&[], &manifest.objects);
        self.changes.only_addresses &= manifest.problems.is_empty();
        let file = SourceFile {
            root,
            path: entry.path,
            name,
            fingerprint: entry.fingerprint,
            text: manifest.text,
            count: 0,
            problems: manifest.problems,
        };
        self.put(file, manifest.objects);
    }

    fn read_again(&mut self, mut file: SourceFile, objects: Vec<Object>, entry: &Entry) {
        file.fingerprint = entry.fingerprint;
        if file.problems.is_empty() && Manifest::is_still(&file.path, &file.text) {
            self.put(file, objects);
            return;
        }
        let mut manifest = Manifest::read(&file.path, &file.name);
        if !objects.is_empty() && manifest.problems.is_empty() && manifest.text.trim().is_empty() {
            let message = format!(
                "file {} was emptied, what it held still serves; write it, or delete the file",
                file.name
            );
            manifest.problems = vec![file_problem(Severity::Warning, "empty_file", &file.name, message)];
        }
        let broken = manifest
            .problems
            .iter()
            .any(|problem| problem.severity > Severity::Notice);
        if file.problems != manifest.problems {
            self.changes = Changes {
                any: true,
                only_addresses: false,
            };
            file.problems = manifest.problems;
        }
        if broken && !objects.is_empty() {
            self.put(file, objects);
            return;
        }
        if file.text != manifest.text {
            self.note(&objects, &manifest.objects);
            file.text = manifest.text;
        }
        self.put(file, manifest.objects);
    }

    fn drop_rest(&mut self) {
        let rest = mem::take(&mut self.old);
        for (file, objects) in rest.into_values() {
            self.note(&objects, &[]);
            self.changes.only_addresses &= file.problems.is_empty();
        }
    }

    /// Remembers that one file's objects became others.
    fn note(&mut self, before: &[Object], after: &[Object]) {
        self.changes.any = true;
        self.changes.only_addresses &= routing(before).eq(routing(after));
    }

    fn put(&mut self, mut file: SourceFile, mut objects: Vec<Object>) {
        file.count = objects.len();
        self.files.push(file);
        self.objects.append(&mut objects);
    }
}

/// What all objects say but those that are about addresses alone.
fn routing(objects: &[Object]) -> impl Iterator<Item = &Document> {
    objects
        .iter()
        .filter(|object| !matches!(object.kind.as_str(), "Service" | "Endpoints" | "EndpointSlice"))
        .map(|object| &object.document)
}

#[cfg(test)]
mod tests;
