//! What a peer speaks that answers a ClientHello with anything but TLS, by its first bytes.

/// Bytes of it that a message shows.
const SHOWN_BYTES: usize = 32;

/// An answer that is no TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Foreign<'a> {
    pub(crate) protocol: Protocol,
    bytes: &'a [u8],
}

/// Protocols that are known by how they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Http2,
    /// The record of SSL 2.0, which looks like none of its successors.
    Ssl2,
    Ssh,
    SmtpOrFtp,
    Imap,
    Pop3,
    MySql,
    PostgreSql,
    Redis,
    Unknown,
}

impl<'a> Foreign<'a> {
    /// What began with `bytes`; none where they may begin a TLS record, or where there are none.
    pub(crate) fn of(bytes: &'a [u8]) -> Option<Self> {
        let protocol = Protocol::of(bytes);
        (!bytes.is_empty() && !is_tls(bytes)).then_some(Self { protocol, bytes })
    }

    /// The first bytes, as far as they can be printed.
    pub(crate) fn shown(&self) -> String {
        let printable = |byte: u8| {
            if byte.is_ascii_graphic() || byte == b' ' {
                char::from(byte)
            } else {
                '.'
            }
        };
        self.bytes
            .iter()
            .take(SHOWN_BYTES)
            .map(|byte| printable(*byte))
            .collect()
    }
}

impl Protocol {
    fn of(bytes: &[u8]) -> Self {
        const BEGINNINGS: &[(&[u8], Protocol)] = &[
            (b"HTTP/", Protocol::Http),
            (b"<!", Protocol::Http),
            (b"<html", Protocol::Http),
            (b"SSH-", Protocol::Ssh),
            (b"220 ", Protocol::SmtpOrFtp),
            (b"220-", Protocol::SmtpOrFtp),
            (b"554 ", Protocol::SmtpOrFtp),
            (b"* OK", Protocol::Imap),
            (b"* BYE", Protocol::Imap),
            (b"+OK", Protocol::Pop3),
            (b"-ERR unknown command", Protocol::Redis),
            (b"-ERR Protocol error", Protocol::Redis),
            (b"-ERR", Protocol::Pop3),
        ];
        let begins = BEGINNINGS
            .iter()
            .find(|(beginning, _)| bytes.starts_with(beginning));
        match (begins, bytes) {
            (Some((_, protocol)), _) => *protocol,
            // The server's first SETTINGS frame on stream 0 (RFC 9113 section 6.5).
            (_, [0, _, _, 4, 0, 0, 0, 0, 0, ..]) => Self::Http2,
            // A SERVER-HELLO or an ERROR behind a length of two bytes.
            (_, [0x80..=0x83, _, 4, ..] | [0x80, 3, 0, 0, 1..=6]) => Self::Ssl2,
            // A greeting of protocol 10, or the error of a server that takes no more connections.
            (_, [_, _, 0, 0, 10 | 255, ..]) => Self::MySql,
            // An ErrorResponse: a length below 64 KiB, then the field of its severity.
            (_, [b'E', 0, 0, _, _, b'S', ..]) => Self::PostgreSql,
            _ => Self::Unknown,
        }
    }

    /// What it is called; none where nobody knows.
    pub(crate) fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Http => "plain HTTP",
            Self::Http2 => "plain HTTP/2",
            Self::Ssl2 => "SSL 2.0",
            Self::Ssh => "SSH",
            Self::SmtpOrFtp => "SMTP or FTP",
            Self::Imap => "IMAP",
            Self::Pop3 => "POP3",
            Self::MySql => "MySQL",
            Self::PostgreSql => "PostgreSQL",
            Self::Redis => "Redis",
            Self::Unknown => return None,
        })
    }
}

/// Whether bytes may begin a TLS record: one of its content types, then major version 3.
fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [20..=24] | [20..=24, 3, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_known_by_how_they_begin() {
        let cases: &[(&[u8], Option<Protocol>)] = &[
            (b"HTTP/1.1 400 Bad Request\r\n", Some(Protocol::Http)),
            (b"<!DOCTYPE html>", Some(Protocol::Http)),
            (b"\0\0\x12\x04\0\0\0\0\0\0\x03", Some(Protocol::Http2)),
            (b"SSH-2.0-OpenSSH_9.6\r\n", Some(Protocol::Ssh)),
            (b"220 mail ESMTP\r\n", Some(Protocol::SmtpOrFtp)),
            (b"* OK IMAP4rev1 ready", Some(Protocol::Imap)),
            (b"+OK POP3 ready", Some(Protocol::Pop3)),
            (b"J\0\0\0\x0a8.0.36\0", Some(Protocol::MySql)),
            (b"E\0\0\0\x85SFATAL\0VFATAL\0C08P01\0", Some(Protocol::PostgreSql)),
            (b"-ERR unknown command", Some(Protocol::Redis)),
            (b"-ERR what", Some(Protocol::Pop3)),
            (&[0x80, 0x2e, 4, 0, 1, 0, 2], Some(Protocol::Ssl2)),
            (&[0x80, 3, 0, 0, 1], Some(Protocol::Ssl2)),
            (b"\x00\x1b[31m", Some(Protocol::Unknown)),
            // DTLS has a version of its own.
            (&[22, 254, 253, 0, 0], Some(Protocol::Unknown)),
            (&[22, 3, 3, 0, 4], None),
            (&[21], None),
            (b"", None),
        ];
        for (bytes, protocol) in cases {
            assert_eq!(
                Foreign::of(bytes).map(|foreign| foreign.protocol),
                *protocol,
                "{bytes:?}"
            );
        }
    }
}
