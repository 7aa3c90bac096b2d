//! One live copy of each value that many upstreams share, found by the digest of its content, so that
//! 5,000 upstreams with the same bundle hold one parsed store (row G6) and a rotation parses once (R7).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Values that live as long as somebody holds them.
pub(crate) struct Interned<K, V> {
    known: Mutex<Option<HashMap<K, Weak<V>>>>,
}

impl<K: Hash + Eq, V> Interned<K, V> {
    pub(crate) const fn new() -> Self {
        Self {
            known: Mutex::new(None),
        }
    }

    /// The live value for `key`, or the one that `make` makes. Two threads that ask at once share one.
    pub(crate) fn get<E>(&self, key: K, make: impl FnOnce() -> Result<V, E>) -> Result<Arc<V>, E> {
        // A poisoned lock guards a map that is whole all the same: it is only ever inserted into.
        let mut guard = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = guard.get_or_insert_default();
        if let Some(value) = known.get(&key).and_then(Weak::upgrade) {
            return Ok(value);
        }
        let value = Arc::new(make()?);
        // Swept when it would grow, so dead entries never outnumber live ones by more than that.
        if known.len() == known.capacity() {
            known.retain(|_, value| value.strong_count() > 0);
        }
        known.insert(key, Arc::downgrade(&value));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_share_one_value_while_it_lives() {
        static WORDS: Interned<u8, String> = Interned::new();
        let make = || Ok::<_, ()>("one".to_owned());
        let first = WORDS.get(1, make).expect("made");
        let second = WORDS.get(1, || Err("made again")).expect("shared");
        assert!(Arc::ptr_eq(&first, &second));
        drop((first, second));
        assert_eq!(WORDS.get(1, || Err("made again")), Err("made again"));
    }

    #[test]
    fn dead_values_are_swept() {
        let words = Interned::new();
        for key in 0..10_000 {
            words.get(key, || Ok::<_, ()>(())).expect("made");
        }
        let known = words.known.lock().expect("whole");
        assert!(known.as_ref().expect("used").len() < 100);
    }
}
