//! What is remembered of handshakes that fail for a reason that repeats.
//!
//! Such a failure is answered from memory for a short time, which doubles with each that follows. When the
//! time is over, one handshake tries again while all others go on being answered from memory: an endpoint
//! with the wrong certificate costs a handshake every few seconds, not one a request. Time is given from
//! outside and so is chance (the core is pure).
//!
//! A failure that may be another the next time, such as a reset, counts only where many come in a row; then
//! the pauses are short. So no upstream, whatever ails it, is asked for handshakes without end.

use std::time::{Duration, Instant};

/// The first pause; short, since a mended endpoint serves after it.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest, without its jitter.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// The longest after failures that may be others the next time.
const LONGEST_OF_OTHERS: Duration = Duration::from_secs(1);
/// So many of those in a row count like one that repeats.
const MANY: u32 = 32;
/// Pauses are this share longer or shorter, so that gateways that began to fail together do not ask together.
const JITTER: f64 = 0.25;

/// The memory of one endpoint. `T` is what is told while it lasts.
#[derive(Debug)]
pub(crate) struct Memory<T> {
    failed: Option<Failed<T>>,
    /// Failures since the last success that may be others the next time.
    others: u32,
}

#[derive(Debug)]
struct Failed<T> {
    told: T,
    /// Pauses so far, this one included.
    pauses: u32,
    until: Instant,
    /// A handshake is under way that will show whether it is mended.
    on_trial: bool,
}

/// The right to a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing is remembered.
    Free,
    /// Others wait for what comes of it.
    Trial,
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self {
            failed: None,
            others: 0,
        }
    }
}

impl<T: Clone> Memory<T> {
    /// What is to be told instead of a handshake, if anything is.
    pub(crate) fn recall(&self, now: Instant) -> Option<T> {
        let failed = self.failed.as_ref()?;
        (failed.on_trial || now < failed.until).then(|| failed.told.clone())
    }

    /// Lets a handshake begin, or says what to tell instead. What becomes of it must be told by one of
    /// [`Self::failed`], [`Self::succeeded`] and [`Self::gave_up`].
    pub(crate) fn begin(&mut self, now: Instant) -> Result<Turn, T> {
        if let Some(told) = self.recall(now) {
            return Err(told);
        }
        Ok(match &mut self.failed {
            None => Turn::Free,
            Some(failed) => {
                failed.on_trial = true;
                Turn::Trial
            }
        })
    }

    /// A handshake failed for a reason that repeats. `random` is between 0 and 1; `told` makes what is told
    /// from the pause that begins. One that began before another failed tells nothing new.
    pub(crate) fn failed(&mut self, turn: Turn, now: Instant, random: f64, told: impl FnOnce(Duration) -> T) {
        self.others = 0;
        self.pause(turn, now, random, LONGEST_PAUSE, told);
    }

    /// A handshake failed in a way that may be another the next time.
    pub(crate) fn failed_otherwise(
        &mut self,
        turn: Turn,
        now: Instant,
        random: f64,
        told: impl FnOnce(Duration) -> T,
    ) {
        self.others = self.others.saturating_add(1);
        if self.others >= MANY {
            self.pause(turn, now, random, LONGEST_OF_OTHERS, told);
        } else if turn == Turn::Trial {
            // What was remembered is over.
            self.failed = None;
        }
    }

    fn pause(
        &mut self,
        turn: Turn,
        now: Instant,
        random: f64,
        longest: Duration,
        told: impl FnOnce(Duration) -> T,
    ) {
        let pauses = match (&self.failed, turn) {
            (None, _) => 1,
            (Some(_), Turn::Free) => return,
            (Some(failed), Turn::Trial) => failed.pauses.saturating_add(1),
        };
        let pause = pause(pauses, random, longest);
        self.failed = Some(Failed {
            told: told(pause),
            pauses,
            until: now + pause,
            on_trial: false,
        });
    }

    /// A handshake succeeded.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// A handshake was given up before its end.
    pub(crate) fn gave_up(&mut self, turn: Turn) {
        if let (Some(failed), Turn::Trial) = (&mut self.failed, turn) {
            failed.on_trial = false;
        }
    }
}

fn pause(pauses: u32, random: f64, longest: Duration) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << (pauses - 1).min(16));
    let share = (random.clamp(0.0, 1.0) - 0.5) * 2.0 * JITTER;
    doubled.min(longest).mul_f64(1.0 + share)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: f64 = 0.5;

    fn after(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pause = |n, random| pause(n, random, LONGEST_PAUSE);
        let pauses: Vec<_> = (1..=8).map(|n| pause(n, MIDDLE).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(pause(u32::MAX, MIDDLE), LONGEST_PAUSE);
        assert_eq!(pause(3, 0.0), Duration::from_millis(750));
        assert_eq!(pause(3, 1.0), Duration::from_millis(1250));
    }

    #[test]
    fn one_handshake_tries_when_the_pause_is_over() {
        let (start, mut memory) = (Instant::now(), Memory::default());
        assert_eq!(memory.begin(start), Ok(Turn::Free));
        memory.failed(Turn::Free, start, MIDDLE, |_| "first");
        assert_eq!(memory.begin(after(start, 249)), Err("first"));
        assert_eq!(memory.begin(after(start, 250)), Ok(Turn::Trial));
        // The others go on hearing what is known, however long it takes.
        assert_eq!(memory.begin(after(start, 60_000)), Err("first"));
        assert_eq!(memory.recall(after(start, 60_000)), Some("first"));
        memory.failed(Turn::Trial, after(start, 300), MIDDLE, |_| "second");
        assert_eq!(memory.begin(after(start, 799)), Err("second"));
        assert_eq!(memory.begin(after(start, 800)), Ok(Turn::Trial));
        memory.succeeded();
        assert_eq!(memory.begin(after(start, 800)), Ok(Turn::Free));
    }

    #[test]
    fn a_trial_that_is_given_up_leaves_its_place_to_another() {
        let (start, mut memory) = (Instant::now(), Memory::default());
        memory.failed(Turn::Free, start, MIDDLE, |_| ());
        let over = after(start, 250);
        assert_eq!(memory.begin(over), Ok(Turn::Trial));
        memory.gave_up(Turn::Trial);
        assert_eq!(memory.begin(over), Ok(Turn::Trial));
        // One that was under way before has no say.
        memory.gave_up(Turn::Free);
        assert_eq!(memory.begin(over), Err(()));
    }

    #[test]
    fn those_that_began_before_it_was_known_do_not_lengthen_the_pause() {
        let (start, mut memory) = (Instant::now(), Memory::default());
        for n in 0..16 {
            memory.failed(Turn::Free, after(start, n), MIDDLE, |_| n);
        }
        assert_eq!(memory.recall(after(start, 249)), Some(0));
        assert_eq!(memory.recall(after(start, 250)), None);
    }

    #[test]
    fn failures_of_other_kinds_count_where_many_come_in_a_row() {
        let (start, mut memory) = (Instant::now(), Memory::default());
        let fail =
            |memory: &mut Memory<_>, at| memory.failed_otherwise(Turn::Free, at, MIDDLE, |pause| pause);
        for _ in 1..MANY {
            fail(&mut memory, start);
        }
        assert_eq!(memory.recall(start), None);
        memory.succeeded();
        for _ in 1..MANY {
            fail(&mut memory, start);
        }
        assert_eq!(memory.recall(start), None);
        fail(&mut memory, start);
        assert_eq!(memory.recall(after(start, 249)), Some(FIRST_PAUSE));
        // The pauses grow, but stay short.
        let mut now = after(start, 250);
        for _ in 0..8 {
            assert_eq!(memory.begin(now), Ok(Turn::Trial));
            memory.failed_otherwise(Turn::Trial, now, MIDDLE, |pause| pause);
            now += memory.recall(now).unwrap();
        }
        memory.failed_otherwise(Turn::Free, now, MIDDLE, |pause| pause);
        assert_eq!(memory.begin(now), Ok(Turn::Trial));
        memory.failed_otherwise(Turn::Trial, now, MIDDLE, |pause| pause);
        assert_eq!(memory.recall(now), Some(LONGEST_OF_OTHERS));
    }

    #[test]
    fn a_trial_that_fails_in_another_way_ends_what_was_remembered() {
        let (start, mut memory) = (Instant::now(), Memory::default());
        memory.failed(Turn::Free, start, MIDDLE, |_| ());
        let over = after(start, 250);
        assert_eq!(memory.begin(over), Ok(Turn::Trial));
        memory.failed_otherwise(Turn::Trial, over, MIDDLE, |_| ());
        assert_eq!(memory.begin(over), Ok(Turn::Free));
    }

    /// Many ask at random moments, of an endpoint that breaks and is mended at random moments.
    #[test]
    fn whatever_happens_it_is_asked_rarely_and_found_again_soon() {
        for seed in 0..200 {
            simulate(&mut fastrand::Rng::with_seed(seed));
        }
    }

    fn simulate(random: &mut fastrand::Rng) {
        const STEPS: u64 = 20_000;
        let longest = LONGEST_PAUSE.mul_f64(1.0 + JITTER);
        let (mut now, mut memory) = (Instant::now(), Memory::default());
        let mut broken = true;
        let mut changed = now;
        let mut under_way: Vec<(Turn, Instant, bool)> = Vec::new();
        let mut asked_while_broken = 0_u32;
        for _ in 0..STEPS {
            now += Duration::from_millis(random.u64(0..5));
            if random.u32(0..4000) == 0 {
                (broken, changed, asked_while_broken) = (!broken, now, 0);
            }
            under_way.retain(|(turn, ends, fails)| {
                if *ends > now {
                    return true;
                }
                match (random.u8(0..20), fails) {
                    (0, _) => memory.gave_up(*turn),
                    (_, true) => memory.failed(*turn, now, random.f64(), |pause| {
                        assert!(pause >= FIRST_PAUSE.mul_f64(1.0 - JITTER) && pause <= longest);
                        now
                    }),
                    (_, false) => memory.succeeded(),
                }
                false
            });
            match memory.begin(now) {
                Ok(turn) => {
                    asked_while_broken += u32::from(broken && turn == Turn::Trial);
                    under_way.push((turn, now + Duration::from_millis(random.u64(1..20)), broken));
                }
                Err(told) => {
                    assert!(told <= now);
                    // The last to fail began before it was mended; then comes one pause and one trial, or a
                    // few where clients gave up.
                    let patience = longest + Duration::from_secs(1);
                    assert!(broken || now - changed < patience, "mended and not found out");
                }
            }
            let trials = under_way.iter().filter(|(turn, ..)| *turn == Turn::Trial).count();
            assert!(trials <= 1, "{trials} at once");
            // At the least pause of all, with clients that give up now and then.
            let lasted = (now - changed).as_millis() / 100;
            assert!(u128::from(asked_while_broken) <= lasted + 3, "asked too often");
        }
    }
}
