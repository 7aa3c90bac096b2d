//! The gateway against programs that nobody here wrote: openssl, nginx, HAProxy, Envoy and Caddy as TLS
//! upstreams, curl and h2load as clients, and Envoy beside it in front of the same upstream. `make test-peers` installs what is missing and runs these; a program
//! that is not there fails its tests.

mod beside;
mod clients;
mod files;
mod foreign;
mod gateway;
mod pages;
mod servers;
mod special;
mod upstreams;

/// What a test gives back: its failure names the program and what it said.
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;
