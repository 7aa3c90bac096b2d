//! When to read after the file system spoke: a pure core, the clock comes from outside.
//!
//! An edit is many events. Reading waits until nothing has happened for a moment, but never long.
//! A file that someone writes and has not closed is not read meanwhile, so that a half-written one
//! is not taken for the whole; everything else goes on.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Nothing may have happened for this long.
const QUIET: Duration = Duration::from_millis(30);

/// The longest wait after the first event.
const CAP: Duration = Duration::from_millis(150);

/// How long after its last write a file that stays open is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the file system said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Something is there, gone or renamed.
    Touched(Option<PathBuf>),
    /// Bytes were written to this file by someone who still has it open.
    Writing(PathBuf),
    /// Someone who could write to this file closed it.
    Closed(PathBuf),
}

/// What was heard and not yet acted on.
#[derive(Debug)]
pub(crate) struct HoldOff {
    /// The longest wait after the first event.
    cap: Duration,
    /// The first and the latest event.
    pending: Option<(Instant, Instant)>,
    /// Files that are open for writing, and when they were last written.
    writing: HashMap<PathBuf, Instant>,
}

impl Default for HoldOff {
    fn default() -> Self {
        Self::capped(CAP)
    }
}

impl HoldOff {
    /// One that waits no longer than `cap` after the first event.
    pub(crate) fn capped(cap: Duration) -> Self {
        Self {
            cap,
            pending: None,
            writing: HashMap::new(),
        }
    }

    /// Takes in an event that was seen at `now`.
    pub(crate) fn note(&mut self, sign: Sign, now: Instant) {
        match sign {
            Sign::Writing(path) => {
                self.writing.insert(path, now);
                return;
            }
            Sign::Closed(path) | Sign::Touched(Some(path)) => {
                self.writing.remove(&path);
            }
            Sign::Touched(None) => {}
        }
        let first = self.pending.map_or(now, |(first, _)| first);
        self.pending = Some((first, now));
    }

    /// When to read; none while there is nothing to read.
    pub(crate) fn due(&self) -> Option<Instant> {
        let pending = self
            .pending
            .map(|(first, last)| (first + self.cap).min(last + QUIET));
        let abandoned = self.writing.values().min().map(|written| *written + PATIENCE);
        pending.into_iter().chain(abandoned).min()
    }

    /// Whether to read now. If so, everything heard is settled, and the files that are still being
    /// written come back: they are to be left alone.
    pub(crate) fn fire(&mut self, now: Instant) -> Option<HashSet<PathBuf>> {
        self.due().filter(|due| *due <= now)?;
        self.pending = None;
        self.writing.retain(|_, written| *written + PATIENCE > now);
        Some(self.writing())
    }

    /// The files that are being written.
    pub(crate) fn writing(&self) -> HashSet<PathBuf> {
        self.writing.keys().map(|path| Path::to_path_buf(path)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    fn touched() -> Sign {
        Sign::Touched(None)
    }

    #[test]
    fn nothing_heard_is_nothing_due() {
        let mut hold_off = HoldOff::default();
        assert_eq!(hold_off.due(), None);
        assert_eq!(hold_off.fire(Instant::now()), None);
    }

    #[test]
    fn one_edit_is_read_once_after_the_quiet_time() {
        let start = Instant::now();
        let mut hold_off = HoldOff::default();
        hold_off.note(touched(), start);
        hold_off.note(touched(), ms(start, 10));
        assert_eq!(hold_off.due(), Some(ms(start, 40)));
        assert_eq!(hold_off.fire(ms(start, 39)), None);
        assert_eq!(hold_off.fire(ms(start, 40)), Some(HashSet::new()));
        assert_eq!(hold_off.due(), None);
    }

    #[test]
    fn a_stream_of_edits_is_read_at_the_cap() {
        let start = Instant::now();
        let mut hold_off = HoldOff::default();
        for step in 0..100 {
            hold_off.note(touched(), ms(start, step * 10));
            assert!(hold_off.due().unwrap() <= ms(start, 150));
        }
    }

    #[test]
    fn the_cap_may_be_another() {
        let start = Instant::now();
        let mut hold_off = HoldOff::capped(Duration::from_secs(2));
        for step in 0..200 {
            hold_off.note(touched(), ms(start, step * 10));
        }
        assert_eq!(hold_off.due(), Some(ms(start, 2000)));
    }

    #[test]
    fn a_file_that_is_being_written_waits_for_its_close() {
        let start = Instant::now();
        let mut hold_off = HoldOff::default();
        let path = PathBuf::from("/m/a.yaml");
        hold_off.note(Sign::Writing(path.clone()), start);
        hold_off.note(touched(), ms(start, 5));
        let busy = hold_off.fire(ms(start, 35));
        assert_eq!(
            busy,
            Some(HashSet::from([path.clone()])),
            "others are read meanwhile"
        );
        hold_off.note(Sign::Writing(path.clone()), ms(start, 1000));
        assert_eq!(hold_off.due(), Some(ms(start, 3000)));
        hold_off.note(Sign::Closed(path), ms(start, 1200));
        assert_eq!(hold_off.due(), Some(ms(start, 1230)));
        assert_eq!(hold_off.fire(ms(start, 1230)), Some(HashSet::new()));
    }

    #[test]
    fn a_file_that_stays_open_is_read_in_the_end() {
        let start = Instant::now();
        let mut hold_off = HoldOff::default();
        hold_off.note(Sign::Writing("/m/a.yaml".into()), start);
        assert_eq!(hold_off.fire(ms(start, 1999)), None);
        assert_eq!(hold_off.fire(ms(start, 2000)), Some(HashSet::new()));
        assert_eq!(hold_off.due(), None);
    }

    #[test]
    fn a_file_that_is_replaced_or_removed_is_no_longer_being_written() {
        let start = Instant::now();
        let mut hold_off = HoldOff::default();
        hold_off.note(Sign::Writing("/m/a.yaml".into()), start);
        hold_off.note(Sign::Touched(Some("/m/a.yaml".into())), ms(start, 1));
        assert_eq!(hold_off.fire(ms(start, 31)), Some(HashSet::new()));
    }
}
