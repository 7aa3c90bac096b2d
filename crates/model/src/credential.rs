//! Names of headers and query parameters whose values may be credentials.

/// Parts of a name that say that its value may be a credential, in lower case.
const PARTS: [&str; 9] = [
    "authorization",
    "cookie",
    "credential",
    "key",
    "passwd",
    "password",
    "secret",
    "session",
    "token",
];

/// What stands for a value that is not shown.
pub const HIDDEN: &str = "…";

/// Whether the value of a header or query parameter of this name may be a credential, so that it is shown as
/// [`HIDDEN`] to those who may not read the configuration itself.
pub fn may_be_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_credentials_are_recognised() {
        for name in [
            "authorization",
            "Proxy-Authorization",
            "cookie",
            "x-api-key",
            "apikey",
            "X-Auth-Token",
            "client_secret",
            "sessionid",
        ] {
            assert!(may_be_credential(name), "{name}");
        }
        for name in ["x-version", "accept", "user-agent", "page"] {
            assert!(!may_be_credential(name), "{name}");
        }
    }
}
