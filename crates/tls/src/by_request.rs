//! The server name that a request gives (`auto_sni`, rows S16 and S17).
//!
//! What a client writes into its request is no configuration: it is a name that TLS can carry, an address, or
//! nothing at all.

use std::borrow::Cow;
use std::net::IpAddr;

use nuncio_model::{AutoSni, TlsSettings, VerifyName};
use rustls_pki_types::DnsName;

/// What the authority of a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestName<'a> {
    /// A DNS name that can be sent: lower case, without trailing dot.
    Dns(Cow<'a, str>),
    /// An address; it is never sent (RFC 6066), and is the name to verify.
    Ip(IpAddr),
    /// Nothing that TLS knows: too long, empty, or no name at all.
    None,
}

impl<'a> RequestName<'a> {
    /// Of `host` or `:authority`, with or without port.
    pub fn of(authority: &'a str) -> Self {
        let host = host(authority);
        if let Ok(ip) = host.parse() {
            return Self::Ip(ip);
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        if DnsName::try_from(name).is_err() {
            return Self::None;
        }
        Self::Dns(if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        })
    }

    /// Different names have different texts; nothing has none.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Dns(name) => Cow::Borrowed(name),
            Self::Ip(ip) => Cow::Owned(ip.to_string()),
            Self::None => Cow::Borrowed(""),
        }
    }

    /// The settings of connections that carry requests with this name, and no other requests. Without a name
    /// they are verified by those of the configuration, so that they are never verified by none.
    pub fn settings(&self, configured: &TlsSettings) -> TlsSettings {
        let mut settings = configured.clone();
        let (sni, verified) = match (configured.auto_sni, self) {
            (AutoSni::Off, _) => return settings,
            (_, Self::Dns(name)) => {
                let name = name.as_ref().into();
                (Some(std::sync::Arc::clone(&name)), VerifyName::Dns(name))
            }
            (_, Self::Ip(ip)) => (None, VerifyName::Ip(*ip)),
            (_, Self::None) => return settings,
        };
        settings.sni = sni;
        if configured.auto_sni == AutoSni::SentAndVerified {
            settings.verify.names = [verified].into();
        }
        settings
    }
}

/// An authority without its port, and an IPv6 address without its brackets.
fn host(authority: &str) -> &str {
    if let Some(inner) = authority.strip_prefix('[') {
        return match inner.split_once(']') {
            Some((host, rest)) if (rest.is_empty() || is_port(rest)) && host.contains(':') => host,
            _ => authority,
        };
    }
    match authority.find(':') {
        Some(at) if is_port(&authority[at..]) => &authority[..at],
        _ => authority,
    }
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':')
        .is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::settings;

    #[test]
    fn s17_any_authority_is_a_name_an_address_or_nothing() {
        let label = "a".repeat(63);
        let longest = [&label[..], &label, &label, &label[..61]].join(".");
        let too_long = format!("{longest}a");
        for (authority, name) in [
            ("a.test", Some("a.test")),
            ("a.test:443", Some("a.test")),
            ("A.Test.:8443", Some("a.test")),
            ("a.test:", Some("a.test")),
            ("_a.b_c.test", Some("_a.b_c.test")),
            ("xn--bcher-kva.test", Some("xn--bcher-kva.test")),
            ("localhost", Some("localhost")),
            (&longest, Some(&longest)),
            (&too_long, None),
            ("", None),
            (".", None),
            (":443", None),
            ("a..test", None),
            (".a.test", None),
            ("-a.test", None),
            ("a.test:x", None),
            ("a.test:1:2", None),
            ("*.test", None),
            ("a%2etest", None),
            ("user@a.test", None),
            ("b\u{fc}cher.test", None),
            ("svc.2", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[a.test]", None),
        ] {
            let expected = name.map_or(RequestName::None, |name| RequestName::Dns(name.into()));
            assert_eq!(RequestName::of(authority), expected, "{authority}");
        }
        for (authority, ip) in [
            ("10.0.0.5", "10.0.0.5"),
            ("10.0.0.5:443", "10.0.0.5"),
            ("[2001:DB8::1]:443", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            let name = RequestName::of(authority);
            assert_eq!(name, RequestName::Ip(ip.parse().expect("an address")));
            assert_eq!(name.text(), ip);
        }
        let endless = "a.".repeat(32 * 1024);
        assert_eq!(RequestName::of(&endless), RequestName::None);
    }

    #[test]
    fn s16_the_name_is_sent_and_verified_where_none_is_configured() {
        let mut configured = settings();
        configured.sni = None;
        let names = configured.verify.names.clone();
        let dns = RequestName::of("b.test:443");
        assert_eq!(dns.settings(&configured), configured, "it is off");
        configured.auto_sni = AutoSni::Sent;
        let sent = dns.settings(&configured);
        assert_eq!(
            (sent.sni.as_deref(), &sent.verify.names),
            (Some("b.test"), &names)
        );
        configured.auto_sni = AutoSni::SentAndVerified;
        let verified = dns.settings(&configured);
        assert_eq!(verified.sni.as_deref(), Some("b.test"));
        assert_eq!(*verified.verify.names, [VerifyName::Dns("b.test".into())]);
        let address = RequestName::of("10.0.0.5").settings(&configured);
        assert_eq!(address.sni, None);
        assert_eq!(*address.verify.names, [VerifyName::Ip([10, 0, 0, 5].into())]);
        let nothing = RequestName::of("").settings(&configured);
        assert_eq!((nothing.sni, nothing.verify.names), (None, names));
    }
}
