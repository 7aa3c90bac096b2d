//! Hears from the file system that something changed.
//!
//! Folders are watched, never files: a file that is replaced by renaming another over it, as editors
//! and careful programs do, is a new file and a watch on the old one hears nothing. A symbolic link
//! on the way to a file is watched in its folder, which is how a mounted ConfigMap changes.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::hold_off::Sign;

/// Events that may wait; of more only the fact is kept.
const WAITING: usize = 4096;

/// Symbolic links that are followed on the way to one file, as Linux does.
const LINKS: usize = 40;

/// Where events come from.
pub(crate) struct Ear {
    signs: mpsc::Receiver<Sign>,
    missed: Arc<AtomicBool>,
}

/// What is listened to.
pub(crate) struct FolderWatch {
    /// None where the system gives no watches; then only the poll sees changes.
    watcher: Option<RecommendedWatcher>,
    interest: Arc<ArcSwap<Interest>>,
}

/// Names that matter, by folder.
type Interest = HashMap<PathBuf, Names>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    All,
    These(BTreeSet<OsString>),
}

/// Begins to listen; to nothing yet.
pub(crate) fn start() -> (FolderWatch, Ear) {
    let (sender, signs) = mpsc::channel(WAITING);
    let missed = Arc::new(AtomicBool::new(false));
    let interest: Arc<ArcSwap<Interest>> = Arc::default();
    let ear = Ear {
        signs,
        missed: Arc::clone(&missed),
    };
    let wanted = Arc::clone(&interest);
    let hear = move |event: notify::Result<Event>| {
        for sign in signs_of(event, &wanted.load()) {
            if sender.try_send(sign).is_err() {
                missed.store(true, Ordering::Release);
            }
        }
    };
    let watcher = notify::recommended_watcher(hear)
        .inspect_err(
            |error| tracing::warn!(%error, "files cannot be watched, changes are looked for every 2 s"),
        )
        .ok();
    (FolderWatch { watcher, interest }, ear)
}

impl Ear {
    /// The next event. Waits for ever once the watch is gone.
    pub(crate) async fn next(&mut self) -> Sign {
        if self.missed.swap(false, Ordering::AcqRel) {
            return Sign::Touched(None);
        }
        match self.signs.recv().await {
            Some(sign) => sign,
            None => std::future::pending().await,
        }
    }
}

impl FolderWatch {
    /// Listens to everything that can change what these paths hold, and to nothing else.
    pub(crate) fn follow<'a>(&mut self, paths: impl Iterator<Item = &'a Path>) {
        let interest = interest(paths);
        let Some(watcher) = &mut self.watcher else { return };
        for gone in self
            .interest
            .load()
            .keys()
            .filter(|folder| !interest.contains_key(*folder))
        {
            // A folder that was removed took its watch along.
            let _ = watcher.unwatch(gone);
        }
        for folder in interest.keys() {
            // Again for those that are watched: another folder may stand there by now.
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::debug!(folder = %folder.display(), %error, "folder cannot be watched");
            }
        }
        self.interest.store(Arc::new(interest));
    }
}

/// What an event means, as far as anyone is interested.
fn signs_of(event: notify::Result<Event>, interest: &Interest) -> Vec<Sign> {
    let Ok(event) = event else {
        return vec![Sign::Touched(None)];
    };
    if event.need_rescan() {
        return vec![Sign::Touched(None)];
    }
    let sign: fn(PathBuf) -> Sign = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Sign::Closed,
        EventKind::Access(_) => return Vec::new(),
        EventKind::Modify(ModifyKind::Data(_)) => Sign::Writing,
        _ => |path| Sign::Touched(Some(path)),
    };
    event
        .paths
        .into_iter()
        .filter(|path| is_wanted(path, interest))
        .map(sign)
        .collect()
}

fn is_wanted(path: &Path, interest: &Interest) -> bool {
    // A folder speaks of itself when it is moved or removed.
    if interest.contains_key(path) {
        return true;
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return false;
    };
    match interest.get(folder) {
        Some(Names::All) => true,
        Some(Names::These(names)) => names.contains(name),
        None => false,
    }
}

fn interest<'a>(paths: impl Iterator<Item = &'a Path>) -> Interest {
    let mut interest = Interest::new();
    for path in paths {
        let Ok(path) = std::path::absolute(path) else {
            continue;
        };
        if is_covered(&path, &interest) {
            continue;
        }
        for step in trail(&path) {
            add(&step, &mut interest);
        }
        let real = fs::canonicalize(&path).ok().filter(|real| real.is_dir());
        interest.extend(real.map(|folder| (folder, Names::All)));
    }
    interest
}

/// A plain file in a folder that is listened to as a whole. Most manifests are.
fn is_covered(path: &Path, interest: &Interest) -> bool {
    let covered = path.parent().and_then(|folder| interest.get(folder)) == Some(&Names::All);
    covered && fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// Adds one name in its folder; in the nearest folder that exists, where its own does not yet.
fn add(path: &Path, interest: &mut Interest) {
    for step in path.ancestors() {
        let (Some(folder), Some(name)) = (step.parent(), step.file_name()) else {
            continue;
        };
        let Ok(folder) = fs::canonicalize(folder) else {
            continue;
        };
        let names = interest
            .entry(folder)
            .or_insert_with(|| Names::These(BTreeSet::new()));
        if let Names::These(names) = names {
            names.insert(name.to_owned());
        }
        return;
    }
}

/// Every symbolic link on the way to a file, and the file itself.
fn trail(path: &Path) -> Vec<PathBuf> {
    let mut trail = Vec::new();
    let mut todo = path.to_owned();
    while trail.len() < LINKS {
        let Some((link, target)) = first_link(&todo) else {
            break;
        };
        trail.push(link);
        todo = target;
    }
    trail.push(todo);
    trail
}

/// The first symbolic link in a path, and the path that it makes of it.
fn first_link(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let mut at = PathBuf::new();
    let mut rest = path.components();
    while let Some(part) = rest.next() {
        at.push(part);
        if let Ok(target) = fs::read_link(&at) {
            let whole = at.parent()?.join(target).join(rest.as_path());
            return Some((at, whole));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Waits for a sign about a file of this name.
    async fn hears(ear: &mut Ear, wanted: impl Fn(&Sign) -> bool) {
        let heard = async { while !wanted(&ear.next().await) {} };
        timeout(Duration::from_secs(30), heard)
            .await
            .expect("nothing was heard");
    }

    fn touched(name: &'static str) -> impl Fn(&Sign) -> bool {
        move |sign| matches!(sign, Sign::Touched(Some(path)) if path.ends_with(name))
    }

    fn follow(watch: &mut FolderWatch, paths: &[PathBuf]) {
        watch.follow(paths.iter().map(PathBuf::as_path));
    }

    #[tokio::test]
    async fn writes_renames_and_removals_are_heard() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        let (mut watch, mut ear) = start();
        follow(&mut watch, &[folder.path().to_owned()]);
        fs::write(&file, "a: 1").unwrap();
        hears(&mut ear, |sign| *sign == Sign::Writing(file.clone())).await;
        hears(&mut ear, |sign| *sign == Sign::Closed(file.clone())).await;
        fs::rename(&file, folder.path().join("b.yaml")).unwrap();
        hears(&mut ear, touched("b.yaml")).await;
        fs::remove_file(folder.path().join("b.yaml")).unwrap();
        hears(&mut ear, touched("b.yaml")).await;
    }

    #[tokio::test]
    async fn only_what_matters_is_heard() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("a.yaml"), folder.path().join("other.yaml"));
        fs::write(&file, "a: 1").unwrap();
        let (mut watch, mut ear) = start();
        follow(&mut watch, std::slice::from_ref(&file));
        fs::write(&other, "b: 1").unwrap();
        let _ = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        let first = timeout(Duration::from_secs(30), ear.next()).await.unwrap();
        assert!(touched("a.yaml")(&first), "{first:?}");
    }

    #[tokio::test]
    async fn every_link_on_the_way_is_heard() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["..1", "..2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("a.yaml"), "").unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/a.yaml", at("a.yaml")).unwrap();
        let (mut watch, mut ear) = start();
        follow(&mut watch, &[at("a.yaml")]);
        symlink("..2", at("..next")).unwrap();
        fs::rename(at("..next"), at("..data")).unwrap();
        hears(&mut ear, touched("..data")).await;
        follow(&mut watch, &[at("a.yaml")]);
        fs::write(at("..2").join("a.yaml"), "a: 1").unwrap();
        hears(
            &mut ear,
            |sign| matches!(sign, Sign::Closed(path) if path.ends_with("..2/a.yaml")),
        )
        .await;
    }

    #[tokio::test]
    async fn a_folder_that_comes_later_or_comes_back_is_heard() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("later/manifests");
        let paths = std::slice::from_ref(&inner);
        let (mut watch, mut ear) = start();
        for _ in 0..2 {
            follow(&mut watch, paths);
            fs::create_dir_all(&inner).unwrap();
            hears(&mut ear, touched("later")).await;
            follow(&mut watch, paths);
            fs::write(inner.join("a.yaml"), "").unwrap();
            hears(&mut ear, |sign| *sign == Sign::Closed(inner.join("a.yaml"))).await;
            fs::remove_dir_all(folder.path().join("later")).unwrap();
            hears(&mut ear, touched("later")).await;
        }
    }
}
