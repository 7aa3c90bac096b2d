//! Everything that was heard of a cluster: a pure core, told event by event.
//!
//! Nothing is forgotten because something was not heard: an object leaves when the API server says that
//! it is gone, or when a list that came to its end does not have it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use nuncio_compile::{Object, Objects};
use nuncio_model::{ObjectRef, Problem, Severity};

use super::follow::{Heard, Trouble};
use super::found::{Found, Key};
use super::kinds::{KINDS, Kind, SECRET, SERVICE, number_of};

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
    /// It was listed to the end once.
    listed_once: bool,
    /// Its watch has stood since there was trouble last.
    watched: bool,
    /// Names in the list that is under way.
    listed: Option<HashSet<Key>>,
    trouble: Option<Trouble>,
    unreadable: BTreeMap<Key, Problem>,
}

impl Shelf {
    /// A kind that is not installed or forbidden has answered, and holds nothing that could be relied on
    /// less than before: what it held stays. A guard that is forbidden has not: there may be some.
    fn have_trouble(&mut self, trouble: Trouble, is_guard: bool) -> bool {
        self.listed = None;
        self.watched = false;
        let lasting = trouble.lasts();
        let hides = is_guard && matches!(trouble, Trouble::Forbidden(_));
        let first = lasting && !hides && !std::mem::replace(&mut self.answered, true);
        let told = self.trouble.as_ref() != Some(&trouble) && lasting;
        self.trouble = Some(trouble);
        first || told
    }
}

/// What status is written with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) uid: Arc<str>,
    pub(crate) generation: i64,
    /// The generation that was compiled last; none before the first time.
    pub(crate) compiled: Option<i64>,
    /// Whether it is for this gateway; none until somebody asked.
    pub(crate) ours: Option<bool>,
    /// What its status says that we might write.
    pub(crate) status: Option<Box<str>>,
}

/// All objects, for compile, and what is known besides them.
#[derive(Debug)]
pub(crate) struct Store {
    /// The `AMBASSADOR_ID` of this one.
    gateway: String,
    pub(crate) objects: Objects,
    positions: HashMap<(usize, Key), usize>,
    versions: Vec<Version>,
    shelves: Vec<Shelf>,
    /// Secrets, namespace by namespace, where they must not be read in all of them at once. What cannot
    /// be read is on the shelf of the kind nevertheless.
    namespaces: BTreeMap<Arc<str>, Shelf>,
    /// Secrets that nobody names, by name only.
    unnamed: HashSet<Key>,
    /// Secrets that somebody names.
    named: HashSet<Key>,
    /// Objects that may name Secrets or files have changed.
    names_changed: bool,
}

impl Store {
    /// An empty one, of the gateway with this id.
    pub(crate) fn of(gateway: &str) -> Self {
        Self {
            gateway: gateway.to_owned(),
            objects: Objects::default(),
            positions: HashMap::new(),
            versions: Vec::new(),
            shelves: KINDS.iter().map(|_| Shelf::default()).collect(),
            namespaces: BTreeMap::new(),
            unnamed: HashSet::new(),
            named: HashSet::new(),
            names_changed: true,
        }
    }

    /// Takes in what was heard of a kind.
    pub(crate) fn hear(&mut self, kind: usize, heard: Heard) -> Change {
        let was_blind = self.is_blind();
        let any = self.hear_of(kind, None, heard);
        if was_blind && !self.is_blind() {
            self.doubt();
        }
        if any {
            self.collect_problems();
        }
        Change { any }
    }

    /// `within` is the only namespace that it is about, where that is so.
    fn hear_of(&mut self, kind: usize, within: Option<&Arc<str>>, heard: Heard) -> bool {
        match heard {
            Heard::Begin => {
                self.shelf(kind, within).listed = Some(HashSet::new());
                false
            }
            Heard::Object(found) => self.take(kind, Arc::unwrap_or_clone(found)),
            Heard::Unreadable(key, problem) => self.take_unreadable(kind, key, *problem),
            Heard::Complete => self.complete(kind, within),
            Heard::Gone(key) => self.remove(kind, &key),
            Heard::LetGo => self.let_go(kind),
            Heard::Watching => {
                let shelf = self.shelf(kind, within);
                shelf.watched = true;
                shelf.trouble.take().is_some()
            }
            Heard::Trouble(trouble) => {
                let is_guard = KINDS[kind].is_guard();
                self.shelf(kind, within).have_trouble(trouble, is_guard)
            }
            // It may be of a namespace that nobody asks for any more.
            Heard::Within(namespace, heard) => {
                self.namespaces.contains_key(&namespace) && self.hear_of(kind, Some(&namespace), *heard)
            }
        }
    }

    fn shelf(&mut self, kind: usize, within: Option<&Arc<str>>) -> &mut Shelf {
        match within {
            Some(namespace) => self.namespaces.entry(Arc::clone(namespace)).or_default(),
            None => &mut self.shelves[kind],
        }
    }

    /// Whether every kind has been listed to its end, or cannot be listed; `expected` says which matter.
    pub(crate) fn is_complete(&self, expected: impl Fn(usize) -> bool) -> bool {
        let secret = number_of(SECRET);
        (0..self.shelves.len()).all(|kind| {
            let in_namespaces = kind != secret || self.namespaces.values().all(|shelf| shelf.answered);
            !expected(kind) || (self.shelves[kind].answered && in_namespaces)
        })
    }

    /// Whether neither Mappings nor Listeners can be read: that is no configuration, but an account without
    /// rights or a cluster that is not set up.
    pub(crate) fn is_blind(&self) -> bool {
        ["Mapping", "Listener"]
            .into_iter()
            .all(|kind| self.is_absent(number_of(kind)))
    }

    /// An API server that begins, or an account whose rights come late, refuses everything for a while: a refusal
    /// from then counts for nothing.
    fn doubt(&mut self) {
        for shelf in self.shelves.iter_mut().chain(self.namespaces.values_mut()) {
            if shelf.trouble.as_ref().is_some_and(Trouble::lasts) {
                shelf.answered = false;
            }
        }
    }

    /// Whether Secrets must not be read in all namespaces at once.
    pub(crate) fn must_ask_namespaces(&self) -> bool {
        let trouble = self.shelves[number_of(SECRET)].trouble.as_ref();
        matches!(trouble, Some(Trouble::Forbidden(_)))
    }

    /// The namespaces in which somebody names Secrets.
    pub(crate) fn named_namespaces(&self) -> BTreeSet<Arc<str>> {
        self.named.iter().map(|key| Arc::clone(&key.namespace)).collect()
    }

    /// Says in which namespaces Secrets are followed from now on, one by one.
    pub(crate) fn ask_namespaces(&mut self, namespaces: &BTreeSet<Arc<str>>) {
        self.namespaces
            .retain(|namespace, _| namespaces.contains(namespace));
        for namespace in namespaces {
            self.namespaces.entry(Arc::clone(namespace)).or_default();
        }
        self.collect_problems();
    }

    /// Whether a kind is listed to its end and watched.
    pub(crate) fn is_watched(&self, kind: usize) -> bool {
        self.shelves[kind].watched
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

    /// All objects, and what status is written with.
    pub(crate) fn versions_mut(&mut self) -> impl Iterator<Item = (&Object, &mut Version)> {
        self.objects.objects.iter().zip(&mut self.versions)
    }

    /// Whether other Secrets or files may be named than when this was asked last.
    pub(crate) fn take_names_changed(&mut self) -> bool {
        std::mem::take(&mut self.names_changed)
    }

    /// They are to be looked for again.
    pub(crate) fn note_names(&mut self) {
        self.names_changed = true;
    }

    /// What is held now is what was compiled.
    pub(crate) fn note_compiled(&mut self) {
        for version in &mut self.versions {
            version.compiled = Some(version.generation);
        }
    }

    fn take(&mut self, kind: usize, found: Found) -> bool {
        let Found {
            key,
            object,
            uid,
            generation,
            status,
        } = found;
        self.note_listed(kind, &key);
        let mended = self.shelves[kind].unreadable.remove(&key).is_some();
        if kind == number_of(SECRET) && !self.named.contains(&key) {
            self.unnamed.insert(key);
            return mended;
        }
        self.unnamed.remove(&key);
        // It costs neither memory nor a compile, however many others share the cluster.
        if nuncio_compile::is_for_another_gateway(&object, &self.gateway) {
            return self.drop_object(kind, &key) || mended;
        }
        let mut version = Version {
            uid,
            generation,
            compiled: None,
            ours: None,
            status,
        };
        self.names_changed |= KINDS[kind].is_referrer();
        if let Some(&position) = self.positions.get(&(kind, key.clone())) {
            let before = &self.objects.objects[position];
            // What is equal stays the very object, of which the last compile knows.
            let is_other = *before != object;
            let changed = is_other && !nuncio_compile::tells_other_addresses_only(before, &object);
            let before = &mut self.versions[position];
            let is_another = before.uid != version.uid;
            if !is_another {
                version.compiled = before.compiled;
                version.ours = before.ours.filter(|_| !changed);
            }
            *before = version;
            if is_other {
                self.objects.objects[position] = object;
            }
            return changed || mended || is_another;
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
        if kind == number_of(SECRET)
            && let Some(shelf) = self.namespaces.get_mut(&key.namespace)
            && let Some(listed) = &mut shelf.listed
        {
            listed.insert(key.clone());
        }
    }

    fn complete(&mut self, kind: usize, within: Option<&Arc<str>>) -> bool {
        let Some(listed) = self.shelf(kind, within).listed.take() else {
            return false;
        };
        let is_gone =
            |key: &Key| within.is_none_or(|namespace| *namespace == key.namespace) && !listed.contains(key);
        let gone: Vec<Key> = self
            .positions
            .keys()
            .filter(|(other, key)| *other == kind && is_gone(key))
            .map(|(_, key)| key.clone())
            .collect();
        for key in &gone {
            self.drop_object(kind, key);
        }
        if kind == number_of(SECRET) {
            self.unnamed.retain(|key| !is_gone(key));
        }
        let unreadable = &mut self.shelves[kind].unreadable;
        let before = unreadable.len();
        unreadable.retain(|key, _| !is_gone(key));
        let mended = unreadable.len() != before;
        let shelf = self.shelf(kind, within);
        let first = !std::mem::replace(&mut shelf.answered, true);
        shelf.listed_once = true;
        let relieved = shelf.trouble.take().is_some();
        if kind == number_of(SERVICE) {
            self.objects.all_services = true;
        }
        first || relieved || mended || !gone.is_empty()
    }

    fn let_go(&mut self, kind: usize) -> bool {
        self.shelves[kind].listed = Some(HashSet::new());
        let any = self.complete(kind, None);
        self.shelves[kind] = Shelf::default();
        any
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
        self.names_changed |= KINDS[kind].is_referrer();
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

    fn collect_problems(&mut self) {
        let in_namespaces = self.namespaces.iter();
        self.objects.forbidden_secrets = in_namespaces
            .filter(|(_, shelf)| matches!(shelf.trouble, Some(Trouble::Forbidden(_))))
            .map(|(namespace, _)| namespace.to_string())
            .collect();
        let absent = self.shelves.iter().enumerate().filter_map(|(kind, shelf)| {
            let kind = &KINDS[kind];
            match shelf.trouble.as_ref()? {
                Trouble::NotInstalled if kind.is_expected() => Some(not_installed(kind, shelf.listed_once)),
                // Least privilege: who names one that cannot be read is told.
                Trouble::Forbidden(_) if kind.kind == SECRET && !self.namespaces.is_empty() => None,
                Trouble::Forbidden(words) => Some(forbidden(kind, shelf.listed_once, words)),
                Trouble::NotInstalled | Trouble::Away(_) | Trouble::Failed(_) => None,
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

/// What becomes of the objects of a kind that cannot be read.
fn effect(kind: &Kind, was_listed: bool) -> String {
    match was_listed {
        true => "what was read of them last stays in use, and no change is seen".to_owned(),
        false => format!("no {} is read", kind.kind),
    }
}

fn not_installed(kind: &Kind, was_listed: bool) -> Problem {
    let (effect, qualified) = (effect(kind, was_listed), kind.qualified());
    kind_problem(
        Severity::Warning,
        "kind_not_installed",
        format!(
            "the cluster does not know {qualified}, so {effect}; install it with `nuncio crds | kubectl \
             apply -f -`"
        ),
    )
}

fn forbidden(kind: &Kind, was_listed: bool, words: &str) -> Problem {
    let (effect, qualified) = (effect(kind, was_listed), kind.qualified());
    kind_problem(
        Severity::Error,
        "kind_forbidden",
        format!(
            "nuncio may not list and watch {qualified}, so {effect}; let its ClusterRole get, list and watch \
             them ({words})"
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
