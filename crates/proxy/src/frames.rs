//! Where an HTTP/2 client is between two frames (RFC 9113 section 4.1), so that one that stops in the middle
//! of a head is told from one that is idle, and one that floods from both. Frames are counted off by their lengths;
//! what they say is h2's business alone.

mod flood;

use std::time::Instant;

use self::flood::Credit;
pub(crate) use self::flood::Flood;

/// The length of a frame's own head.
const FRAME_HEAD: usize = 9;
/// The bytes before the first frame, RFC 9113 section 3.4.
const PREFACE: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
/// Of HEADERS and CONTINUATION: the header block ends with this frame.
const END_HEADERS: u8 = 4;

/// Follows the frames of one connection.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Bytes of the preface that have not come.
    preface: usize,
    /// As much of a frame's head as has come.
    head: [u8; FRAME_HEAD],
    length: usize,
    /// Bytes of a frame's payload that have not come.
    payload: usize,
    /// The first frame came.
    begun: bool,
    /// A header block goes on in the next frame.
    open_block: bool,
    credit: Credit,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            preface: PREFACE,
            head: [0; FRAME_HEAD],
            length: 0,
            payload: 0,
            begun: false,
            open_block: false,
            credit: Credit::default(),
        }
    }
}

impl Frames {
    /// Whether something other than data was begun and not ended: the preface with its SETTINGS, a frame, or
    /// a header block.
    pub(crate) fn in_head(&self) -> bool {
        let in_frame = self.length > 0 && (self.length < FRAME_HEAD || self.head[3] != DATA);
        !self.begun || in_frame || self.open_block
    }

    /// So many bytes were sent to the client.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.credit.sent(bytes);
    }

    /// Watches bytes on their way.
    pub(crate) fn watch(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        let preface = self.preface.min(bytes.len());
        self.preface -= preface;
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            let missing = (FRAME_HEAD - self.length).min(bytes.len());
            self.head[self.length..self.length + missing].copy_from_slice(&bytes[..missing]);
            self.length += missing;
            bytes = &bytes[missing..];
            if self.length < FRAME_HEAD {
                return Ok(());
            }
            if missing > 0 {
                let [a, b, c, kind, ..] = self.head;
                self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.credit.begins(kind, self.payload, Instant::now)?;
            }
            let payload = self.payload.min(bytes.len());
            self.payload -= payload;
            bytes = &bytes[payload..];
            if self.payload == 0 {
                self.frame_ended();
            }
        }
        Ok(())
    }

    fn frame_ended(&mut self) {
        let [_, _, _, kind, flags, ..] = self.head;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.open_block = flags & END_HEADERS == 0;
        }
        self.begun = true;
        self.length = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("short");
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn begun() -> Vec<u8> {
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, b"")].concat()
    }

    /// Feeds `bytes` whole, then byte by byte: both must say the same.
    fn in_head(bytes: &[u8]) -> bool {
        let (mut whole, mut single) = (Frames::default(), Frames::default());
        whole.watch(bytes).unwrap();
        bytes
            .iter()
            .for_each(|byte| single.watch(std::slice::from_ref(byte)).unwrap());
        assert_eq!(whole.in_head(), single.in_head());
        whole.in_head()
    }

    #[test]
    fn what_was_begun_is_told_from_an_idle_connection() {
        let with = |more: &[u8]| in_head(&[&begun(), more].concat());
        assert!(in_head(b"PRI * HTTP/2.0\r\n\r\nSM"), "part of the preface");
        assert!(in_head(&begun()[..PREFACE]), "no SETTINGS yet");
        assert!(!with(b""));
        let headers = frame(HEADERS, END_HEADERS, b"block");
        assert!(!with(&headers));
        for part in 1..headers.len() {
            assert!(with(&headers[..part]), "{part} bytes of HEADERS");
        }
        let open = frame(HEADERS, 0, b"block");
        assert!(with(&open), "the block goes on");
        assert!(with(&[open.clone(), frame(CONTINUATION, 0, b"more")].concat()));
        assert!(!with(&[open, frame(CONTINUATION, END_HEADERS, b"more")].concat()));
    }

    #[test]
    fn data_that_comes_slowly_is_no_head() {
        let data = frame(DATA, 0, b"content");
        let with = |part: usize| in_head(&[&begun(), &data[..part]].concat());
        assert!(!with(FRAME_HEAD) && !with(FRAME_HEAD + 3) && !with(data.len()));
    }
}
