//! The rows of the case table: one test a row, by its number, through the running gateway.

mod c;
mod d;
mod f;
mod g;
mod k;
mod p;
mod r;
mod s;
mod v;

use crate::support::peer::Upstream;
use crate::support::program::{Gateway, Plan, mapping, tls_context};

/// A Mapping `m` of every path to `https://a.test`, which is `upstream`: further lines of its spec, and those
/// of its TLSContext's. Without any of the latter there is no TLSContext.
fn origination(upstream: &Upstream, lines: &[&str], context: &[&str]) -> Plan {
    let mut lines = lines.to_vec();
    let mut manifests = String::new();
    if !context.is_empty() {
        lines.push("tls: ctx");
        manifests = tls_context("ctx", context);
    }
    manifests += &mapping("m", "/", "https://a.test", &lines);
    Gateway::with(manifests).resolve("a.test:443", upstream.address)
}
