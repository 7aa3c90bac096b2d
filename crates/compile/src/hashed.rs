//! Values that are looked up often and cost much to hash.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// A value that is hashed once.
#[derive(Debug)]
pub(crate) struct Hashed<T> {
    hash: u64,
    pub(crate) value: Arc<T>,
}

impl<T: Hash> Hashed<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&value);
        Self { hash, value }
    }
}

impl<T> Clone for Hashed<T> {
    fn clone(&self) -> Self {
        Self {
            hash: self.hash,
            value: Arc::clone(&self.value),
        }
    }
}

impl<T> Hash for Hashed<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<T: Eq> PartialEq for Hashed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.value == other.value
    }
}

impl<T: Eq> Eq for Hashed<T> {}
