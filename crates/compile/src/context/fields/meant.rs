//! What a value says, and what one that says nothing was probably meant to say.

use nuncio_model::VerifyName;

use crate::{names, service};

/// What to write in place of a name that is no version of HTTP.
pub(super) fn protocol(name: &str) -> &'static str {
    let letters = name
        .to_ascii_lowercase()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "");
    match letters.as_str() {
        _ if name.contains([' ', ';', '|']) => "put a comma between two names",
        "http2" | "http20" | "h2c" | "h2" => "did you mean `h2`?",
        "http1" | "http11" | "h11" | "http" => "did you mean `http/1.1`?",
        _ => "write h2, http/1.1 or both, unless that is meant",
    }
}

pub(super) fn verify_name(text: &str) -> Result<VerifyName, &'static str> {
    if let Some(ip) = names::ip(text) {
        return Ok(VerifyName::Ip(ip));
    }
    if text.contains("://") {
        return Ok(VerifyName::Uri(text.into()));
    }
    names::dns_name(text).map(|name| VerifyName::Dns(name.trim_end_matches('.').into()))
}

/// Whether a URI is the address of a server, where its host was meant.
pub(super) fn is_web_address(uri: &str) -> bool {
    let scheme = uri.split("://").next().unwrap_or_default();
    ["http", "https"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
}

/// What to write in place of what is no server name.
pub(super) fn server_name(text: &str) -> String {
    let host = service::host_in_url(text).unwrap_or_else(|| text.to_owned());
    match names::dns_name(names::without_port(&host)) {
        Ok(name) if names::is_server_name(&name) => format!("write `{name}`"),
        _ => "write a DNS name".to_owned(),
    }
}
