//! A compile of manifests in a test, and questions about its outcome.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nuncio_compile::{LastGood, Object, Objects, Options, Output, compile};
use nuncio_model::{
    Action, Forward, Problem, Reason, Route, Severity, Target, TlsSettings, Unresolved, Upstream, VerifyName,
};

use crate::yaml;

/// Compiles `manifests` as file mode does.
pub(crate) fn world(manifests: &str) -> World {
    World::new(manifests, &options(), &LastGood::default())
}

/// What file mode asks for.
pub(crate) fn options() -> Options {
    Options {
        open_default_listeners: true,
        now: now(),
        ..Options::default()
    }
}

/// The middle of 2026; certificates of the tests are valid around it.
pub(crate) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_782_000_000)
}

/// Objects of manifests.
pub(crate) fn objects(manifests: &str) -> Objects {
    let objects = yaml::documents(manifests)
        .into_iter()
        .map(|document| Object::from_document(document, None).expect("the test's documents are objects"))
        .collect();
    Objects {
        objects,
        ..Objects::default()
    }
}

/// The outcome.
pub(crate) struct World {
    pub(crate) output: Output,
}

impl World {
    pub(crate) fn new(manifests: &str, options: &Options, last_good: &LastGood) -> Self {
        Self::of(&objects(manifests), options, last_good)
    }

    pub(crate) fn of(objects: &Objects, options: &Options, last_good: &LastGood) -> Self {
        Self {
            output: compile(objects, options, last_good),
        }
    }

    /// The same process with other manifests.
    pub(crate) fn then(&self, manifests: &str) -> Self {
        Self::new(manifests, &options(), &self.output.last_good)
    }

    pub(crate) fn problems(&self) -> &[Problem] {
        &self.output.snapshot.problems
    }

    /// Problems of a severity, as `Kind name field: message`.
    pub(crate) fn told(&self, severity: Severity) -> Vec<String> {
        let line = |problem: &Problem| {
            let object = problem
                .object
                .as_ref()
                .map(|o| format!("{} {}", o.kind, o.name))
                .unwrap_or_default();
            format!(
                "{object} {}: {}",
                problem.field.as_deref().unwrap_or_default(),
                problem.message
            )
        };
        self.problems()
            .iter()
            .filter(|p| p.severity == severity)
            .map(line)
            .collect()
    }

    pub(crate) fn errors(&self) -> Vec<String> {
        self.told(Severity::Error)
    }

    /// Asserts that nothing is wrong.
    pub(crate) fn fine(self) -> Self {
        assert_eq!((self.errors(), self.told(Severity::Warning)), (vec![], vec![]));
        self
    }

    /// Asserts that exactly one problem of this severity is about `object` and holds `text`.
    pub(crate) fn tells(&self, severity: Severity, object: &str, text: &str) {
        let told = self.told(severity);
        let hits = told
            .iter()
            .filter(|line| line.starts_with(object) && line.contains(text))
            .count();
        assert_eq!(hits, 1, "{object} {text}: {told:#?}");
    }

    /// Every route of every host of every listener, in match order.
    pub(crate) fn routes(&self) -> Vec<Arc<Route>> {
        let listeners = self.output.snapshot.listeners.iter();
        listeners
            .flat_map(|listener| listener.hosts.hosts().to_vec())
            .flat_map(|host| host.routes.routes().to_vec())
            .collect()
    }

    /// Names of Mappings in match order, `a+b` where they share.
    pub(crate) fn order(&self) -> Vec<String> {
        let name = |route: &Arc<Route>| {
            let names: Vec<&str> = route.targets.iter().map(|target| &*target.mapping.name).collect();
            names.join("+")
        };
        self.routes().iter().map(name).collect()
    }

    pub(crate) fn target(&self, mapping: &str) -> Target {
        let routes = self.routes();
        let mut targets = routes.iter().flat_map(|route| &route.targets);
        targets
            .find(|target| &*target.mapping.name == mapping)
            .expect("the Mapping is routed")
            .clone()
    }

    pub(crate) fn forward(&self, mapping: &str) -> Forward {
        match self.target(mapping).action {
            Action::Forward(forward) => *forward,
            Action::Unresolved(unresolved) => panic!("{mapping} is unresolved: {}", unresolved.message),
        }
    }

    /// Why a Mapping answers 503.
    pub(crate) fn unresolved(&self, mapping: &str) -> Unresolved {
        match self.target(mapping).action {
            Action::Forward(_) => panic!("{mapping} is resolved"),
            Action::Unresolved(unresolved) => unresolved,
        }
    }

    /// Asserts that a Mapping answers 503 with this reason, and that it is told why.
    pub(crate) fn refuses(&self, mapping: &str, reason: Reason) {
        let unresolved = self.unresolved(mapping);
        assert_eq!(unresolved.reason, reason, "{}", unresolved.message);
        self.tells(
            Severity::Error,
            &format!("Mapping {mapping} "),
            &unresolved.message,
        );
    }

    pub(crate) fn upstream(&self, mapping: &str) -> Arc<Upstream> {
        Arc::clone(self.output.snapshot.upstream(self.forward(mapping).upstream))
    }

    pub(crate) fn tls(&self, mapping: &str) -> Arc<TlsSettings> {
        self.upstream(mapping)
            .identity
            .tls
            .clone()
            .expect("the upstream speaks TLS")
    }

    /// `host:port`
    pub(crate) fn address(&self, mapping: &str) -> String {
        let identity = &self.upstream(mapping).identity;
        format!("{}:{}", identity.host, identity.port)
    }

    pub(crate) fn sni(&self, mapping: &str) -> Option<String> {
        self.tls(mapping).sni.as_deref().map(str::to_owned)
    }

    pub(crate) fn verify_names(&self, mapping: &str) -> Vec<String> {
        self.tls(mapping)
            .verify
            .names
            .iter()
            .map(VerifyName::to_string)
            .collect()
    }
}

/// A Mapping for `/NAME/` with further lines of its spec.
pub(crate) fn mapping(name: &str, spec: &str) -> String {
    let spec = spec.trim().replace("; ", "\n  ");
    format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata:\n  name: {name}\nspec:\n  \
         hostname: \"*\"\n  prefix: /{name}/\n  {spec}\n"
    )
}

/// A TLSContext in namespace `default` with the lines of its spec.
pub(crate) fn context(name: &str, spec: &str) -> String {
    object("TLSContext", name, "default", spec)
}

/// An object of our group. Lines of the spec are separated by `; `.
pub(crate) fn object(kind: &str, name: &str, namespace: &str, spec: &str) -> String {
    let spec = spec.trim().replace("; ", "\n  ");
    let spec = if spec.is_empty() {
        " {}".to_owned()
    } else {
        format!("\n  {spec}")
    };
    format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: {kind}\nmetadata:\n  name: {name}\n  \
         namespace: {namespace}\nspec:{spec}\n"
    )
}
