//! Listeners, and which Hosts are on them (E1 to E7).

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use nuncio_crds::{HostBinding, ListenerSpec};
use nuncio_model::{HostTable, Listener, SecurityModel, Severity, VirtualHost};

use crate::decode;
use crate::hosts::{Association, Host, Selector};
use crate::problems::Problems;
use crate::{Object, Options};

/// Port of the Listener that file mode opens where there is none.
const DEFAULT_PORT: u16 = 8080;

/// Which Hosts a Listener has.
struct Binding<'a> {
    /// None for every namespace.
    namespace: Option<&'a str>,
    selector: Option<Selector>,
}

/// Reads all Listeners and puts the Hosts on them; ordered by port.
pub(crate) fn read(
    objects: &[&Object],
    hosts: &[Host<'_>],
    association: &mut Association<'_, '_>,
    options: &Options,
    problems: &mut Problems,
) -> Vec<Arc<Listener>> {
    let virtual_hosts = hosts.iter().map(|_| None).collect();
    let mut served = Served {
        hosts,
        association,
        virtual_hosts,
        told: HashSet::new(),
    };
    if objects.is_empty() {
        return default_listener(hosts, &mut served, options, problems);
    }
    let mut listeners: BTreeMap<u16, Arc<Listener>> = BTreeMap::new();
    for object in objects {
        let Some((mut listener, binding)) = read_one(object, problems) else {
            continue;
        };
        if options.admin_port == Some(listener.port) {
            let message = format!(
                "port {} is that of the admin interface, so this Listener is not opened; choose another port",
                listener.port
            );
            problems.error(object, "reserved_port", "spec.port", message);
            continue;
        }
        if let Some(first) = listeners.get(&listener.port) {
            let message = format!(
                "port {} is taken by Listener {}, so this one is not opened; choose another port",
                listener.port, first.name
            );
            problems.error(object, "duplicate_port", "spec.port", message);
            continue;
        }
        let virtual_hosts = served.bound(&binding, problems);
        if virtual_hosts.is_empty() {
            let message =
                "no Host fits `spec.hostBinding`, so the port is not opened; correct it or write a Host";
            problems.error(object, "no_host_bound", "spec.hostBinding", message);
            continue;
        }
        listener.hosts = HostTable::new(virtual_hosts);
        listeners.insert(listener.port, Arc::new(listener));
    }
    listeners.into_values().collect()
}

fn default_listener(
    hosts: &[Host<'_>],
    served: &mut Served<'_, '_, '_>,
    options: &Options,
    problems: &mut Problems,
) -> Vec<Arc<Listener>> {
    if !options.open_default_listeners {
        problems.general(
            Severity::Warning,
            "no_listener",
            "there is no Listener, so no port is opened; write one",
        );
        return Vec::new();
    }
    let message = format!(
        "there is no Listener, so port {DEFAULT_PORT} is opened for HTTP with every Host; write a Listener to choose"
    );
    problems.general(Severity::Notice, "no_listener", message);
    if hosts.iter().any(|host| host.has_certificate) {
        let message =
            "a Host has a `tlsSecret`, but nuncio does not terminate TLS so far, so port 8443 is not opened";
        problems.general(Severity::Notice, "not_supported_yet", message);
    }
    let everything = Binding {
        namespace: None,
        selector: None,
    };
    vec![Arc::new(Listener {
        object: None,
        name: format!("http-{DEFAULT_PORT}").into(),
        port: DEFAULT_PORT,
        security_model: SecurityModel::Xfp,
        l7_depth: 0,
        hosts: HostTable::new(served.bound(&everything, problems)),
    })]
}

/// Hosts, with routes once they are asked for.
struct Served<'s, 'g, 'a> {
    hosts: &'s [Host<'s>],
    association: &'s mut Association<'g, 'a>,
    virtual_hosts: Vec<Option<Arc<VirtualHost>>>,
    /// Hosts that were reported as duplicates.
    told: HashSet<usize>,
}

impl Served<'_, '_, '_> {
    fn bound(&mut self, binding: &Binding<'_>, problems: &mut Problems) -> Vec<Arc<VirtualHost>> {
        let mut bound = Vec::new();
        let mut taken: HashMap<&str, usize> = HashMap::new();
        for (index, host) in self.hosts.iter().enumerate() {
            if !binding.has(host) {
                continue;
            }
            if let Some(&first) = taken.get(&*host.hostname) {
                self.tell_duplicate(host, first, index, problems);
                continue;
            }
            taken.insert(&host.hostname, index);
            let virtual_host = &mut self.virtual_hosts[index];
            let made = virtual_host.get_or_insert_with(|| self.association.virtual_host(host));
            bound.push(Arc::clone(made));
        }
        bound
    }

    fn tell_duplicate(&mut self, host: &Host<'_>, first: usize, index: usize, problems: &mut Problems) {
        let (Some(object), Some(first)) = (host.object, self.hosts[first].object) else {
            return;
        };
        if self.told.insert(index) {
            // Its routes count as reached, or each of its Mappings would complain as well.
            self.association.virtual_host(host);
            let message = format!(
                "`spec.hostname` is `{}`, which {} has already, so this Host is not served; merge the two",
                host.hostname, first.reference
            );
            problems.error(object, "duplicate_hostname", "spec.hostname", message);
        }
    }
}

impl Binding<'_> {
    fn has(&self, host: &Host<'_>) -> bool {
        let labels = BTreeMap::new();
        let labels = host.object.map_or(&labels, |object| &object.labels);
        self.namespace.is_none_or(|namespace| namespace == host.namespace)
            && self
                .selector
                .as_ref()
                .is_none_or(|selector| selector.selects(labels))
    }
}

fn read_one<'a>(object: &'a Object, problems: &mut Problems) -> Option<(Listener, Binding<'a>)> {
    let decoded = decode::spec::<ListenerSpec>(object, problems);
    if decoded.any_broken().is_some() {
        return None;
    }
    let spec = decoded.spec;
    let port = port(object, spec.port, problems);
    let serves = serves_http(object, &spec, problems);
    let security_model = security_model(object, spec.security_model.as_deref(), problems);
    let binding = binding(object, spec.host_binding.as_ref(), problems);
    let l7_depth = l7_depth(object, spec.l7_depth, problems);
    let listener = Listener {
        object: Some(object.reference.clone()),
        name: object.reference.qualified().into(),
        port: port?,
        security_model: security_model?,
        l7_depth,
        hosts: HostTable::new(Vec::new()),
    };
    serves.then_some(())?;
    Some((listener, binding?))
}

fn refuse(object: &Object, problems: &mut Problems, reason: &'static str, field: &str, message: &str) {
    problems.error(object, reason, field, message);
}

fn port(object: &Object, port: Option<i64>, problems: &mut Problems) -> Option<u16> {
    let checked = port
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0);
    if checked.is_none() {
        let what = port.map_or("is missing".to_owned(), |port| format!("is {port}"));
        let message = format!("`spec.port` {what}, so nothing is opened; write one between 1 and 65535");
        refuse(object, problems, "bad_value", "spec.port", &message);
    }
    checked
}

fn l7_depth(object: &Object, depth: Option<i64>, problems: &mut Problems) -> u32 {
    let Some(depth) = depth else { return 0 };
    u32::try_from(depth).unwrap_or_else(|_| {
        let message = format!(
            "`spec.l7Depth` is {depth}, so no proxy is trusted; write how many proxies stand in front"
        );
        problems.error(object, "bad_value", "spec.l7Depth", message);
        0
    })
}

/// The layers of a protocol (E1).
fn stack(protocol: &str) -> Option<&'static [&'static str]> {
    Some(match protocol {
        "HTTP" => &["HTTP", "TCP"],
        "HTTPS" => &["TLS", "HTTP", "TCP"],
        "HTTPPROXY" => &["PROXY", "HTTP", "TCP"],
        "HTTPSPROXY" => &["TLS", "PROXY", "HTTP", "TCP"],
        "TCP" => &["TCP"],
        "TLS" => &["TLS", "TCP"],
        _ => return None,
    })
}

/// Whether HTTP can be served on the Listener. One with TLS speaks cleartext on the same port as well
/// (E2), and that works.
fn serves_http(object: &Object, spec: &ListenerSpec, problems: &mut Problems) -> bool {
    const STACK: &str = "spec.protocolStack";
    const PROTOCOL: &str = "spec.protocol";
    let custom: Option<Vec<&str>> = spec
        .protocol_stack
        .as_ref()
        .filter(|stack| !stack.is_empty())
        .map(|stack| stack.iter().map(String::as_str).collect());
    let (field, layers) = match (custom, spec.protocol.as_deref()) {
        (Some(stack), protocol) => {
            if protocol.is_some() {
                let message = "`spec.protocol` has no effect, because `protocolStack` is given as well; keep one of them";
                refuse(object, problems, "conflicting_fields", PROTOCOL, message);
            }
            (STACK, stack)
        }
        (None, Some(protocol)) => match stack(protocol) {
            Some(stack) => (PROTOCOL, stack.to_vec()),
            None => {
                let message = format!(
                    "`{PROTOCOL}` is `{protocol}`, so nothing is opened; write HTTP, HTTPS, HTTPPROXY, HTTPSPROXY, TCP or TLS"
                );
                refuse(object, problems, "bad_value", PROTOCOL, &message);
                return false;
            }
        },
        (None, None) => {
            refuse(
                object,
                problems,
                "missing_field",
                PROTOCOL,
                "`spec.protocol` is missing, so nothing is opened; write HTTP or HTTPS",
            );
            return false;
        }
    };
    match layers.as_slice() {
        ["HTTP", "TCP"] => true,
        ["TLS", "HTTP", "TCP"] => {
            let message = format!(
                "`{field}` asks for TLS, which nuncio does not terminate so far, so the port serves cleartext only; terminate TLS in front of it, and write HTTP"
            );
            refuse(object, problems, "not_supported_yet", field, &message);
            true
        }
        layers => {
            let fix = match layers.contains(&"HTTP") {
                true => "write HTTP, and let what stands in front of the port do the rest",
                false => "serve it by another proxy, and remove it",
            };
            let message = format!(
                "`{field}` is {}, which is not supported yet, so nothing is opened; {fix}",
                layers.join(" over ")
            );
            refuse(object, problems, "not_supported_yet", field, &message);
            false
        }
    }
}

fn security_model(object: &Object, text: Option<&str>, problems: &mut Problems) -> Option<SecurityModel> {
    const FIELD: &str = "spec.securityModel";
    match text {
        Some("XFP") => Some(SecurityModel::Xfp),
        Some("SECURE") => Some(SecurityModel::Secure),
        Some("INSECURE") => Some(SecurityModel::Insecure),
        other => {
            let what = other.map_or("is missing".to_owned(), |text| format!("is `{text}`"));
            let message = format!("`{FIELD}` {what}, so nothing is opened; write XFP, SECURE or INSECURE");
            refuse(object, problems, "bad_value", FIELD, &message);
            None
        }
    }
}

/// E3: a selector alone means the Listener's own namespace.
fn binding<'a>(
    object: &'a Object,
    binding: Option<&HostBinding>,
    problems: &mut Problems,
) -> Option<Binding<'a>> {
    const FIELD: &str = "spec.hostBinding";
    const FROM: &str = "spec.hostBinding.namespace.from";
    let own = Some(&*object.reference.namespace);
    let missing = |problems: &mut Problems| {
        let message = format!(
            "`{FIELD}` says nothing, so nothing is opened; write `namespace: {{from: ALL}}`, `namespace: {{from: SELF}}` or a selector"
        );
        refuse(object, problems, "missing_field", FIELD, &message);
        None
    };
    let Some(binding) = binding else {
        return missing(problems);
    };
    let selector = match &binding.selector {
        Some(selector) if selector.match_labels.is_none() => {
            let message = "`spec.hostBinding.selector` has no `matchLabels`, so nothing is opened; add them";
            refuse(
                object,
                problems,
                "missing_field",
                "spec.hostBinding.selector",
                message,
            );
            return None;
        }
        Some(selector) => Some(Selector::read(
            object,
            "spec.hostBinding.selector",
            selector,
            problems,
        )),
        None => None,
    };
    let namespace = match (
        binding
            .namespace
            .as_ref()
            .map(|namespace| namespace.from.as_deref()),
        &selector,
    ) {
        (Some(Some("ALL")), _) => None,
        (Some(Some("SELF")), _) | (None, Some(_)) => own,
        (Some(Some("SELECTOR")), _) => {
            let message = format!(
                "`{FROM}` is SELECTOR, which is not supported, so only Hosts of the Listener's own namespace are bound; write SELF or ALL"
            );
            refuse(object, problems, "not_supported_yet", FROM, &message);
            own
        }
        (Some(other), _) => {
            let what = other.map_or("is missing".to_owned(), |text| format!("is `{text}`"));
            refuse(
                object,
                problems,
                "bad_value",
                FROM,
                &format!("`{FROM}` {what}, so nothing is opened; write SELF or ALL"),
            );
            return None;
        }
        (None, None) => return missing(problems),
    };
    Some(Binding { namespace, selector })
}
