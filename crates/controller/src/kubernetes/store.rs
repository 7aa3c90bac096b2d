//! Everything that was heard of a cluster: a pure core, told event by event.
//!
//! Nothing is forgotten because something was not heard: an object leaves when the API server says that
//! it is gone, or when a list that came to its end does not have it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use nuncio_compile::Objects;
use nuncio_model::{ObjectRef, Problem, Severity};

use super::follow::{Heard, Trouble};
use super::found::{Found, Key};
use super::kinds::{KINDS, Kind, SECRET, number_of};

/// What hearing something means for the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// There is something to compile.
    pub(crate) any: bool,
}

/// What is known of one kind.
#[derive(Debug, Default)]
struct Shelf {
    /// It was listed to the end once, or cannot be.
    answered: bool,
    /// Names in the list that is under way.
    listed: Option<HashSet<Key>>,
    trouble: Option<Trouble>,
    unreadable: BTreeMap<Key, Problem>,
}

/// What status is written with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) uid: Arc<str>,
    pub(crate) generation: i64,
}

/// All objects, for compile, and what is known besides them.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) objects: Objects,
    positions: HashMap<(usize, Key), usize>,
    versions: Vec<Version>,
    shelves: Vec<Shelf>,
    /// Secrets that nobody names, by name only.
    unnamed: HashSet<Key>,
    /// Secrets that somebody names.
    named: HashSet<Key>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            objects: Objects::default(),
            positions: HashMap::new(),
            versions: Vec::new(),
            shelves: KINDS.iter().map(|_| Shelf::default()).collect(),
            unnamed: HashSet::new(),
            named: HashSet::new(),
        }
    }
}

impl Store {
    /// Takes in what was heard of a kind.
    pub(crate) fn hear(&mut self, kind: usize, heard: Heard) -> Change {
        let any = match heard {
            Heard::Begin => {
                self.shelves[kind].listed = Some(HashSet::new());
                false
            }
            Heard::Object(found) => self.take(kind, Arc::unwrap_or_clone(found)),
            Heard::Unreadable(key, problem) => self.take_unreadable(kind, key, *problem),
            Heard::Complete => self.complete(kind),
            Heard::Gone(key) => self.remove(kind, &key),
            Heard::Watching => self.shelves[kind].trouble.take().is_some(),
            Heard::Trouble(trouble) => self.have_trouble(kind, trouble),
        };
        if any {
            self.collect_problems();
        }
        Change { any }
    }

    /// Whether every kind has been listed to its end, or cannot be listed; `expected` says which matter.
    pub(crate) fn is_complete(&self, expected: impl Fn(usize) -> bool) -> bool {
        (0..self.shelves.len()).all(|kind| !expected(kind) || self.shelves[kind].answered)
    }

    /// Whether a kind is known not to be in this cluster, or not to be readable.
    pub(crate) fn is_absent(&self, kind: usize) -> bool {
        matches!(
            self.shelves[kind].trouble,
            Some(Trouble::NotInstalled | Trouble::Forbidden(_))
        )
    }

    /// Says which Secrets are named from now on. Those that are not any more are let go; those that are
    /// and whose content was let go are returned, to be read again.
    pub(crate) fn name_secrets(&mut self, named: HashSet<Key>) -> Vec<Key> {
        let secret = number_of(SECRET);
        let dropped: Vec<Key> = self
            .named
            .difference(&named)
            .filter(|key| self.positions.contains_key(&(secret, (*key).clone())))
            .cloned()
            .collect();
        self.named = named;
        for key in dropped {
            self.drop_object(secret, &key);
            self.unnamed.insert(key);
        }
        self.unnamed.intersection(&self.named).cloned().collect()
    }

    /// Uid and generation of an object.
    pub(crate) fn version(&self, object: &ObjectRef) -> Option<&Version> {
        let key = Key {
            namespace: Arc::clone(&object.namespace),
            name: Arc::clone(&object.name),
        };
        let position = self.positions.get(&(number_of(&object.kind), key))?;
        self.versions.get(*position)
    }

    fn take(&mut self, kind: usize, found: Found) -> bool {
        let Found {
            key,
            object,
            uid,
            generation,
        } = found;
        self.note_listed(kind, &key);
        let mended = self.shelves[kind].unreadable.remove(&key).is_some();
        if kind == number_of(SECRET) && !self.named.contains(&key) {
            self.unnamed.insert(key);
            return mended;
        }
        self.unnamed.remove(&key);
        let version = Version { uid, generation };
        if let Some(&position) = self.positions.get(&(kind, key.clone())) {
            self.versions[position] = version;
            let changed = self.objects.objects[position] != object;
            self.objects.objects[position] = object;
            return changed || mended;
        }
        self.positions.insert((kind, key), self.objects.objects.len());
        self.objects.objects.push(object);
        self.versions.push(version);
        true
    }

    /// What it held before goes on; its problem is shown.
    fn take_unreadable(&mut self, kind: usize, key: Key, problem: Problem) -> bool {
        self.note_listed(kind, &key);
        let before = self.shelves[kind].unreadable.insert(key, problem.clone());
        before != Some(problem)
    }

    fn note_listed(&mut self, kind: usize, key: &Key) {
        if let Some(listed) = &mut self.shelves[kind].listed {
            listed.insert(key.clone());
        }
    }

    fn complete(&mut self, kind: usize) -> bool {
        let Some(listed) = self.shelves[kind].listed.take() else {
            return false;
        };
        let gone: Vec<Key> = self
            .positions
            .keys()
            .filter(|(other, key)| *other == kind && !listed.contains(key))
            .map(|(_, key)| key.clone())
            .collect();
        for key in &gone {
            self.drop_object(kind, key);
        }
        if kind == number_of(SECRET) {
            self.unnamed.retain(|key| listed.contains(key));
        }
        let shelf = &mut self.shelves[kind];
        let unreadable = shelf.unreadable.len();
        shelf.unreadable.retain(|key, _| listed.contains(key));
        let mended = shelf.unreadable.len() != unreadable;
        let first = !std::mem::replace(&mut shelf.answered, true);
        let relieved = shelf.trouble.take().is_some();
        first || relieved || mended || !gone.is_empty()
    }

    fn remove(&mut self, kind: usize, key: &Key) -> bool {
        self.unnamed.remove(key);
        let was_unreadable = self.shelves[kind].unreadable.remove(key).is_some();
        self.drop_object(kind, key) || was_unreadable
    }

    fn drop_object(&mut self, kind: usize, key: &Key) -> bool {
        let Some(position) = self.positions.remove(&(kind, key.clone())) else {
            return false;
        };
        self.objects.objects.swap_remove(position);
        self.versions.swap_remove(position);
        if let Some(moved) = self.objects.objects.get(position) {
            let key = Key {
                namespace: Arc::clone(&moved.reference.namespace),
                name: Arc::clone(&moved.reference.name),
            };
            self.positions.insert((number_of(&moved.kind), key), position);
        }
        true
    }

    /// A kind that is not installed or forbidden has answered, and holds nothing that could be relied on
    /// less than before: what it held stays.
    fn have_trouble(&mut self, kind: usize, trouble: Trouble) -> bool {
        let shelf = &mut self.shelves[kind];
        shelf.listed = None;
        let lasting = !matches!(trouble, Trouble::Failed(_));
        let first = lasting && !std::mem::replace(&mut shelf.answered, true);
        let told = shelf.trouble.as_ref() != Some(&trouble) && lasting;
        shelf.trouble = Some(trouble);
        first || told
    }

    fn collect_problems(&mut self) {
        let absent = self.shelves.iter().enumerate().filter_map(|(kind, shelf)| {
            let kind = &KINDS[kind];
            match shelf.trouble.as_ref()? {
                Trouble::NotInstalled if kind.is_expected() => Some(not_installed(kind)),
                Trouble::Forbidden(words) => Some(forbidden(kind, words)),
                Trouble::NotInstalled | Trouble::Failed(_) => None,
            }
        });
        let unreadable = self.shelves.iter().flat_map(|shelf| shelf.unreadable.values());
        self.objects.problems = absent.chain(unreadable.cloned()).collect();
    }

    /// Objects of a kind, for tests.
    #[cfg(test)]
    fn names(&self, kind: &str) -> Vec<String> {
        let objects = self.objects.objects.iter();
        let mut names: Vec<_> = objects
            .filter(|object| object.kind == kind)
            .map(|object| object.reference.name.to_string())
            .collect();
        names.sort();
        names
    }
}

fn not_installed(kind: &Kind) -> Problem {
    let (name, qualified) = (kind.kind, kind.qualified());
    kind_problem(
        Severity::Warning,
        "kind_not_installed",
        format!(
            "the cluster does not know {qualified}, so no {name} is served; install it with `nuncio crds | \
             kubectl apply -f -`"
        ),
    )
}

fn forbidden(kind: &Kind, words: &str) -> Problem {
    let (name, qualified) = (kind.kind, kind.qualified());
    kind_problem(
        Severity::Error,
        "kind_forbidden",
        format!(
            "nuncio may not list and watch {qualified}, so no {name} is read; let its ClusterRole get, list \
             and watch them ({words})"
        ),
    )
}

fn kind_problem(severity: Severity, reason: &'static str, message: String) -> Problem {
    Problem {
        severity,
        reason: reason.into(),
        message,
        object: None,
        field: None,
        place: None,
    }
}

#[cfg(test)]
mod tests;
