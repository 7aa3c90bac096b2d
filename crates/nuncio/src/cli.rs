//! What may be typed: commands and flags, as they were typed. [`crate::settings`] makes values of them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The commit, and the TLS library, besides the version.
pub(crate) const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("NUNCIO_COMMIT"),
    ", rustls ",
    env!("NUNCIO_RUSTLS_VERSION"),
    " with aws-lc-rs ",
    env!("NUNCIO_AWS_LC_RS_VERSION"),
    ")"
);

/// An Ambassador-compatible gateway whose main job is TLS origination.
///
/// It reads Mappings, TLSContexts, Hosts, Listeners and Secrets and sends requests to TLS upstreams.
/// Exit status: 0 fine, 1 the thing looked for was found wrong, 2 bad usage, 3 a port is taken.
#[derive(Debug, Parser)]
#[command(name = "nuncio", version = VERSION, max_term_width = 100, after_help = "\
Examples:
  nuncio demo --once                     see the whole story in a few seconds
  nuncio check manifests/                what is wrong with these manifests?
  nuncio run --config manifests/         serve them
  nuncio probe my-mapping --config manifests/
                                         one real handshake with that Mapping's upstream")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(RunArgs),
    Check(CheckArgs),
    Explain(ExplainArgs),
    Probe(ProbeArgs),
    Echo(EchoArgs),
    Demo(DemoArgs),
    Crds(CrdsArgs),
}

/// Serve from manifests or from a cluster; edits are picked up while it runs
#[derive(Debug, Default, Args)]
#[command(
    max_term_width = 100,
    after_help = "\
Examples:
  nuncio run --config manifests/
  nuncio run --config mappings.yaml secrets.yaml --resolve example-service:443:127.0.0.1:8443
  nuncio run --config manifests/ --admin 127.0.0.1:9000 --expose-reasons
  nuncio run --kubernetes --kubeconfig ~/.kube/config --context staging

Environment (a flag of the same meaning wins):
  AMBASSADOR_ID                        take objects with this ambassador_id [default: default]
  AMBASSADOR_NAMESPACE                 the gateway's own namespace [default: default]
  AMBASSADOR_SINGLE_NAMESPACE          when not empty: take objects of that namespace only
  AMBASSADOR_CERTS_SINGLE_NAMESPACE    when not empty: take Secrets of that namespace only
                                       [default: as AMBASSADOR_SINGLE_NAMESPACE]
  AMBASSADOR_LABEL_SELECTOR            Kubernetes: take objects with these labels only
  AMBASSADOR_FIELD_SELECTOR            Kubernetes: take objects with these fields only
  AMBASSADOR_UPDATE_MAPPING_STATUS     Kubernetes: true: write status.state of each Mapping
  AMBASSADOR_RECONFIG_MAX_DELAY        Kubernetes: gather edits for this many seconds at most
                                       [default: 150 ms]
  AMBASSADOR_FORCE_SECRET_VALIDATION   true: look through every Secret, and use none that is wrong
  AMBASSADOR_ISTIO_SECRET_DIR          folder of cert-chain.pem, key.pem and root-cert.pem, which
                                       are the Secret istio-certs of the gateway's own namespace
  AMBASSADOR_ENVOY_BIND_ADDRESS        as --bind
  AMBASSADOR_DRAIN_TIME                as --drain-time
  AMBASSADOR_HEALTHCHECK_BIND_ADDRESS  IP address of --admin
  AMBASSADOR_HEALTHCHECK_BIND_PORT     port of --admin
  ENVOY_CONCURRENCY                    as --workers
  NUNCIO_UPSTREAM_VERIFY_MODE          none, report, chain or full, where a TLSContext says nothing
  DISABLE_STRICT_LABEL_SELECTORS       true: one common label joins a Mapping to a Host
  AES_LOG_LEVEL                        error, warn, info, debug or trace [default: info]
  AMBASSADOR_JSON_LOGGING              true: the program's own log is JSON
  SSL_CERT_FILE, SSL_CERT_DIR          where the system's roots are, for verify.roots: system

SIGTERM and SIGINT end it: it says that it is not ready and goes on for --shutdown-delay, then finishes what is
in flight for --drain-time at most. Exit status 0; a second signal skips what it is waiting for.
Exit status 2: the settings or the manifests cannot be used; 3: a port cannot be opened. In a cluster
a Listener whose port cannot be opened has that in its status, and the others serve."
)]
pub(crate) struct RunArgs {
    /// Files or folders with manifests (.yaml, .yml, .json; several documents a file); `-` is standard input,
    /// read once
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with_all = ["kubernetes", "kubeconfig", "context"])]
    pub(crate) config: Vec<PathBuf>,

    /// Read from a cluster instead of files; what `run` does by itself in a pod without --config
    #[arg(long)]
    pub(crate) kubernetes: bool,

    /// Kubernetes: the kubeconfig to use
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Kubernetes: the context of the kubeconfig to use
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,

    /// Address of health, metrics and the API [default: 127.0.0.1:8877, with --kubernetes 0.0.0.0:8877]
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<String>,

    /// A name that the admin interface answers to besides its addresses and localhost; repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) admin_host: Vec<String>,

    /// IP address that Listeners bind [default: 0.0.0.0]
    #[arg(long, value_name = "IP")]
    pub(crate) bind: Option<String>,

    /// Reach this upstream host and port at ADDR, by-passing DNS; SNI and names to verify stay. Repeatable
    #[arg(long, value_name = "HOST:PORT:ADDR[:PORT]")]
    pub(crate) resolve: Vec<String>,

    /// Data-plane workers [default: one a core]
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<String>,

    /// Form of the access log on standard output [default: json]
    #[arg(long, value_name = "json|text|off")]
    pub(crate) access_log: Option<String>,

    /// Tell clients why an upstream failed, in the header x-nuncio-reason
    #[arg(long)]
    pub(crate) expose_reasons: bool,

    /// Share ports with the nuncio that has them now; stop that one once this one is ready
    #[arg(long)]
    pub(crate) take_over: bool,

    /// How long it goes on accepting after SIGTERM, not ready any more [default: 0, with --kubernetes 5]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) shutdown_delay: Option<String>,

    /// How long requests in flight may take after SIGTERM, and connections of a replaced TLS identity [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) drain_time: Option<String>,
}

/// Form of what is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// Compile manifests and print every problem; serves nothing
#[derive(Debug, Args)]
#[command(
    max_term_width = 100,
    after_help = "\
Examples:
  nuncio check manifests/
  nuncio check manifests/ --strict --format json
  helm template CHART | nuncio check -

Exit status: 0 no error, 1 an error (with --strict also for a warning), 2 bad usage.
The environment variables of `nuncio run` that concern manifests count here too."
)]
pub(crate) struct CheckArgs {
    /// Files or folders with manifests (.yaml, .yml, .json; several documents a file); `-` is standard input
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,

    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,

    /// Exit with 1 for a warning too
    #[arg(long)]
    pub(crate) strict: bool,
}

/// Show the route that a request would take, and where each TLS setting comes from
#[derive(Debug, Args)]
#[command(
    max_term_width = 100,
    after_help = "\
Examples:
  nuncio explain http://gateway.test/shop/ --config manifests/
  nuncio explain https://gateway.test/shop/ -X POST -H 'x-version: 2' --config manifests/ --format json

Exit status: 0 the request would reach an upstream, 1 it would not, 2 bad usage."
)]
pub(crate) struct ExplainArgs {
    /// URL of the request, as a client would write it
    #[arg(value_name = "URL")]
    pub(crate) url: String,

    /// Files or folders with manifests; `-` is standard input
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    pub(crate) config: Vec<PathBuf>,

    /// Method of the request
    #[arg(short = 'X', long = "method", value_name = "METHOD", default_value = "GET")]
    pub(crate) method: String,

    /// A header of the request; repeatable
    #[arg(short = 'H', long = "header", value_name = "name: value")]
    pub(crate) headers: Vec<String>,

    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// Would this Mapping handshake now, and if not, which field fixes it?
///
/// Does one real handshake with each endpoint, with exactly the settings the gateway would use. Says what was
/// offered and chosen, which certificates were shown, what each verification mode makes of them, and what
/// to set where it fails. Nothing but the handshake is sent.
#[derive(Debug, Args)]
#[command(
    max_term_width = 100,
    after_help = "\
Examples:
  nuncio probe my-mapping --config manifests/
  nuncio probe my-mapping.staging --config manifests/ --resolve svc.staging:443:127.0.0.1:8443
  nuncio probe https://example.com
  nuncio probe https://db.internal:8443 --tls-context my-context --config manifests/
  nuncio probe by-request --config manifests/ --host shop.example.com
  nuncio probe my-mapping --config manifests/ --format json | jq -r '.remedy, .peer[].pin'

Exit status: 0 every endpoint would be used, 1 one would not, 2 bad usage."
)]
pub(crate) struct ProbeArgs {
    #[arg(
        value_name = "TARGET",
        help = "A Mapping, as NAME or NAME.NAMESPACE; or https://HOST[:PORT]"
    )]
    pub(crate) target: String,

    /// Files or folders with manifests, `-` is standard input; needed for a Mapping and for --tls-context
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(crate) config: Vec<PathBuf>,

    /// For a URL: the TLSContext to use, as NAME or NAME.NAMESPACE
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_context: Option<String>,

    /// With auto_sni: the host that a request asks for; else the hostname of the Mapping, if it is one name
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,

    /// Reach this upstream host and port at ADDR, by-passing DNS; repeatable
    #[arg(long, value_name = "HOST:PORT:ADDR[:PORT]")]
    pub(crate) resolve: Vec<String>,

    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// A test upstream: answers with JSON about the request and the TLS session it saw
#[derive(Debug, Args)]
#[command(
    max_term_width = 100,
    after_help = "\
Examples:
  nuncio echo --listen 127.0.0.1:8080
  nuncio echo --listen 127.0.0.1:8443 --tls-cert server.crt --tls-key server.key --alpn h2,http/1.1
  nuncio echo --listen 127.0.0.1:8443 --tls-cert server.crt --tls-key server.key \\
      --client-ca ca.crt --require-client-cert --min-tls v1.3

Paths: /status/CODE, /delay/MS, /bytes/N, /stream/N (N chunks), /trailers; WebSocket upgrade on any."
)]
pub(crate) struct EchoArgs {
    /// Address to listen on; port 0 takes a free one, which is printed
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: String,

    /// Certificate chain to show, PEM; with it TLS is spoken
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Ask clients for a certificate and verify it against these CA certificates, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) client_ca: Option<PathBuf>,

    /// Refuse clients that show no certificate
    #[arg(long, requires = "client_ca")]
    pub(crate) require_client_cert: bool,

    /// Protocols to accept by ALPN, in order of preference, separated by commas
    #[arg(long, value_name = "PROTOCOLS", default_value = "h2,http/1.1")]
    pub(crate) alpn: String,

    /// Lowest TLS version: v1.2 or v1.3
    #[arg(long, value_name = "VERSION", default_value = "v1.2")]
    pub(crate) min_tls: String,

    /// Highest TLS version: v1.2 or v1.3
    #[arg(long, value_name = "VERSION", default_value = "v1.3")]
    pub(crate) max_tls: String,
}

/// The whole story on one machine: certificates, TLS upstreams, the gateway, requests to try
#[derive(Debug, Args)]
#[command(
    max_term_width = 100,
    after_help = "\
Examples:
  nuncio demo --once     make the requests, print the answers, exit 0 when they are right
  nuncio demo            start it, print requests to try, end with Ctrl-C

Everything is made in a temporary folder and on free ports of 127.0.0.1, and removed at the end."
)]
pub(crate) struct DemoArgs {
    /// Make the requests itself, print and check the answers, then exit with 0 or 1
    #[arg(long)]
    pub(crate) once: bool,
}

/// Print the CustomResourceDefinitions this build understands, as YAML
///
/// They may be installed over those of Ambassador and Emissary-ingress, and those over them again; no object is
/// lost. Objects that were stored as getambassador.io/v1 or v2 must be written again as v3alpha1; see
/// docs/kubernetes.md.
#[derive(Debug, Args)]
#[command(
    max_term_width = 100,
    after_help = "\
Examples:
  nuncio crds | kubectl apply -f -
  nuncio crds | kubectl diff -f -     what would change in the cluster?"
)]
pub(crate) struct CrdsArgs {}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_fits_a_terminal_and_has_an_example_everywhere() {
        let mut cli = Cli::command().term_width(100);
        cli.build();
        let all = std::iter::once(cli.clone()).chain(cli.get_subcommands().cloned());
        for mut command in all.filter(|command| command.get_name() != "help") {
            let name = command.get_name().to_owned();
            let help = command.render_long_help().to_string();
            assert!(help.contains("Examples:\n"), "{name} has no example");
            for line in help.lines() {
                assert!(line.chars().count() <= 100, "{name}: line too long: {line}");
            }
        }
    }
}
