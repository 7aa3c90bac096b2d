//! Frames of HTTP/2 that cost something and ask for nothing.
//!
//! h2 ends a connection over CONTINUATION and DATA frames without end, but answers as many PING and SETTINGS as come,
//! and reads PRIORITY, WINDOW_UPDATE, RST_STREAM and frames that it does not know for as long as they come (RFC 9113
//! section 10.5). Here they are counted against what the client does.

use std::time::Instant;

use super::{CONTINUATION, DATA, HEADERS};

/// Frames that a client may send without another reason, and the most that it can save up.
const MOST: u64 = 2000;
/// For each second of the connection: keep-alives, and windows that open without haste.
const A_SECOND: u64 = 10;
/// For each frame that opens a stream or carries content: its window, its priority, its reset, a PING beside it.
const A_REQUEST: u64 = 4;
/// A client opens two windows for each frame of an answer, which has 16 KiB where there is haste.
const BYTES_SENT: u64 = 1024;

/// The client sends more control frames than anything it does accounts for.
#[derive(Debug, thiserror::Error)]
#[error("the client sends HTTP/2 control frames without end")]
pub(crate) struct Flood;

/// How many more control frames a client may send.
#[derive(Debug)]
pub(super) struct Credit {
    frames: u64,
    /// Bytes sent to it that no credit was given for.
    sent: u64,
    since: Instant,
}

impl Default for Credit {
    fn default() -> Self {
        Self {
            frames: MOST,
            sent: 0,
            since: Instant::now(),
        }
    }
}

impl Credit {
    /// So many bytes were sent to the client.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        self.gain(self.sent / BYTES_SENT);
        self.sent %= BYTES_SENT;
    }

    /// A frame of this kind begins.
    pub(super) fn begins(
        &mut self,
        kind: u8,
        payload: usize,
        now: impl Fn() -> Instant,
    ) -> Result<(), Flood> {
        match kind {
            HEADERS => self.gain(A_REQUEST),
            DATA if payload > 0 => self.gain(A_REQUEST),
            // h2 counts these itself.
            DATA | CONTINUATION => {}
            _ => return self.spend(now),
        }
        Ok(())
    }

    fn gain(&mut self, frames: u64) {
        self.frames = MOST.min(self.frames + frames);
    }

    fn spend(&mut self, now: impl Fn() -> Instant) -> Result<(), Flood> {
        if self.frames == 0 {
            let now = now();
            self.gain(now.saturating_duration_since(self.since).as_secs() * A_SECOND);
            self.since = now;
        }
        self.frames = self.frames.checked_sub(1).ok_or(Flood)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const WINDOW_UPDATE: u8 = 8;

    fn many(credit: &mut Credit, kind: u8, times: u64) -> Result<(), Flood> {
        let now = credit.since;
        (0..times).try_for_each(|_| credit.begins(kind, 4, || now))
    }

    #[test]
    fn control_frames_without_end_are_a_flood() {
        for kind in [2, 3, 4, 6, WINDOW_UPDATE, 0xee] {
            let mut credit = Credit::default();
            many(&mut credit, kind, MOST).unwrap();
            assert!(many(&mut credit, kind, 1).is_err(), "{kind}");
        }
    }

    #[test]
    fn what_a_client_does_accounts_for_its_frames() {
        let mut credit = Credit::default();
        for kind in [HEADERS, DATA] {
            for _ in 0..MOST {
                many(&mut credit, kind, 1).unwrap();
                many(&mut credit, WINDOW_UPDATE, A_REQUEST).unwrap();
            }
        }
        for _ in 0..MOST {
            credit.sent(16 * 1024);
            many(&mut credit, WINDOW_UPDATE, 2).unwrap();
        }
    }

    #[test]
    fn a_connection_may_be_kept_alive_for_ever() {
        let mut credit = Credit::default();
        let mut now = credit.since;
        for _ in 0..10 * MOST {
            now += Duration::from_secs(1);
            credit.begins(6, 8, || now).unwrap();
        }
    }
}
