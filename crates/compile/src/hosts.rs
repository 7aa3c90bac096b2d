//! Hosts, and which Mappings belong to them (E18, E19).

use std::collections::BTreeMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use nuncio_crds::{HostSpec, LabelSelector};
use nuncio_model::{InsecureAction, Route, RouteTable, Severity, VirtualHost};

use crate::decode;
use crate::groups::Group;
use crate::inventory::Inventory;
use crate::mapping::conditions::HostCondition;
use crate::names;
use crate::problems::Problems;
use crate::secrets::{Materials, SecretName};
use crate::service;
use crate::{Object, Options};

/// A Host as far as it could be read.
pub(crate) struct Host<'a> {
    /// None for the one that stands in where there is none.
    pub(crate) object: Option<&'a Object>,
    pub(crate) namespace: &'a str,
    /// Lower case.
    pub(crate) hostname: Arc<str>,
    pub(crate) selector: Option<Selector>,
    insecure: InsecureAction,
    /// Its server certificate could be used.
    pub(crate) has_certificate: bool,
}

/// A label selector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    pub(crate) labels: BTreeMap<String, String>,
    /// It asks for something that is not understood, so nothing fulfils it.
    impossible: bool,
}

impl Selector {
    /// Reads one; Ambassador knows `matchLabels` only.
    pub(crate) fn read(
        object: &Object,
        field: &str,
        selector: &LabelSelector,
        problems: &mut Problems,
    ) -> Self {
        let impossible = selector
            .match_expressions
            .as_ref()
            .is_some_and(|expressions| !expressions.is_empty());
        if impossible {
            let message = format!(
                "`{field}.matchExpressions` is not supported, so the selector selects nothing; use `matchLabels`"
            );
            problems.error(object, "not_supported_yet", field, message);
        }
        Self {
            labels: selector.match_labels.clone().unwrap_or_default(),
            impossible,
        }
    }

    /// Whether an object with these labels is selected. An empty selector selects everything.
    pub(crate) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.impossible
            && self
                .labels
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
    }

    fn selects_loosely(&self, labels: &BTreeMap<String, String>) -> bool {
        let any = self
            .labels
            .iter()
            .any(|(key, value)| labels.get(key) == Some(value));
        !self.impossible && (self.labels.is_empty() || any)
    }
}

/// Reads all Hosts. Where there is none at all, one for `*` stands in (E17); it must not serve what one that is lost to
/// a slip would have redirected.
pub(crate) fn read<'a>(
    inventory: &Inventory<'a>,
    options: &'a Options,
    materials: &mut Materials<'_>,
    problems: &mut Problems,
) -> Vec<Host<'a>> {
    let objects = &inventory.hosts;
    if objects.is_empty() && !inventory.lost_a_host {
        let message = "there is no Host, so one for every hostname stands in, which serves cleartext; write a Host to choose";
        problems.general(Severity::Notice, "no_host", message);
        return vec![Host {
            object: None,
            namespace: &options.namespace,
            hostname: "*".into(),
            selector: None,
            insecure: InsecureAction::Route,
            has_certificate: false,
        }];
    }
    objects
        .iter()
        .filter_map(|object| read_one(object, options, materials, problems))
        .collect()
}

fn read_one<'a>(
    object: &'a Object,
    options: &Options,
    materials: &mut Materials<'_>,
    problems: &mut Problems,
) -> Option<Host<'a>> {
    let decoded = decode::spec::<HostSpec>(object, problems);
    if decoded
        .broken(&["hostname", "mappingSelector", "selector"])
        .is_some()
    {
        return None;
    }
    let spec = decoded.spec;
    let hostname = spec
        .hostname
        .as_deref()
        .filter(|name| !name.is_empty())
        .unwrap_or("*");
    let hostname = read_hostname(object, hostname, problems);
    const ONE: &str = "write one host name, and a Host for each of the others";
    if let Some((what, fix)) = names::impossible_host(&hostname, ONE, ONE) {
        let message =
            format!("`spec.hostname` is `{hostname}`, which {what}, so no request is for this Host; {fix}");
        problems.error(object, "matches_nothing", "spec.hostname", message);
    } else if names::Glob::of(&hostname).has_dead_star() {
        let message = format!(
            "`spec.hostname` is `{hostname}`, whose star is neither first nor last, so no request is for this Host; move the star"
        );
        problems.error(object, "matches_nothing", "spec.hostname", message);
    }
    let selector = match (&spec.mapping_selector, &spec.selector) {
        (Some(selector), older) => {
            if older.is_some() {
                let message =
                    "`spec.selector` has no effect, because `mappingSelector` is given as well; keep that";
                problems.warning(object, "conflicting_fields", "spec.selector", message);
            }
            Some(Selector::read(object, "spec.mappingSelector", selector, problems))
        }
        (None, Some(selector)) => Some(Selector::read(object, "spec.selector", selector, problems)),
        (None, None) => None,
    };
    let insecure = insecure_action(object, &spec, problems);
    let has_certificate = certificate(object, &spec, options, materials, problems)?;
    Some(Host {
        object: Some(object),
        namespace: &object.reference.namespace,
        hostname: hostname.into(),
        selector,
        insecure,
        has_certificate,
    })
}

/// A URL stands for its host: what the Host says about insecure requests must not be lost with it, because a Host for
/// more names could serve them.
fn read_hostname(object: &Object, text: &str, problems: &mut Problems) -> String {
    let is_url = |host: &String| !host.is_empty() && !text.contains("\\.");
    let Some(host) = service::host_in_url(text).filter(is_url) else {
        return text.to_lowercase();
    };
    let shown = service::without_credentials(text);
    let message =
        format!("`spec.hostname` is `{shown}`, which is no hostname, and counts as `{host}`; write that");
    problems.error(object, "bad_value", "spec.hostname", message);
    host.to_lowercase()
}

fn insecure_action(object: &Object, spec: &HostSpec, problems: &mut Problems) -> InsecureAction {
    const FIELD: &str = "spec.requestPolicy.insecure.action";
    let insecure = spec
        .request_policy
        .as_ref()
        .and_then(|policy| policy.insecure.as_ref());
    if insecure.is_some_and(|policy| policy.additional_port.is_some()) {
        let message =
            "`spec.requestPolicy.insecure.additionalPort` has no effect; write a Listener for that port";
        problems.notice(
            object,
            "no_effect",
            "spec.requestPolicy.insecure.additionalPort",
            message,
        );
    }
    match insecure.and_then(|policy| policy.action.as_deref()) {
        None | Some("" | "Redirect") => InsecureAction::Redirect,
        Some("Route") => InsecureAction::Route,
        Some("Reject") => InsecureAction::Reject,
        Some(other) => {
            let message = format!(
                "`{FIELD}` is `{other}`, so insecure requests are redirected; write Redirect, Route or Reject"
            );
            problems.error(object, "bad_value", FIELD, message);
            InsecureAction::Redirect
        }
    }
}

/// Whether there is a server certificate that could be used. Nothing where its lack disables the Host
/// as a whole (decision 18).
fn certificate(
    object: &Object,
    spec: &HostSpec,
    options: &Options,
    materials: &mut Materials<'_>,
    problems: &mut Problems,
) -> Option<bool> {
    const FIELD: &str = "spec.tlsSecret";
    for (name, is_given) in [
        ("tlsContext", spec.tls_context.is_some()),
        ("tls", spec.tls.is_some()),
    ] {
        if is_given {
            let field = format!("spec.{name}");
            let message = format!(
                "`{field}` has no effect yet, because nuncio does not terminate TLS so far; the Host is served over cleartext as `requestPolicy` says"
            );
            problems.notice(object, "not_supported_yet", &field, message);
        }
    }
    let Some(name) = spec
        .tls_secret
        .as_ref()
        .and_then(|secret| secret.name.as_deref())
        .filter(|name| !name.is_empty())
    else {
        return Some(false);
    };
    let namespace = spec
        .tls_secret
        .as_ref()
        .and_then(|secret| secret.namespace.as_deref());
    let namespace = namespace
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or(&object.reference.namespace);
    let name = SecretName {
        namespace: namespace.into(),
        name: name.into(),
    };
    match materials.server(&name, problems) {
        Ok(()) => {
            let message = format!(
                "`{FIELD}` has no effect yet, because nuncio does not terminate TLS so far; the Host is served over cleartext as `requestPolicy` says"
            );
            problems.notice(object, "not_supported_yet", FIELD, message);
            Some(true)
        }
        Err(unusable) if options.force_secret_validation => {
            let message = unusable.message_for(
                FIELD,
                "so the Host is not served at all, as AMBASSADOR_FORCE_SECRET_VALIDATION asks",
            );
            problems.report(unusable.severity, object, unusable.reason, FIELD, message);
            None
        }
        Err(unusable) => {
            let message = unusable.message_for(FIELD, "so the Host has no TLS side");
            problems.report(unusable.severity, object, unusable.reason, FIELD, message);
            Some(false)
        }
    }
}

/// Finds the routes of Hosts. Equal routes and equal tables are made once.
pub(crate) struct Association<'g, 'a> {
    groups: &'g [Group<'a>],
    /// Groups whose hostname is no glob, by it.
    exact: HashMap<&'g str, Vec<usize>>,
    /// All others.
    open: Vec<usize>,
    loose: bool,
    whole: Vec<Option<Arc<Route>>>,
    partial: HashMap<(usize, Vec<usize>), Arc<Route>>,
    /// By the addresses of their routes, which live as long as this does.
    tables: HashMap<Vec<usize>, Arc<RouteTable>>,
    /// Whether a member belongs to any Host.
    reached: Vec<Vec<bool>>,
}

impl<'g, 'a> Association<'g, 'a> {
    pub(crate) fn new(groups: &'g [Group<'a>], loose: bool) -> Self {
        let mut exact: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut open = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            match group.host() {
                HostCondition::Glob(glob) if !glob.contains('*') => {
                    exact.entry(glob).or_default().push(index);
                }
                _ => open.push(index),
            }
        }
        Self {
            groups,
            exact,
            open,
            loose,
            whole: groups.iter().map(|_| None).collect(),
            partial: HashMap::new(),
            tables: HashMap::new(),
            reached: groups
                .iter()
                .map(|group| vec![false; group.members.len()])
                .collect(),
        }
    }

    /// A Host with its routes in match order. A Mapping without hostname needs a Host with a selector.
    pub(crate) fn virtual_host(&mut self, host: &Host<'_>) -> Arc<VirtualHost> {
        let mut routes = Vec::new();
        for index in self.candidates(host) {
            routes.extend(self.route(index, host));
        }
        let key: Vec<usize> = routes.iter().map(|route| Arc::as_ptr(route) as usize).collect();
        let table = self
            .tables
            .entry(key)
            .or_insert_with(|| Arc::new(RouteTable::new(routes)));
        Arc::new(VirtualHost {
            object: host.object.map(|object| object.reference.clone()),
            hostname: Arc::clone(&host.hostname),
            insecure: host.insecure,
            routes: Arc::clone(table),
        })
    }

    /// Groups that can belong to a Host by their hostname, in match order.
    fn candidates(&self, host: &Host<'_>) -> Vec<usize> {
        let by_label_alone = self.loose && host.selector.is_some();
        if host.hostname.contains('*') || by_label_alone {
            return (0..self.groups.len()).collect();
        }
        let exact = self.exact.get(&*host.hostname).map_or(&[][..], Vec::as_slice);
        if exact.is_empty() {
            return self.open.clone();
        }
        let mut candidates = [exact, &self.open].concat();
        candidates.sort_unstable();
        candidates
    }

    fn route(&mut self, index: usize, host: &Host<'_>) -> Option<Arc<Route>> {
        let group = &self.groups[index];
        let by_name = match group.host() {
            HostCondition::None => None,
            HostCondition::Regex => Some(true),
            HostCondition::Glob(glob) => Some(names::globs_meet(glob, &host.hostname)),
        };
        let Some(selector) = &host.selector else {
            return (by_name == Some(true)).then(|| self.whole(index));
        };
        let members: Vec<usize> = group
            .members
            .iter()
            .enumerate()
            .filter(|(_, member)| self.belongs(by_name, selector, &member.object.labels))
            .map(|(position, _)| position)
            .collect();
        if members.is_empty() {
            return None;
        }
        if members.len() == group.members.len() {
            return Some(self.whole(index));
        }
        for &member in &members {
            self.reached[index][member] = true;
        }
        Some(match self.partial.entry((index, members)) {
            Entry::Occupied(route) => Arc::clone(route.get()),
            Entry::Vacant(slot) => {
                let route = Arc::new(group.route(&slot.key().1));
                Arc::clone(slot.insert(route))
            }
        })
    }

    /// The route with every member of a group.
    fn whole(&mut self, index: usize) -> Arc<Route> {
        let group = &self.groups[index];
        let route = self.whole[index].get_or_insert_with(|| {
            self.reached[index].fill(true);
            let members: Vec<usize> = (0..group.members.len()).collect();
            match group.route_before() {
                Some(route) => Arc::clone(route),
                None => Arc::new(group.route(&members)),
            }
        });
        Arc::clone(route)
    }

    /// E18 and E19: a Host's selector and a Mapping's hostname must both agree where both are given.
    fn belongs(&self, by_name: Option<bool>, selector: &Selector, labels: &BTreeMap<String, String>) -> bool {
        if self.loose {
            selector.selects_loosely(labels) || by_name == Some(true)
        } else {
            selector.selects(labels) && by_name != Some(false)
        }
    }

    /// Routes of Mappings that share theirs with no other, by the positions of the Mappings.
    pub(crate) fn routes_of_one(&self) -> HashMap<usize, Arc<Route>> {
        let whole = self.groups.iter().zip(&self.whole);
        whole
            .filter_map(|(group, route)| match group.members.as_slice() {
                [only] => Some((only.position, Arc::clone(route.as_ref()?))),
                _ => None,
            })
            .collect()
    }

    /// Tells of Mappings that no Host has.
    pub(crate) fn tell_unreached(&self, problems: &mut Problems) {
        for (group, reached) in self.groups.iter().zip(&self.reached) {
            for (member, _) in group
                .members
                .iter()
                .zip(reached)
                .filter(|(_, reached)| !**reached)
            {
                let cure = match group.host() {
                    HostCondition::None => "give it a `hostname`, such as \"*\"",
                    _ => "write a Host whose hostname and selector fit it",
                };
                let message = format!("the Mapping belongs to no Host, so no request reaches it; {cure}");
                problems.warning(member.object, "belongs_to_no_host", "spec.hostname", message);
            }
        }
    }
}
