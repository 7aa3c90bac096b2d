//! What the caller decides: identity of this gateway, defaults from the environment, the time.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::SystemTime;

use nuncio_model::VerifyMode;

/// Settings of a compile that are in no manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `AMBASSADOR_ID`: objects for another one are ignored.
    pub ambassador_id: String,
    /// `AMBASSADOR_NAMESPACE`: the gateway's own namespace.
    pub namespace: String,
    /// `AMBASSADOR_SINGLE_NAMESPACE`: objects of other namespaces are ignored.
    pub single_namespace: bool,
    /// `AMBASSADOR_CERTS_SINGLE_NAMESPACE`: Secrets of other namespaces are ignored.
    pub certs_single_namespace: bool,
    /// `NUNCIO_UPSTREAM_VERIFY_MODE`: the mode where neither TLSContext nor Module says one.
    pub verify_mode: Option<VerifyMode>,
    /// `--resolve`: upstreams that are reached at a given address; the first that fits counts.
    pub resolve: Vec<ResolveRule>,
    /// Open the default HTTP listener when no Listener exists (file mode).
    pub open_default_listeners: bool,
    /// The port of the admin interface, where a Listener on it would meet that: no Listener may have it.
    pub admin_port: Option<u16>,
    /// `AMBASSADOR_FORCE_SECRET_VALIDATION`: every Secret is looked through and an unusable one withheld from
    /// everybody; a Host that names it is disabled whole.
    pub force_secret_validation: bool,
    /// `AMBASSADOR_ISTIO_SECRET_DIR`: the folder whose [`crate::istio_files`] are the Secret `istio-certs`.
    pub istio_directory: Option<PathBuf>,
    /// `DISABLE_STRICT_LABEL_SELECTORS`: one label of a selector is enough.
    pub loose_label_selectors: bool,
    /// The present, for findings about certificates; compile reads no clock.
    pub now: SystemTime,
    /// Number of the snapshot that is built.
    pub revision: u64,
}

impl Default for Options {
    /// Id and namespace `default`, everything else off, the epoch as the present.
    fn default() -> Self {
        Self {
            ambassador_id: "default".into(),
            namespace: "default".into(),
            single_namespace: false,
            certs_single_namespace: false,
            verify_mode: None,
            resolve: Vec::new(),
            open_default_listeners: false,
            admin_port: None,
            force_secret_validation: false,
            istio_directory: None,
            loose_label_selectors: false,
            now: SystemTime::UNIX_EPOCH,
            revision: 0,
        }
    }
}

/// One `--resolve HOST:PORT:ADDR[:PORT]`: this upstream host and port is reached there, without DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveRule {
    /// Host of the `service` as it is after qualification, lower case.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Where to connect instead.
    pub address: IpAddr,
    /// Port to connect to; `port` where absent.
    pub to_port: Option<u16>,
}

/// Why a `--resolve` value cannot be read; one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveRuleError(String);

impl fmt::Display for ResolveRuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ResolveRuleError {}

impl FromStr for ResolveRule {
    type Err = ResolveRuleError;

    /// Reads `HOST:PORT:ADDR[:PORT]`; IPv6 addresses stand in brackets, on either side.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |what: &str| ResolveRuleError(format!("`{text}` {what}; write HOST:PORT:ADDR[:PORT]"));
        let (host, rest) = take_part(text).ok_or_else(|| fail("has no host"))?;
        let (port, rest) = take_part(rest).ok_or_else(|| fail("has no port"))?;
        let port = port
            .parse()
            .map_err(|_| fail("has a port that is no number up to 65535"))?;
        let (address, rest) = take_part(rest).ok_or_else(|| fail("has no address"))?;
        let address = address
            .parse()
            .map_err(|_| fail("has an address that is no IP address"))?;
        let to_port = match rest {
            "" => None,
            port => Some(
                port.parse()
                    .map_err(|_| fail("has a second port that is no number up to 65535"))?,
            ),
        };
        Ok(Self {
            host: host.to_lowercase(),
            port,
            address,
            to_port,
        })
    }
}

/// The part up to the next `:` that is not in brackets, without its brackets, and what follows.
fn take_part(text: &str) -> Option<(&str, &str)> {
    let (part, rest) = match text.strip_prefix('[') {
        Some(inner) => {
            let (part, rest) = inner.split_once(']')?;
            (
                part,
                rest.strip_prefix(':').or_else(|| rest.is_empty().then_some(""))?,
            )
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    (!part.is_empty()).then_some((part, rest))
}
