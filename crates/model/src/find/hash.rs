//! Hashes for look-ups of request values among configured ones.
//!
//! FNV-1a: fast on short texts, and fed piece by piece, so that a header in several lines hashes like
//! one in a single line. It is not keyed; what is stored comes from configuration only, so that no
//! request can make a table slow. Equal hashes of unequal values are harmless: they only name
//! candidates, which are then compared.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table of configured values.
pub(super) type Table<K, V> = HashMap<K, V, BuildHasherDefault<Fnv>>;

const START: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;
/// After each value, so that `ab` and `c` are not `a` and `bc`.
const BOUNDARY: u8 = 0xff;

#[derive(Clone, Copy)]
pub(super) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(START)
    }
}

impl Fnv {
    /// The hash of one text.
    pub(super) fn of(text: &[u8]) -> u64 {
        let mut hash = Self::default();
        hash.write(text);
        hash.finish()
    }

    /// Ends a value.
    pub(super) fn boundary(&mut self) {
        self.write_u8(BOUNDARY);
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u8(byte);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(PRIME);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(PRIME);
    }

    /// Spreads the state over all bits: tables use the highest and the lowest.
    fn finish(&self) -> u64 {
        let folded = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        folded ^ (folded >> 32)
    }
}
