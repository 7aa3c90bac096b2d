//! Endpoints' own way: what changes at a Service reaches the balancers without a compile.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use nuncio_compile::{Object, Options, endpoints_of};
use nuncio_model::{EndpointTable, ServiceKey};
use tokio::sync::{mpsc::Receiver, watch};

use super::follow::Heard;
use super::found::Key;
use super::kinds::{KINDS, SLICE};

/// The label of an EndpointSlice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Most that is taken in before a table is published.
const BATCH: usize = 512;

/// What was heard of the addresses of Services: a pure core.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    /// By kind and name of the object.
    objects: HashMap<(usize, Key), Arc<Object>>,
    /// Objects that say something about a Service.
    of_service: HashMap<Key, HashSet<(usize, Key)>>,
    listed: HashMap<usize, HashSet<Key>>,
    answered: HashSet<usize>,
    /// The cluster has no EndpointSlices for us: Endpoints are needed.
    sliceless: bool,
    /// What each Service has in the table.
    keys: HashMap<Key, Vec<ServiceKey>>,
    table: EndpointTable,
}

impl Addresses {
    /// Takes in what was heard; names the Services that it concerns.
    fn hear(&mut self, kind: usize, heard: Heard, touched: &mut HashSet<Key>) {
        match heard {
            Heard::Begin => {
                self.listed.insert(kind, HashSet::new());
            }
            Heard::Object(found) => {
                if let Some(listed) = self.listed.get_mut(&kind) {
                    listed.insert(found.key.clone());
                }
                self.put(kind, &found.key, &found.object, touched);
            }
            Heard::Complete | Heard::LetGo => {
                let is_followed = matches!(heard, Heard::Complete);
                let listed = self.listed.remove(&kind).filter(|_| is_followed);
                let listed = listed.unwrap_or_default();
                let known = self.objects.keys().filter(|(other, _)| *other == kind);
                let gone: Vec<Key> = known
                    .map(|(_, key)| key)
                    .filter(|key| !listed.contains(key))
                    .cloned()
                    .collect();
                for key in gone {
                    self.remove(kind, &key, touched);
                }
                if is_followed {
                    self.answered.insert(kind);
                    self.sliceless &= KINDS[kind].kind != SLICE;
                } else {
                    self.answered.remove(&kind);
                }
            }
            Heard::Gone(key) => self.remove(kind, &key, touched),
            Heard::Trouble(trouble) => {
                self.listed.remove(&kind);
                if trouble.lasts() {
                    self.answered.insert(kind);
                    self.sliceless |= KINDS[kind].kind == SLICE;
                }
            }
            // Services are never followed namespace by namespace.
            Heard::Unreadable(..) | Heard::Watching | Heard::Within(..) => {}
        }
    }

    fn put(&mut self, kind: usize, key: &Key, object: &Object, touched: &mut HashSet<Key>) {
        let id = (kind, key.clone());
        if self.objects.get(&id).is_some_and(|known| **known == *object) {
            return;
        }
        // A slice may change hands.
        self.remove(kind, key, touched);
        if let Some(service) = service_of(kind, key, object) {
            self.of_service
                .entry(service.clone())
                .or_default()
                .insert(id.clone());
            touched.insert(service);
        }
        self.objects.insert(id, Arc::new(object.clone()));
    }

    fn remove(&mut self, kind: usize, key: &Key, touched: &mut HashSet<Key>) {
        let id = (kind, key.clone());
        let Some(object) = self.objects.remove(&id) else {
            return;
        };
        let Some(service) = service_of(kind, key, &object) else {
            return;
        };
        if let Some(objects) = self.of_service.get_mut(&service) {
            objects.remove(&id);
            if objects.is_empty() {
                self.of_service.remove(&service);
            }
        }
        touched.insert(service);
    }

    /// Reads the touched Services anew; says whether the table is another.
    fn update(&mut self, touched: HashSet<Key>, options: &Options) -> bool {
        let mut changed = false;
        for service in touched {
            let ids = self.of_service.get(&service).into_iter().flatten();
            let objects: Vec<&Object> = ids
                .filter_map(|id| self.objects.get(id).map(Arc::as_ref))
                .collect();
            let now = endpoints_of(&objects, options);
            let before = self.keys.remove(&service).unwrap_or_default();
            for key in before.iter().filter(|key| !now.services.contains_key(key)) {
                changed |= self.table.services.remove(key).is_some();
            }
            let mut keys = Vec::with_capacity(now.services.len());
            for (key, addresses) in now.services {
                keys.push(key.clone());
                if self.table.services.get(&key) != Some(&addresses) {
                    self.table.services.insert(key, addresses);
                    changed = true;
                }
            }
            if !keys.is_empty() {
                self.keys.insert(service, keys);
            }
        }
        changed
    }

    fn is_complete(&self) -> bool {
        let is_needed = |kind: usize| match KINDS[kind].kind {
            "Service" | SLICE => true,
            "Endpoints" => self.sliceless,
            _ => false,
        };
        (0..KINDS.len()).all(|kind| !is_needed(kind) || self.answered.contains(&kind))
    }
}

fn service_of(kind: usize, key: &Key, object: &Object) -> Option<Key> {
    if KINDS[kind].kind != SLICE {
        return Some(key.clone());
    }
    let name = object.labels.get(SERVICE_NAME)?;
    Some(Key {
        namespace: Arc::clone(&key.namespace),
        name: name.as_str().into(),
    })
}

/// Publishes the addresses of Services as they are heard, from the first moment at which all are known.
pub(crate) async fn publish(
    mut ear: Receiver<(usize, Heard)>,
    options: Options,
    table: watch::Sender<Arc<EndpointTable>>,
    complete: watch::Sender<bool>,
) {
    let mut addresses = Addresses::default();
    let mut batch = Vec::with_capacity(BATCH);
    let mut touched = HashSet::new();
    while ear.recv_many(&mut batch, BATCH).await > 0 {
        for (kind, heard) in batch.drain(..) {
            addresses.hear(kind, heard, &mut touched);
        }
        if !addresses.is_complete() {
            continue;
        }
        if addresses.update(std::mem::take(&mut touched), &options) {
            table.send_replace(Arc::new(addresses.table.clone()));
        }
        complete.send_if_modified(|complete| !std::mem::replace(complete, true));
    }
}

#[cfg(test)]
mod tests;
