//! What the program needs to know, made of flags and the environment. Every bad setting is found
//! before any is told, so that a user mends them in one go.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use nuncio_compile::{Options, ResolveRule};
use nuncio_controller::Cluster;
use nuncio_model::VerifyMode;
use nuncio_proxy::{AccessLog, ProxyOptions};
use tracing_subscriber::filter::LevelFilter;

use crate::cli::RunArgs;
use crate::failure::Failure;

const ADMIN_PORT: u16 = 8877;
const DRAIN_SECONDS: u32 = 30;
/// Connections to the admin interface that may be open at once, where there are descriptors enough.
const ADMIN_CONNECTIONS: usize = 512;
/// What it takes until no load balancer of a cluster sends here any more.
const SHUTDOWN_DELAY_SECONDS: u64 = 5;
/// Variables that concern watching a cluster.
const CLUSTER_ONLY: [&str; 5] = [
    "AMBASSADOR_CERTS_SINGLE_NAMESPACE",
    "AMBASSADOR_LABEL_SELECTOR",
    "AMBASSADOR_FIELD_SELECTOR",
    "AMBASSADOR_UPDATE_MAPPING_STATUS",
    "AMBASSADOR_RECONFIG_MAX_DELAY",
];

/// Reads environment variables; tests give it their own.
pub(crate) struct Environment<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    wrong: Vec<String>,
    warnings: Vec<String>,
}

/// The variables of this process. One that is not UTF-8 counts as its nearest UTF-8 text.
pub(crate) fn process_environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// All that `run` needs.
pub(crate) struct RunSettings {
    /// Where configuration comes from.
    pub(crate) source: Source,
    /// Where the admin interface listens.
    pub(crate) admin: SocketAddr,
    /// Names that the admin interface answers to besides its addresses and `localhost`, in lower case.
    pub(crate) admin_names: Vec<String>,
    /// For the data plane.
    pub(crate) proxy: ProxyOptions,
    /// For compile.
    pub(crate) compile: Options,
    /// How long it goes on accepting after SIGTERM, while it says that it is not ready any more.
    pub(crate) shutdown_delay: Duration,
    /// Settings that count but deserve a word, to be logged once logging works.
    pub(crate) warnings: Vec<String>,
}

/// Where configuration comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Manifests.
    Files(Vec<PathBuf>),
    /// A cluster's API server.
    Kubernetes(Cluster),
}

/// How the program's own log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogSettings {
    /// `AMBASSADOR_JSON_LOGGING`
    pub(crate) json: bool,
    /// `AES_LOG_LEVEL`
    pub(crate) level: LevelFilter,
}

/// The settings of `nuncio run`, in a process that may have so many files open.
pub(crate) fn run(
    args: RunArgs,
    descriptors: usize,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<(RunSettings, LogSettings), Failure> {
    let mut environment = Environment::new(lookup);
    let log = environment.log();
    let mut compile = environment.compile(&args.resolve);
    let proxy = environment.proxy(&args, descriptors);
    let in_cluster = environment.is_for_cluster(&args);
    let admin = environment.admin(args.admin.as_deref(), in_cluster);
    let admin_names = environment.admin_names(&args.admin_host);
    let shutdown_delay = environment.shutdown_delay(&args, in_cluster);
    let source = environment.source(args, in_cluster, &compile);
    compile.open_default_listeners = !in_cluster;
    environment.warn_of_key_log();
    environment.warn_of_system_roots();
    environment.warn_of_statsd();
    environment.finish().map(|warnings| {
        let settings = RunSettings {
            source,
            admin,
            admin_names,
            proxy,
            compile,
            shutdown_delay,
            warnings,
        };
        (settings, log)
    })
}

/// The options of compile for the commands that serve nothing, and what the environment asks for in vain; the same
/// variables count as in `run`.
pub(crate) fn compile(
    resolve: &[String],
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<(Options, Vec<String>), Failure> {
    let mut environment = Environment::new(lookup);
    let options = environment.compile(resolve);
    environment.warn_of_statsd();
    environment.finish().map(|warnings| (options, warnings))
}

impl<'a> Environment<'a> {
    fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            lookup,
            wrong: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// All that is wrong as one failure, or else the warnings.
    fn finish(self) -> Result<Vec<String>, Failure> {
        match self.wrong.is_empty() {
            true => Ok(self.warnings),
            false => Err(Failure::usage(self.wrong.join("\nnuncio: "))),
        }
    }

    /// A variable that is set to something.
    fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    /// A switch in the grammar of Go's `strconv.ParseBool`. Anything else counts as false, as in the
    /// reference, but not silently.
    fn switch(&mut self, name: &str) -> bool {
        let Some(text) = self.text(name) else {
            return false;
        };
        match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            _ => {
                self.warnings
                    .push(format!("{name}={text} counts as false; write true or false"));
                false
            }
        }
    }

    /// The flag's value, else the variable's, else the default; `form` says what to write instead.
    fn value<T: FromStr>(&mut self, flag: (&str, Option<&str>), variable: &str, form: &str, default: T) -> T {
        let (name, text) = match (flag, self.text(variable)) {
            ((name, Some(text)), _) => (format!("{name} {text}"), text.to_owned()),
            ((_, None), Some(text)) => (format!("{variable}={text}"), text),
            ((_, None), None) => return default,
        };
        text.trim().parse().unwrap_or_else(|_| {
            self.wrong.push(format!("{name}: is not {form}"));
            default
        })
    }

    fn log(&mut self) -> LogSettings {
        let level = match self
            .text("AES_LOG_LEVEL")
            .map(|text| text.to_ascii_lowercase())
            .as_deref()
        {
            Some("panic" | "fatal" | "error") => LevelFilter::ERROR,
            Some("warn" | "warning") => LevelFilter::WARN,
            None | Some("info") => LevelFilter::INFO,
            Some("debug") => LevelFilter::DEBUG,
            Some("trace") => LevelFilter::TRACE,
            Some(other) => {
                self.wrong.push(format!(
                    "AES_LOG_LEVEL={other}: is not error, warn, info, debug or trace"
                ));
                LevelFilter::INFO
            }
        };
        LogSettings {
            json: self.switch("AMBASSADOR_JSON_LOGGING"),
            level,
        }
    }

    fn compile(&mut self, resolve: &[String]) -> Options {
        let rules = resolve
            .iter()
            .filter_map(|text| match text.parse::<ResolveRule>() {
                Ok(rule) => Some(rule),
                Err(error) => {
                    self.wrong.push(format!("--resolve: {error}"));
                    None
                }
            });
        let resolve = rules.collect();
        let mode = self.text("NUNCIO_UPSTREAM_VERIFY_MODE");
        let verify_mode = mode.and_then(|text| {
            let mode = VerifyMode::ALL.into_iter().find(|mode| mode.as_str() == text);
            if mode.is_none() {
                let form = "none, report, chain or full";
                self.wrong
                    .push(format!("NUNCIO_UPSTREAM_VERIFY_MODE={text}: is not {form}"));
            }
            mode
        });
        Options {
            ambassador_id: self.text("AMBASSADOR_ID").unwrap_or_else(|| "default".to_owned()),
            namespace: self
                .text("AMBASSADOR_NAMESPACE")
                .unwrap_or_else(|| "default".to_owned()),
            single_namespace: self.text("AMBASSADOR_SINGLE_NAMESPACE").is_some(),
            certs_single_namespace: self.certs_single_namespace(),
            verify_mode,
            resolve,
            open_default_listeners: true,
            admin_port: None,
            force_secret_validation: self.switch("AMBASSADOR_FORCE_SECRET_VALIDATION"),
            istio_directory: self.text("AMBASSADOR_ISTIO_SECRET_DIR").map(PathBuf::from),
            loose_label_selectors: self.switch("DISABLE_STRICT_LABEL_SELECTORS"),
            now: SystemTime::now(),
            revision: 1,
        }
    }

    fn proxy(&mut self, args: &RunArgs, descriptors: usize) -> ProxyOptions {
        let cores = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
        let workers = ("--workers", args.workers.as_deref());
        let bind = ("--bind", args.bind.as_deref());
        let drain = ("--drain-time", args.drain_time.as_deref());
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let (variable, form) = ("AMBASSADOR_DRAIN_TIME", "a number of seconds");
        let drain_seconds = self.value(drain, variable, form, DRAIN_SECONDS);
        let workers = self.value(workers, "ENVOY_CONCURRENCY", "a number from 1", cores);
        let bind = self.value(bind, "AMBASSADOR_ENVOY_BIND_ADDRESS", "an IP address", any);
        ProxyOptions {
            workers: workers.get(),
            bind,
            access_log: self.access_log(args.access_log.as_deref()),
            expose_reasons: args.expose_reasons,
            drain_time: Duration::from_secs(drain_seconds.into()),
            take_over: args.take_over,
            descriptors,
            admin_connections: (descriptors / 16).clamp(16, ADMIN_CONNECTIONS),
        }
    }

    fn access_log(&mut self, text: Option<&str>) -> AccessLog {
        match text {
            None | Some("json") => AccessLog::Json,
            Some("text") => AccessLog::Text,
            Some("off") => AccessLog::Off,
            Some(other) => {
                self.wrong
                    .push(format!("--access-log {other}: is not json, text or off"));
                AccessLog::Off
            }
        }
    }

    /// What AMBASSADOR_SINGLE_NAMESPACE says, unless the variable is set; set to nothing it is off.
    fn certs_single_namespace(&self) -> bool {
        let own = (self.lookup)("AMBASSADOR_CERTS_SINGLE_NAMESPACE");
        own.map_or_else(
            || self.text("AMBASSADOR_SINGLE_NAMESPACE").is_some(),
            |text| !text.is_empty(),
        )
    }

    /// In a cluster the kubelet asks from outside; on files nobody but this machine does.
    fn admin(&mut self, flag: Option<&str>, in_cluster: bool) -> SocketAddr {
        let default_ip = if in_cluster {
            Ipv4Addr::UNSPECIFIED
        } else {
            Ipv4Addr::LOCALHOST
        };
        let default_ip = IpAddr::V4(default_ip);
        let variables = (
            "AMBASSADOR_HEALTHCHECK_BIND_ADDRESS",
            "AMBASSADOR_HEALTHCHECK_BIND_PORT",
        );
        let default = match flag {
            // The flag wins whole: its variables may then say anything.
            Some(_) => SocketAddr::new(default_ip, ADMIN_PORT),
            None => SocketAddr::new(
                self.value(("", None), variables.0, "an IP address", default_ip),
                self.value(("", None), variables.1, "a port", ADMIN_PORT),
            ),
        };
        self.value(
            ("--admin", flag),
            "",
            "an address such as 127.0.0.1:8877",
            default,
        )
    }

    fn admin_names(&mut self, names: &[String]) -> Vec<String> {
        for name in names {
            let is_label = |label: &str| {
                !label.is_empty()
                    && label
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            };
            if !name.split('.').all(is_label) {
                self.wrong.push(format!(
                    "--admin-host {name}: is not a host name; write it without a scheme and a port"
                ));
            }
        }
        names.iter().map(|name| name.to_ascii_lowercase()).collect()
    }

    /// Whether a cluster is asked for, or this is a pod and nothing else is.
    fn is_for_cluster(&self, args: &RunArgs) -> bool {
        args.kubernetes
            || args.kubeconfig.is_some()
            || args.context.is_some()
            || (args.config.is_empty() && self.text("KUBERNETES_SERVICE_HOST").is_some())
    }

    fn shutdown_delay(&mut self, args: &RunArgs, in_cluster: bool) -> Duration {
        let flag = ("--shutdown-delay", args.shutdown_delay.as_deref());
        let default = if in_cluster { SHUTDOWN_DELAY_SECONDS } else { 0 };
        Duration::from_secs(self.value(flag, "", "a number of seconds", default))
    }

    /// Where configuration comes from.
    fn source(&mut self, args: RunArgs, in_cluster: bool, compile: &Options) -> Source {
        if in_cluster {
            let own = || compile.namespace.clone();
            let namespace = compile.single_namespace.then(own);
            let secrets_namespace = compile.certs_single_namespace.then(own);
            return Source::Kubernetes(Cluster {
                kubeconfig: args.kubeconfig,
                context: args.context,
                namespace,
                secrets_namespace,
                labels: self.text("AMBASSADOR_LABEL_SELECTOR"),
                fields: self.text("AMBASSADOR_FIELD_SELECTOR"),
                mapping_status: self.switch("AMBASSADOR_UPDATE_MAPPING_STATUS"),
                most_delay: self.reconfig_max_delay(),
            });
        }
        if args.config.is_empty() {
            let sentence = "run needs to know what to serve; name files or folders with --config PATH, a \
                            cluster with --kubernetes, or try `nuncio demo`";
            self.wrong.push(sentence.to_owned());
        }
        self.warn_of_idle_variables();
        Source::Files(args.config)
    }

    fn reconfig_max_delay(&mut self) -> Option<Duration> {
        let (variable, form) = (
            "AMBASSADOR_RECONFIG_MAX_DELAY",
            "a whole number of seconds from 1",
        );
        let seconds: Option<NonZero<u16>> = self
            .text(variable)
            .map(|_| self.value(("", None), variable, form, NonZero::<u16>::MIN));
        seconds.map(|seconds| Duration::from_secs(seconds.get().into()))
    }

    fn warn_of_idle_variables(&mut self) {
        for name in CLUSTER_ONLY {
            if self.text(name).is_some() {
                self.warnings
                    .push(format!("{name} has no effect while manifests come from files"));
            }
        }
    }

    fn warn_of_system_roots(&mut self) {
        let Some(path) = self.text("SSL_CERT_FILE") else {
            return;
        };
        let read = std::fs::read(&path).unwrap_or_default();
        if nuncio_tls::certificates(&read).0.is_empty() {
            self.warnings.push(format!(
                "SSL_CERT_FILE={path}: no certificate can be read from it, so `verify.roots: system` trusts nobody; \
                 correct or unset it"
            ));
        }
    }

    /// The reference sends its metrics where these say.
    fn warn_of_statsd(&mut self) {
        let names = [
            "STATSD_ENABLED",
            "STATSD_HOST",
            "STATSD_PORT",
            "STATSD_FLUSH_INTERVAL",
            "DOGSTATSD",
        ];
        let set = |name: &&str| {
            // Kubernetes gives `STATSD_PORT` such a value where there is a Service `statsd`.
            self.text(name).is_some_and(|value| !value.contains("://"))
        };
        let set: Vec<&str> = names.into_iter().filter(|name| set(name)).collect();
        if !set.is_empty() {
            self.warnings.push(format!(
                "{}: nuncio sends no metrics to StatsD, so these have no effect; scrape /metrics of the admin interface",
                set.join(", ")
            ));
        }
    }

    fn warn_of_key_log(&mut self) {
        if let Some(path) = self.text("SSLKEYLOGFILE") {
            self.warnings.push(format!(
                "SSLKEYLOGFILE={path}: whoever reads that file can read all upstream traffic; unset it outside of tests"
            ));
        }
    }
}

/// A sentence about an address that cannot be listened on.
pub(crate) fn cannot_listen(what: &str, address: SocketAddr, error: impl Display, flag: &str) -> Failure {
    let fix = format!("stop the program that holds it or choose another with {flag}");
    Failure::port(format!("cannot listen on {address} for {what}: {error}; {fix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(args: RunArgs, variables: &[(&str, &str)]) -> Result<(RunSettings, LogSettings), Failure> {
        run(args, 1024, &|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn served() -> RunArgs {
        RunArgs {
            config: vec!["manifests".into()],
            ..RunArgs::default()
        }
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let (settings, log) = with(served(), &[]).unwrap();
        assert_eq!(settings.admin, "127.0.0.1:8877".parse().unwrap());
        assert_eq!(settings.proxy.bind, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        assert_eq!(settings.proxy.drain_time, Duration::from_secs(30));
        assert!(matches!(settings.proxy.access_log, AccessLog::Json));
        assert!(!settings.proxy.expose_reasons);
        assert_eq!(
            (
                settings.compile.ambassador_id.as_str(),
                settings.compile.verify_mode
            ),
            ("default", None)
        );
        assert!(settings.compile.open_default_listeners && !settings.compile.single_namespace);
        assert_eq!(
            log,
            LogSettings {
                json: false,
                level: LevelFilter::INFO
            }
        );
        assert!(settings.warnings.is_empty());
    }

    #[test]
    fn the_environment_counts_where_no_flag_does() {
        let variables = [
            ("AMBASSADOR_ENVOY_BIND_ADDRESS", "127.0.0.2"),
            ("ENVOY_CONCURRENCY", "3"),
            ("AMBASSADOR_DRAIN_TIME", "7"),
            ("AMBASSADOR_HEALTHCHECK_BIND_ADDRESS", "127.0.0.3"),
            ("AMBASSADOR_HEALTHCHECK_BIND_PORT", "9999"),
            ("AMBASSADOR_ID", "blue"),
            ("AMBASSADOR_NAMESPACE", "gateway"),
            ("AMBASSADOR_SINGLE_NAMESPACE", "no"),
            ("NUNCIO_UPSTREAM_VERIFY_MODE", "full"),
            ("AES_LOG_LEVEL", "WARNING"),
            ("AMBASSADOR_JSON_LOGGING", "true"),
            ("DISABLE_STRICT_LABEL_SELECTORS", "True"),
            ("AMBASSADOR_ISTIO_SECRET_DIR", "/etc/istio-certs"),
        ];
        let (settings, log) = with(served(), &variables).unwrap();
        assert_eq!(settings.proxy.bind.to_string(), "127.0.0.2");
        assert_eq!(
            (settings.proxy.workers, settings.proxy.drain_time),
            (3, Duration::from_secs(7))
        );
        assert_eq!(settings.admin.to_string(), "127.0.0.3:9999");
        let options = &settings.compile;
        assert_eq!(
            (options.ambassador_id.as_str(), options.namespace.as_str()),
            ("blue", "gateway")
        );
        assert!(options.single_namespace, "any text that is not empty turns it on");
        assert!(options.loose_label_selectors);
        assert_eq!(options.istio_directory, Some("/etc/istio-certs".into()));
        assert_eq!(options.verify_mode, Some(VerifyMode::Full));
        assert_eq!(
            log,
            LogSettings {
                json: true,
                level: LevelFilter::WARN
            }
        );

        let flags = RunArgs {
            bind: Some("127.0.0.9".into()),
            workers: Some("5".into()),
            drain_time: Some("0".into()),
            admin: Some("[::1]:1".into()),
            ..served()
        };
        let (settings, _) = with(flags, &variables).unwrap();
        assert_eq!(settings.proxy.bind.to_string(), "127.0.0.9");
        assert_eq!(
            (settings.proxy.workers, settings.proxy.drain_time),
            (5, Duration::ZERO)
        );
        assert_eq!(settings.admin.to_string(), "[::1]:1");
    }

    #[test]
    fn the_secret_validation_switch_speaks_go() {
        for (text, expected) in [
            ("1", true),
            ("T", true),
            ("TRUE", true),
            ("0", false),
            ("f", false),
            ("", false),
        ] {
            let (settings, _) = with(served(), &[("AMBASSADOR_FORCE_SECRET_VALIDATION", text)]).unwrap();
            assert_eq!(settings.compile.force_secret_validation, expected, "{text:?}");
            assert!(settings.warnings.is_empty());
        }
        let (settings, _) = with(served(), &[("AMBASSADOR_FORCE_SECRET_VALIDATION", "yes")]).unwrap();
        assert!(!settings.compile.force_secret_validation);
        assert_eq!(settings.warnings.len(), 1);
    }

    #[test]
    fn what_counts_only_in_a_cluster_is_warned_about() {
        let variables = [
            ("AMBASSADOR_LABEL_SELECTOR", "a=b"),
            ("SSLKEYLOGFILE", "/tmp/keys"),
            ("SSL_CERT_FILE", "/nowhere/roots.pem"),
        ];
        let (settings, _) = with(served(), &variables).unwrap();
        assert_eq!(settings.warnings.len(), 3, "{:?}", settings.warnings);
    }

    #[test]
    fn statsd_is_warned_about_once() {
        let variables = [
            ("STATSD_ENABLED", "true"),
            ("STATSD_HOST", "stats"),
            ("STATSD_PORT", "tcp://10.0.0.1:80"),
        ];
        let (settings, _) = with(served(), &variables).unwrap();
        let [warning] = settings.warnings.as_slice() else {
            panic!("{:?}", settings.warnings);
        };
        assert!(warning.starts_with("STATSD_ENABLED, STATSD_HOST: "), "{warning}");
        let (settings, _) = with(served(), &variables[2..]).unwrap();
        assert!(settings.warnings.is_empty());
    }

    #[test]
    fn every_bad_setting_is_told_at_once() {
        let args = RunArgs {
            admin: Some("localhost".into()),
            admin_host: vec!["admin.ops".into(), "http://admin:80".into()],
            bind: Some("eth0".into()),
            workers: Some("0".into()),
            access_log: Some("xml".into()),
            resolve: vec!["a.test".into()],
            ..RunArgs::default()
        };
        let variables = [
            ("AMBASSADOR_DRAIN_TIME", "soon"),
            ("NUNCIO_UPSTREAM_VERIFY_MODE", "strict"),
            ("AES_LOG_LEVEL", "loud"),
        ];
        let failure = with(args, &variables).err().unwrap().to_string();
        for name in [
            "--admin localhost",
            "--admin-host http://admin:80",
            "--bind eth0",
            "--workers 0",
            "--access-log xml",
            "--resolve",
            "AMBASSADOR_DRAIN_TIME=soon",
            "NUNCIO_UPSTREAM_VERIFY_MODE=strict",
            "AES_LOG_LEVEL=loud",
            "--config PATH",
        ] {
            assert!(failure.contains(name), "{name} is missing in:\n{failure}");
        }
    }
}
