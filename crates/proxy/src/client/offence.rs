//! What clients do that ends their connection: counted, and reported in the program's log once in a while.

use crate::incoming::HttpError;

/// Why a connection ended that was its client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Offence {
    /// A head that cannot be read.
    MalformedHead,
    /// A head with more bytes or fields than may be.
    HeadTooLarge,
    /// Frames of HTTP/2 that break its rules, or that h2 has seen too many of.
    Protocol,
    /// Control frames of HTTP/2 without end.
    Flood,
    /// Most requests are broken off before they are answered.
    Resets,
}

impl Offence {
    pub(crate) const ALL: [Self; 5] = [
        Self::MalformedHead,
        Self::HeadTooLarge,
        Self::Protocol,
        Self::Flood,
        Self::Resets,
    ];

    /// The one that ended a connection; none where it ended as connections do. `flooded`: it was cut for that.
    pub(crate) fn of(ended: Option<Result<(), HttpError>>, flooded: bool) -> Option<Self> {
        let error = ended?.err()?;
        if flooded {
            Some(Self::Flood)
        } else if error.is_too_large() {
            Some(Self::HeadTooLarge)
        } else if error.is_parse() {
            Some(Self::MalformedHead)
        } else {
            error.breaks_http2().then_some(Self::Protocol)
        }
    }

    /// The label in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::MalformedHead => "malformed_head",
            Self::HeadTooLarge => "head_too_large",
            Self::Protocol => "http2_protocol",
            Self::Flood => "http2_flood",
            Self::Resets => "http2_resets",
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::MalformedHead => "a client sent the head of a request that cannot be read",
            Self::HeadTooLarge => "a client sent a head with more bytes or fields than are allowed",
            Self::Protocol => "a client broke the rules of HTTP/2, or sent frames without end",
            Self::Flood => "a client sent HTTP/2 control frames without end",
            Self::Resets => "a client breaks off most of its HTTP/2 requests before they are answered",
        }
    }
}
