//! Manifests in, snapshot and problems out.
//!
//! `cases` holds folders of manifests with the expected outcome beside them; the other modules are the
//! rows of the specification, with certificates that are made on the spot.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, also in its helpers"
)]

mod advice;
mod cases;
mod contexts;
mod directory;
mod expiry;
mod guards;
mod hosts;
mod makers;
mod material;
mod memory;
mod originate;
mod origins;
mod requests;
mod revocation;
mod routes;
mod secrets;
mod sharing;
mod slips;
mod summary;
mod validation;
mod world;
mod yaml;
