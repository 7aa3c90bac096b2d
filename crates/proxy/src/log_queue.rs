//! A log that never holds up the thread that writes to it: a bounded queue, and a thread that empties it.
//!
//! The descriptor behind it may be a pipe whose reader stalls or has gone, or a file on a full disk. Lines
//! that find no room in the queue, or that cannot be written, are lost and counted. Writing is tried
//! again with each new line, and once it succeeds the program's log says how many lines are missing.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Batches of lines that may wait for the writer.
const QUEUE: usize = 256;
/// How long [`LogQueue::flush`] waits for a reader that is slow or gone.
const FLUSH_TIME: Duration = Duration::from_secs(2);
/// How often a descriptor that another process made non-blocking is tried again while it is full.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// Takes whole lines for a descriptor. Clones share one queue.
#[derive(Clone, Debug)]
pub struct LogQueue {
    batches: SyncSender<Vec<u8>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Batches that were accepted and are neither written nor given up.
    pending: AtomicU64,
    /// Lines that were not written.
    lost: AtomicU64,
}

impl LogQueue {
    /// Starts the writer thread. `name` is the name of the log in messages, such as `access log`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(name: &'static str, out: File) -> io::Result<Self> {
        let (batches, queue) = sync_channel(QUEUE);
        let counts = Arc::<Counts>::default();
        let writer = Writer {
            name,
            out,
            torn: false,
            counts: Arc::clone(&counts),
        };
        std::thread::Builder::new()
            .name(name.replace(' ', "-"))
            .spawn(move || writer.run(&queue))?;
        Ok(Self { batches, counts })
    }

    /// Takes lines that end in a line feed. Never waits; lines that find no room are counted as lost.
    pub fn send(&self, lines: Vec<u8>) {
        self.counts.pending.fetch_add(1, Ordering::AcqRel);
        if let Err(refused) = self.batches.try_send(lines) {
            let (std::sync::mpsc::TrySendError::Full(lines)
            | std::sync::mpsc::TrySendError::Disconnected(lines)) = refused;
            self.counts.pending.fetch_sub(1, Ordering::AcqRel);
            self.counts.lose(&lines);
        }
    }

    /// Lines that were lost so far.
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }

    /// Waits until everything accepted so far is written or given up, for 2 s at most.
    pub fn flush(&self) {
        let deadline = Instant::now() + FLUSH_TIME;
        while self.counts.pending.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Counts {
    fn lose(&self, lines: &[u8]) {
        let lines = memchr::memchr_iter(b'\n', lines).count();
        self.lost.fetch_add(lines as u64, Ordering::Relaxed);
    }
}

/// What runs in the thread. The only place that may block on the descriptor.
struct Writer {
    name: &'static str,
    out: File,
    /// The last line that was begun is incomplete.
    torn: bool,
    counts: Arc<Counts>,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Vec<u8>>) {
        let mut reported = 0;
        while let Ok(first) = queue.recv() {
            let mut works = self.write(&first);
            while let Ok(next) = queue.try_recv() {
                works = self.write(&next);
            }
            // Only now is there room in the queue for a message about it.
            let lost = self.counts.lost.load(Ordering::Relaxed);
            if works && lost > reported {
                let missing = lost - reported;
                reported = lost;
                tracing::warn!(
                    "the {} lost {missing} {} here: its reader stalled or was gone, or its disk was full",
                    self.name,
                    if missing == 1 { "line" } else { "lines" },
                );
            }
        }
    }

    /// Writes one batch, or counts what is missing of it. Says whether the descriptor works.
    fn write(&mut self, lines: &[u8]) -> bool {
        let mut left = lines;
        let mut works = !self.torn || self.write_some(b"\n").is_ok_and(|n| n == 1);
        while works && !left.is_empty() {
            match self.write_some(left) {
                Ok(n) if n > 0 => left = &left[n..],
                _ => works = false,
            }
        }
        let begun = left.len() < lines.len();
        if works || begun {
            let written = &lines[..lines.len() - left.len()];
            self.torn = written.last().is_some_and(|last| *last != b'\n');
        }
        if !works {
            self.counts.lose(left);
        }
        self.counts.pending.fetch_sub(1, Ordering::AcqRel);
        works
    }

    /// One write; waits while the descriptor is full.
    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.out.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(FULL_PAUSE),
                written => return written,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, PipeReader, pipe};
    use std::os::fd::OwnedFd;

    use super::*;

    fn piped() -> (LogQueue, PipeReader) {
        let (reader, writer) = pipe().expect("a pipe");
        let queue = LogQueue::start("test log", File::from(OwnedFd::from(writer))).expect("a thread");
        (queue, reader)
    }

    fn wait_until(condition: impl Fn() -> bool) {
        while !condition() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn lines_come_out_in_order() {
        let (queue, reader) = piped();
        queue.send(b"one\ntwo\n".to_vec());
        queue.send(b"three\n".to_vec());
        queue.flush();
        drop(queue);
        let lines: Vec<_> = BufReader::new(reader).lines().map_while(Result::ok).collect();
        assert_eq!(lines, ["one", "two", "three"]);
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_and_no_time() {
        let (queue, reader) = piped();
        let batch = [b"x".repeat(99), b"\n".to_vec()].concat().repeat(100);
        let sent = 2000;
        (0..sent).for_each(|_| queue.send(batch.clone()));
        assert!(queue.lost() > 0, "nobody reads, and nothing is lost");
        // What was accepted comes out whole once a reader is there.
        let lost = queue.lost();
        drop(queue);
        let lines = BufReader::new(reader).lines().map_while(Result::ok);
        let whole = lines.inspect(|line| assert_eq!(line.len(), 99)).count() as u64;
        assert_eq!(whole + lost, sent * 100);
    }

    #[test]
    fn a_reader_that_is_gone_costs_lines_and_not_the_writer() {
        let (queue, reader) = piped();
        drop(reader);
        queue.send(b"one\ntwo\n".to_vec());
        wait_until(|| queue.lost() == 2);
        queue.send(b"three\n".to_vec());
        wait_until(|| queue.lost() == 3);
        queue.flush();
    }

    #[test]
    fn a_full_disk_costs_lines_and_not_the_writer() {
        let full = File::options().write(true).open("/dev/full").expect("/dev/full");
        let queue = LogQueue::start("test log", full).expect("a thread");
        queue.send(b"one\n".to_vec());
        queue.send(b"two\n".to_vec());
        wait_until(|| queue.lost() == 2);
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next_one() {
        let (reader, writer) = pipe().expect("a pipe");
        let mut writer = Writer {
            name: "test log",
            out: File::from(OwnedFd::from(writer)),
            torn: true,
            counts: Arc::default(),
        };
        writer.counts.pending.store(1, Ordering::Release);
        assert!(writer.write(b"whole\n") && !writer.torn);
        drop(writer);
        let lines: Vec<_> = BufReader::new(reader).lines().map_while(Result::ok).collect();
        assert_eq!(lines, ["", "whole"]);
    }
}
