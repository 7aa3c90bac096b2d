//! Certificates and keys that objects name as files, or that a folder of them holds, kept up to date.

use std::collections::BTreeMap;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nuncio_compile::{Objects, Options, istio_files};

use crate::fingerprint::Fingerprint;
use crate::loaded::Busy;
use crate::manifest::{MATERIAL_LIMIT, read_bounded};

/// What is known of the files in [`Objects::files`].
#[derive(Debug, Default)]
pub(crate) struct Material {
    /// Files that are read besides those that the objects name.
    istio_files: Vec<PathBuf>,
    /// Of each file, where it exists.
    known: BTreeMap<PathBuf, Option<Fingerprint>>,
}

impl Material {
    /// The files of the folders that the options name, none of them read yet.
    pub(crate) fn of(options: &Options) -> Self {
        let directory = options.istio_directory.as_deref();
        let istio_files: Vec<PathBuf> = directory.into_iter().flat_map(istio_files).collect();
        Self {
            known: istio_files.iter().map(|path| (path.clone(), None)).collect(),
            istio_files,
        }
    }

    /// Every file whose change matters.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.known.keys().map(PathBuf::as_path)
    }

    /// Reads what changed, and what the objects name now; says whether any content is another.
    pub(crate) fn refresh(
        &mut self,
        objects: &mut Objects,
        objects_changed: bool,
        now: SystemTime,
        busy: Busy<'_>,
    ) -> bool {
        if objects_changed {
            self.follow(objects);
        }
        let mut changed = false;
        for (path, known) in &mut self.known {
            let fingerprint = std::fs::metadata(path)
                .ok()
                .map(|metadata| Fingerprint::of(&metadata, now));
            let holds = known
                .zip(fingerprint)
                .is_some_and(|(known, now)| known.still_holds(&now));
            let is_known = objects.files.contains_key(path);
            if is_known && (holds || busy(path)) {
                continue;
            }
            *known = fingerprint;
            let content = read_bounded(path, MATERIAL_LIMIT);
            changed |= objects.files.get(path) != Some(&content);
            objects.files.insert(path.clone(), content);
        }
        changed
    }

    fn follow(&mut self, objects: &mut Objects) {
        let named = nuncio_compile::referenced_files(&objects.objects);
        let before = mem::take(&mut self.known);
        self.known = named
            .into_iter()
            .chain(self.istio_files.iter().cloned())
            .map(|path| {
                let fingerprint = before.get(&path).copied().flatten();
                (path, fingerprint)
            })
            .collect();
        let known = &self.known;
        objects.files.retain(|path, _| known.contains_key(path));
    }
}
