//! The Module `ambassador`: settings of the whole gateway and defaults of other kinds.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderValue;
use nuncio_crds::{AddedHeader, ModuleConfig, ModuleDefaults, ModuleSpec, NumberOrList, RetryPolicySpec};
use nuncio_model::{
    Covers, ExpiryWarnings, Guard, HeaderEdits, Origin, Reason, RetryPolicy, Settings, VerifyMode,
};

use crate::decode::{self, Decoded};
use crate::guards;
use crate::mapping::{headers, retry};
use crate::problems::Problems;
use crate::unread;
use crate::{Object, Options};

/// Default of `timeout_ms` and `connect_timeout_ms`.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_millis(3000);

/// The earliest that a certificate may be warned of.
const MOST_DAYS: u16 = 3650;

/// The most warnings of one certificate.
const MOST_WARNINGS: usize = 8;

/// What the Module says, with defaults in place of what it does not.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gateway {
    /// For every request.
    pub(crate) settings: Settings,
    /// Of requests whose Mapping sets none; none means no limit.
    pub(crate) request_timeout: Option<Duration>,
    /// Of requests whose Mapping has none.
    pub(crate) retry: Option<RetryPolicy>,
    /// Whether `name.namespace` names a Secret elsewhere, where the TLSContext does not say.
    pub(crate) secret_namespacing: bool,
    /// Verification where nothing else says, and who said so. None means by whether there is a CA.
    pub(crate) verify_mode: Option<(VerifyMode, Origin)>,
    /// `resolver` of Mappings that have none.
    pub(crate) resolver: Option<String>,
    /// Bare service names mean the gateway's namespace.
    pub(crate) services_in_own_namespace: bool,
    /// Nobody can be asked which addresses may pass.
    pub(crate) by_address: Option<Guard>,
    /// Edits of requests whose Mapping says nothing about them (A33).
    pub(crate) request_headers: HeaderEdits,
    /// Edits of responses whose Mapping says nothing about them (A33).
    pub(crate) response_headers: HeaderEdits,
}

/// Reads the Module; of several the one in the gateway's namespace counts, else the first.
pub(crate) fn read(modules: &[&Object], options: &Options, problems: &mut Problems) -> Gateway {
    let own = modules
        .iter()
        .position(|module| *module.reference.namespace == *options.namespace);
    let chosen = own.unwrap_or(0);
    for (index, module) in modules.iter().enumerate() {
        if index != chosen {
            let message = format!(
                "{} has no effect, because {} is the one that counts; keep one",
                module.reference, modules[chosen].reference
            );
            problems.warning(module, "duplicate", "metadata.name", message);
        }
    }
    match modules.get(chosen) {
        Some(module) => from_module(module, options, problems),
        None => Reader::new(options).finish(ModuleConfig::default()),
    }
}

fn from_module(module: &Object, options: &Options, problems: &mut Problems) -> Gateway {
    let decoded = decode::spec::<ModuleSpec>(module, problems);
    let broken_mode = decoded
        .broken
        .iter()
        .any(|(path, _)| "config.defaults.upstream_tls_verify_mode".starts_with(path));
    let by_address = by_address(module, &decoded, problems);
    let mut reader = Reader {
        module: Some(module),
        options,
        problems: Some(problems),
    };
    let mut gateway = reader.finish(decoded.spec.config.unwrap_or_default());
    if broken_mode {
        gateway.verify_mode = Some((VerifyMode::Full, Origin::Module(VERIFY_MODE.into())));
    }
    gateway.by_address = by_address;
    gateway
}

/// What stands for lists of addresses, which nobody goes by yet: no request passes.
fn by_address(module: &Object, decoded: &Decoded<ModuleSpec>, problems: &mut Problems) -> Option<Guard> {
    let mut first = None;
    let config = decoded.spec.config.as_ref();
    let lists = [
        config.and_then(|config| config.ip_allow.as_ref()),
        config
            .and_then(|config| config.ip_deny.as_ref())
            .filter(|denied| **denied != serde_json::json!([])),
    ];
    for (name, list) in guards::ADDRESS_LISTS.into_iter().zip(lists) {
        let path = format!("config.{name}");
        // Where something around it cannot be read, whether there is a list is seen in the document alone.
        let broken = decoded
            .broken
            .iter()
            .find(|(broken, _)| *broken == path || module.document.mentions(&format!("\"{name}\":[")));
        let message = match (list, broken) {
            (Some(_), _) => {
                let field = format!("spec.{path}");
                let message = format!(
                    "`{field}` is not supported yet, so every request is answered 503; limit addresses in front of the gateway, and remove it"
                );
                problems.error(module, Reason::FilterUnresolved.code(), &field, &*message);
                message
            }
            (None, Some((_, message))) => message.clone(),
            (None, None) => continue,
        };
        first.get_or_insert_with(|| unread::guard(module, Covers::Every, &message));
    }
    first
}

type Added = BTreeMap<String, AddedHeader>;

const VERIFY_MODE: &str = "spec.config.defaults.upstream_tls_verify_mode";

struct Reader<'a> {
    module: Option<&'a Object>,
    options: &'a Options,
    problems: Option<&'a mut Problems>,
}

impl<'a> Reader<'a> {
    fn new(options: &'a Options) -> Self {
        Self {
            module: None,
            options,
            problems: None,
        }
    }

    fn error(&mut self, field: &str, message: &str) {
        if let (Some(module), Some(problems)) = (self.module, self.problems.as_deref_mut()) {
            problems.error(module, "bad_value", field, message);
        }
    }

    fn finish(&mut self, mut config: ModuleConfig) -> Gateway {
        let defaults = config.defaults.take().unwrap_or_default();
        let (request_headers, response_headers) = self.headers(&defaults);
        Gateway {
            retry: self.retry(config.retry_policy.as_ref()),
            request_timeout: self.request_timeout(config.cluster_request_timeout_ms),
            secret_namespacing: defaults.tls_secret_namespacing.unwrap_or(true),
            verify_mode: self.verify_mode(&defaults),
            resolver: config.resolver.clone().filter(|name| !name.is_empty()),
            services_in_own_namespace: config
                .use_ambassador_namespace_for_service_resolution
                .unwrap_or(false),
            settings: self.settings(&config),
            by_address: None,
            request_headers,
            response_headers,
        }
    }

    fn settings(&mut self, config: &ModuleConfig) -> Settings {
        let built_in = Settings::default();
        Settings {
            server_name: self
                .server_name(config.server_name.as_deref())
                .unwrap_or(built_in.server_name),
            max_request_headers_bytes: self
                .positive("max_request_headers_kb", config.max_request_headers_kb)
                .and_then(|kib| usize::try_from(kib).ok()?.checked_mul(1024))
                .unwrap_or(built_in.max_request_headers_bytes),
            client_idle_timeout: self
                .positive("listener_idle_timeout_ms", config.listener_idle_timeout_ms)
                .map_or(built_in.client_idle_timeout, Duration::from_millis),
            merge_slashes: config.merge_slashes.unwrap_or(built_in.merge_slashes),
            reject_escaped_slashes: config
                .reject_requests_with_escaped_slashes
                .unwrap_or(built_in.reject_escaped_slashes),
            enable_http10: config.enable_http10.unwrap_or(built_in.enable_http10),
            strip_matching_host_port: config
                .strip_matching_host_port
                .unwrap_or(built_in.strip_matching_host_port),
            preserve_external_request_id: config
                .preserve_external_request_id
                .unwrap_or(built_in.preserve_external_request_id),
            suppress_envoy_headers: config
                .suppress_envoy_headers
                .unwrap_or(built_in.suppress_envoy_headers),
            upstream_max_handshakes: self
                .positive("upstream_max_handshakes", config.upstream_max_handshakes)
                .and_then(|most| usize::try_from(most).ok())
                .unwrap_or(built_in.upstream_max_handshakes),
            min_request_rate: self
                .min_request_rate(config.min_request_rate)
                .unwrap_or(built_in.min_request_rate),
            certificate_expiry_warnings: self
                .expiry_warnings(config.certificate_expiry_warning_days.as_ref())
                .unwrap_or(built_in.certificate_expiry_warnings),
        }
    }

    /// 0, alone, or an empty list turns the warnings off; a number that is none of days brings the default.
    fn expiry_warnings(&mut self, days: Option<&NumberOrList>) -> Option<ExpiryWarnings> {
        const FIELD: &str = "spec.config.certificate_expiry_warning_days";
        let days = days?.as_slice();
        if matches!(days, [] | [0]) {
            return Some(ExpiryWarnings::new([]));
        }
        let checked: Option<Vec<u16>> = days
            .iter()
            .map(|days| {
                u16::try_from(*days)
                    .ok()
                    .filter(|days| (1..=MOST_DAYS).contains(days))
            })
            .collect();
        let flaw = match checked {
            Some(checked) if checked.len() <= MOST_WARNINGS => return Some(ExpiryWarnings::new(checked)),
            Some(_) => format!("has {} numbers", days.len()),
            None => {
                let wrong = days
                    .iter()
                    .find(|days| !(1..=i64::from(MOST_DAYS)).contains(*days));
                format!("has {}", wrong.copied().unwrap_or_default())
            }
        };
        let message = format!(
            "`{FIELD}` {flaw}, so the default of 30 and 7 is used; write up to {MOST_WARNINGS} numbers of days from 1 \
             to {MOST_DAYS}, or 0 alone for no warnings"
        );
        self.error(FIELD, &message);
        None
    }

    fn server_name(&mut self, name: Option<&str>) -> Option<HeaderValue> {
        let name = name?;
        HeaderValue::from_str(name)
            .inspect_err(|_| self.bad_server_name())
            .ok()
    }

    fn bad_server_name(&mut self) {
        let message =
            "`spec.config.server_name` has characters that no header has, so the default is used; correct it";
        self.error("spec.config.server_name", message);
    }

    fn positive(&mut self, name: &str, value: Option<i64>) -> Option<u64> {
        let value = value?;
        let checked = u64::try_from(value).ok().filter(|value| *value > 0);
        if checked.is_none() {
            let field = format!("spec.config.{name}");
            self.error(
                &field,
                &format!("`{field}` is {value}, so the default is used; it must be above 0"),
            );
        }
        checked
    }

    /// 0 asks for no rate.
    fn min_request_rate(&mut self, value: Option<i64>) -> Option<u64> {
        match value {
            Some(0) => Some(0),
            value => self.positive("min_request_rate", value),
        }
    }

    fn request_timeout(&mut self, value: Option<i64>) -> Option<Duration> {
        match value {
            None => Some(DEFAULT_TIMEOUT),
            Some(0) => None,
            Some(_) => {
                let value = self.positive("cluster_request_timeout_ms", value);
                Some(value.map_or(DEFAULT_TIMEOUT, Duration::from_millis))
            }
        }
    }

    fn retry(&mut self, spec: Option<&RetryPolicySpec>) -> Option<RetryPolicy> {
        let (module, problems) = (self.module?, self.problems.as_deref_mut()?);
        retry::read(module, "spec.config.retry_policy", spec?, problems)
    }

    /// `defaults.httpmapping.x` first, then `defaults.x`.
    fn headers(&mut self, defaults: &ModuleDefaults) -> (HeaderEdits, HeaderEdits) {
        let (Some(module), Some(problems)) = (self.module, self.problems.as_deref_mut()) else {
            return Default::default();
        };
        let own = defaults.httpmapping.as_ref();
        let field = |name: &str, is_own: bool| {
            let class = if is_own { "httpmapping." } else { "" };
            format!("spec.config.defaults.{class}{name}")
        };
        let mut add = |name: &str, own: Option<&Added>, shared: &Option<Added>| match own.or(shared.as_ref())
        {
            Some(map) => headers::additions(module, &field(name, own.is_some()), map, problems),
            None => Vec::new(),
        };
        let request = add(
            "add_request_headers",
            own.and_then(|own| own.add_request_headers.as_ref()),
            &defaults.add_request_headers,
        );
        let response = add(
            "add_response_headers",
            own.and_then(|own| own.add_response_headers.as_ref()),
            &defaults.add_response_headers,
        );
        let mut remove = |name: &str, own: Option<&Vec<String>>, shared: &Option<Vec<String>>| match own
            .or(shared.as_ref())
        {
            Some(names) => headers::removals(module, &field(name, own.is_some()), names, problems),
            None => Vec::new(),
        };
        let off_request = remove(
            "remove_request_headers",
            own.and_then(|own| own.remove_request_headers.as_ref()),
            &defaults.remove_request_headers,
        );
        let off_response = remove(
            "remove_response_headers",
            own.and_then(|own| own.remove_response_headers.as_ref()),
            &defaults.remove_response_headers,
        );
        (
            HeaderEdits {
                add: request,
                remove: off_request,
            },
            HeaderEdits {
                add: response,
                remove: off_response,
            },
        )
    }

    /// A mode that cannot be read counts as `full`: nothing may be verified less than was meant.
    fn verify_mode(&mut self, defaults: &ModuleDefaults) -> Option<(VerifyMode, Origin)> {
        if let Some(text) = defaults.upstream_tls_verify_mode.as_deref() {
            let mode = verify_mode(text).unwrap_or_else(|| {
                let message = format!(
                    "`{VERIFY_MODE}` is `{text}`, so `full` is used; write none, report, chain or full"
                );
                self.error(VERIFY_MODE, &message);
                VerifyMode::Full
            });
            return Some((mode, Origin::Module(VERIFY_MODE.into())));
        }
        self.options
            .verify_mode
            .map(|mode| (mode, Origin::Environment("NUNCIO_UPSTREAM_VERIFY_MODE".into())))
    }
}

/// A mode by its name.
pub(crate) fn verify_mode(text: &str) -> Option<VerifyMode> {
    VerifyMode::ALL.into_iter().find(|mode| mode.as_str() == text)
}
