//! `nuncio probe`: one real handshake with the settings that the gateway would use.
//!
//! A URL is probed as the Mapping that a user would write for it, so there is no second way to settings.

mod account;
mod json;
mod text;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nuncio_compile::{LastGood, Object, Options, Output};
use nuncio_model::{Action, Identity, ObjectRef, Problem, Severity, Snapshot, Target, Unresolved, Upstream};
use nuncio_proxy::ProbeOptions;
use nuncio_tls::RequestName;

use self::account::{Account, Finding};
use crate::cli::{Format, ProbeArgs};
use crate::failure::Failure;
use crate::output;

/// Name of the Mapping that stands for a URL.
const PROBED: &str = "nuncio-probe";
/// Where no route says: the reference's default of `connect_timeout_ms`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What is probed: a Mapping of these manifests.
struct Asked {
    output: Output,
    mapping: ObjectRef,
    /// What its problems are about, and what their fields begin with.
    told_on: (ObjectRef, String),
    /// Its `spec.tls`.
    context: Option<String>,
    /// The one host of its requests, where there is but one.
    hostname: Option<String>,
}

/// What a Mapping sends to.
enum Destination {
    Upstream {
        upstream: Arc<Upstream>,
        connect_timeout: Duration,
    },
    Unresolved(Unresolved),
}

impl Destination {
    /// As a request for `host` would reach it: with `auto_sni` that decides the server name.
    fn asked_for(self, host: Option<&str>) -> Self {
        match (self, host) {
            (
                Self::Upstream {
                    upstream,
                    connect_timeout,
                },
                Some(host),
            ) => {
                let mut upstream = Upstream::clone(&upstream);
                let mut identity = Identity::clone(&upstream.identity);
                let name = RequestName::of(host);
                identity.tls = identity.tls.map(|tls| Arc::new(name.settings(&tls)));
                upstream.identity = Arc::new(identity);
                Self::Upstream {
                    upstream: Arc::new(upstream),
                    connect_timeout,
                }
            }
            (same, _) => same,
        }
    }

    fn has_auto_sni(&self) -> bool {
        match self {
            Self::Upstream { upstream, .. } => account::has_auto_sni(upstream),
            // Nobody knows.
            Self::Unresolved(_) => true,
        }
    }
}

/// Probes what `args` name; status 1 where a handshake failed or none could be tried.
pub(crate) async fn run(args: &ProbeArgs, options: &Options) -> Result<ExitCode, Failure> {
    let asked = match args.target.split_once("://") {
        Some((scheme, rest)) => compile_url(args, options, scheme, rest)?,
        None => compile_mapping(args, options)?,
    };
    let snapshot = &asked.output.snapshot;
    let destination =
        destination(snapshot, &asked.mapping).ok_or_else(|| nowhere(snapshot, &asked.mapping))?;
    let host = args.host.as_ref().or(asked.hostname.as_ref());
    let destination = destination.asked_for(host.map(String::as_str));
    if let (Some(host), false) = (&args.host, destination.has_auto_sni()) {
        return Err(Failure::usage(format!(
            "--host {host} goes with a TLSContext that has auto_sni; leave it out, since requests decide nothing here"
        )));
    }
    let shown = if &*asked.mapping.name == PROBED {
        args.target.clone()
    } else {
        asked.mapping.to_string()
    };
    let probes = match &destination {
        Destination::Unresolved(_) => Vec::new(),
        Destination::Upstream {
            upstream,
            connect_timeout,
        } => {
            // The generator seeds itself at its first use, which takes longer than a handshake: that is none
            // of the peer's time. Should it fail, the handshake itself says so.
            let _ = aws_lc_rs::rand::fill(&mut [0]);
            let options = ProbeOptions {
                connect_timeout: *connect_timeout,
            };
            nuncio_proxy::probe(&upstream.identity, &asked.output.endpoints, options).await
        }
    };
    let account = Account {
        shown: &shown,
        problems: &concerning(&asked),
        finding: match &destination {
            Destination::Unresolved(unresolved) => Finding::Unresolved(unresolved),
            Destination::Upstream { upstream, .. } => Finding::Probed {
                upstream,
                probes: &probes,
            },
        },
    };
    let told = match args.format {
        Format::Text => text::render(&account),
        Format::Json => json::render(&account),
    };
    output::line(format_args!("{told}"));
    Ok(if account.is_fine() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What is wrong with the Mapping and with the TLSContext that it names, worst first.
fn concerning(asked: &Asked) -> Vec<&Problem> {
    let context = |object: &ObjectRef| {
        let named = |name: &String| *name == *object.name || *name == object.qualified();
        &*object.kind == "TLSContext" && asked.context.as_ref().is_some_and(named)
    };
    let of_it = |problem: &&Problem| {
        let (holder, prefix) = &asked.told_on;
        let field = problem.field.as_deref().unwrap_or_default();
        let of_mapping = |object: &ObjectRef| object == holder && field.starts_with(&**prefix);
        let object = problem.object.as_ref();
        object.is_some_and(|object| of_mapping(object) || context(object))
    };
    let mut problems: Vec<&Problem> = asked.output.snapshot.problems.iter().filter(of_it).collect();
    problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    problems
}

fn compile_mapping(args: &ProbeArgs, options: &Options) -> Result<Asked, Failure> {
    if args.config.is_empty() {
        let target = &args.target;
        let cure = "name its manifests with --config PATH, or write https://HOST[:PORT]";
        return Err(Failure::usage(format!(
            "{target} is the name of a Mapping: {cure}"
        )));
    }
    if args.tls_context.is_some() {
        return Err(Failure::usage(
            "--tls-context goes with https://HOST[:PORT]; a Mapping names its TLSContext in its field tls",
        ));
    }
    let (output, loaded) = nuncio_controller::check(&args.config, options);
    let objects = nuncio_compile::expanded(&loaded.objects);
    let object = find_mapping(&objects, &args.target, &options.namespace)?;
    let (holder, prefix) = object.told_on();
    let document = object.document.value();
    let text = |field: &str| Some(document.pointer(field)?.as_str()?.to_owned());
    Ok(Asked {
        context: text("/spec/tls"),
        hostname: text("/spec/hostname")
            .or_else(|| text("/spec/host"))
            .filter(|hostname| !hostname.contains('*')),
        output,
        mapping: object.reference.clone(),
        told_on: (holder.clone(), prefix),
    })
}

/// The Mapping called `NAME` or `NAME.NAMESPACE`; of several equal names that in the gateway's namespace.
fn find_mapping<'o>(objects: &'o [Object], target: &str, namespace: &str) -> Result<&'o Object, Failure> {
    let mappings = || {
        objects
            .iter()
            .filter(|object| &*object.reference.kind == "Mapping")
    };
    if let Some(mapping) = mappings().find(|mapping| mapping.reference.qualified() == target) {
        return Ok(mapping);
    }
    let mut named: Vec<&Object> = mappings()
        .filter(|mapping| &*mapping.reference.name == target)
        .collect();
    named.sort_by_key(|mapping| &*mapping.reference.namespace != namespace);
    match named.as_slice() {
        [only] => Ok(only),
        [own, ..] if &*own.reference.namespace == namespace => Ok(own),
        [] => {
            let known = mappings().map(|mapping| mapping.reference.qualified());
            let known: Vec<String> = known.take(10).collect();
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            Err(Failure::wrong(format!(
                "no Mapping is called {target}; the manifests hold: {known}"
            )))
        }
        several => {
            let names: Vec<String> = several
                .iter()
                .map(|mapping| mapping.reference.qualified())
                .collect();
            Err(Failure::usage(format!(
                "several Mappings are called {target}; write one of {}",
                names.join(", ")
            )))
        }
    }
}

fn compile_url(args: &ProbeArgs, options: &Options, scheme: &str, rest: &str) -> Result<Asked, Failure> {
    if !scheme.eq_ignore_ascii_case("https") {
        let target = &args.target;
        return Err(Failure::usage(format!(
            "{target}: probe does TLS handshakes; write https://HOST[:PORT]"
        )));
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let mut loaded = nuncio_controller::load(&args.config, options);
    let mut spec = serde_json::json!({
        "hostname": "*",
        "prefix": "/",
        "ambassador_id": [options.ambassador_id],
        "service": format!("https://{authority}"),
    });
    if let (Some(context), Some(spec)) = (&args.tls_context, spec.as_object_mut()) {
        spec.insert("tls".to_owned(), context.clone().into());
    }
    let document = serde_json::json!({
        "apiVersion": "getambassador.io/v3alpha1",
        "kind": "Mapping",
        "metadata": { "name": PROBED, "namespace": options.namespace },
        "spec": spec,
    });
    let object = Object::from_document(document, None).map_err(|problem| Failure::usage(problem.message))?;
    let mapping = object.reference.clone();
    loaded.objects.objects.push(object);
    Ok(Asked {
        output: nuncio_compile::compile(&loaded.objects, options, &LastGood::default()),
        told_on: (mapping.clone(), String::new()),
        mapping,
        context: args.tls_context.clone(),
        hostname: None,
    })
}

/// Where the Mapping sends to, if it is part of any route or uses any upstream.
fn destination(snapshot: &Snapshot, mapping: &ObjectRef) -> Option<Destination> {
    let action = targets(snapshot)
        .find(|target| target.mapping == *mapping)
        .map(|target| &target.action);
    match action {
        Some(Action::Unresolved(unresolved)) => Some(Destination::Unresolved(unresolved.clone())),
        Some(Action::Forward(forward)) => Some(Destination::Upstream {
            upstream: Arc::new(snapshot.upstream(forward.upstream).as_of(mapping)),
            connect_timeout: forward.connect_timeout,
        }),
        // No Host takes it, but its upstream may exist all the same.
        None => {
            let upstream = snapshot
                .upstreams
                .iter()
                .find(|upstream| upstream.mappings.contains(mapping))?;
            Some(Destination::Upstream {
                upstream: Arc::new(upstream.as_of(mapping)),
                connect_timeout: CONNECT_TIMEOUT,
            })
        }
    }
}

fn targets(snapshot: &Snapshot) -> impl Iterator<Item = &Target> {
    let hosts = snapshot
        .listeners
        .iter()
        .flat_map(|listener| listener.hosts.hosts());
    hosts
        .flat_map(|host| host.routes.routes())
        .flat_map(|route| &route.targets)
}

/// The Mapping exists but takes no traffic: its own problems say why.
fn nowhere(snapshot: &Snapshot, mapping: &ObjectRef) -> Failure {
    let own = |problem: &&nuncio_model::Problem| problem.object.as_ref() == Some(mapping);
    let worst = snapshot
        .problems
        .iter()
        .filter(own)
        .max_by_key(|problem| problem.severity);
    match worst.filter(|problem| problem.severity > Severity::Notice) {
        Some(problem) => Failure::wrong(format!("{mapping} takes no traffic: {}", problem.message)),
        None => Failure::wrong(format!(
            "{mapping} takes no traffic: no Host on any Listener goes with its hostname; \
             `nuncio check` shows what is wrong with the manifests"
        )),
    }
}
