//! The data plane on the wire: bytes in, bytes out, through the running gateway.

mod answers;
mod bodies;
mod callers;
mod client_floods;
mod connections;
mod drain;
mod failures;
mod floods;
mod framing;
mod handshakes;
mod headers;
mod hostile;
mod interim;
mod logins;
mod malformed;
mod paths;
mod records;
mod reload;
mod restart;
mod retries;
mod routing;
pub(crate) mod socket;
mod upgrades;
mod versions;
