//! Addresses of Services, the way a cluster finds them.
//!
//! A port of a Service leads to endpoint ports of its name, else of its target port. EndpointSlices
//! win over Endpoints (decision 15). A Service without endpoint objects is reached by its `clusterIP`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use nuncio_crds::{
    EndpointPort, EndpointSlice, Endpoints, SERVICE_NAME_LABEL, Service, ServicePort, SliceEndpoint,
    TargetPort,
};
use nuncio_model::{EndpointTable, Problem, Resolve, ServiceKey};

use crate::inventory::Inventory;
use crate::object::Version;
use crate::problems::Problems;
use crate::{Object, Objects, Options, decode, names, service};

/// Ready addresses that share their ports.
struct Subset {
    ports: Vec<EndpointPort>,
    addresses: Vec<IpAddr>,
}

/// A Service and what is known of its endpoints.
struct Known {
    service: Service,
    /// None where no object says anything about its endpoints.
    subsets: Option<Vec<Subset>>,
    namespace: Arc<str>,
    name: Arc<str>,
}

/// All Services among the objects.
#[derive(Default)]
pub(crate) struct Services {
    /// By namespace and name.
    known: HashMap<Arc<str>, HashMap<Arc<str>, Known>>,
    extent: Extent,
}

/// Which Services exist only if they are among the objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Extent {
    /// None.
    #[default]
    Unknown,
    /// Those of this namespace.
    Namespace(String),
    /// All.
    Cluster,
}

impl Extent {
    pub(crate) fn of(objects: &Objects, options: &Options) -> Self {
        match (objects.all_services, options.single_namespace) {
            (false, _) => Self::Unknown,
            (true, true) => Self::Namespace(options.namespace.clone()),
            (true, false) => Self::Cluster,
        }
    }
}

/// Services as they were read, for the next compile: most edits are about something else.
#[derive(Clone, Default)]
pub(crate) struct ReadServices {
    pub(crate) services: Arc<Services>,
    pub(crate) table: EndpointTable,
    told: Arc<[Problem]>,
    /// What they were read from.
    read: Arc<[Version]>,
}

impl ReadServices {
    /// Reads Services and endpoints, unless they are what they were in the last compile.
    pub(crate) fn next(&self, inventory: &Inventory<'_>, extent: Extent, problems: &mut Problems) -> Self {
        let objects = || {
            [&inventory.slices, &inventory.endpoints, &inventory.services]
                .into_iter()
                .flatten()
        };
        let count = objects().count();
        let same = self.read.len() == count
            && self.services.extent == extent
            && self
                .read
                .iter()
                .zip(objects())
                .all(|(read, object)| read.is_of(object));
        let next = if same {
            self.clone()
        } else {
            let mut told = Problems::default();
            let mut services = Services::read(inventory, &mut told);
            services.extent = extent;
            Self {
                table: services.table(),
                services: Arc::new(services),
                told: told.found().into(),
                read: objects().map(|object| Version::of(object)).collect(),
            }
        };
        problems.extend(&next.told);
        next
    }
}

/// How a Service port is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// There is no such Service among the objects; whether there is none at all.
    UnknownService { exists_not: bool },
    /// The Service has ports, and this is none of them; the ones it has.
    UnknownPort(Resolve, Vec<u16>),
    /// So.
    Known(Resolve),
}

impl Services {
    /// Reads Services and endpoints.
    pub(crate) fn read(inventory: &Inventory<'_>, problems: &mut Problems) -> Self {
        let mut subsets = from_slices(&inventory.slices, problems);
        let sliced: HashSet<_> = subsets.keys().cloned().collect();
        for object in &inventory.endpoints {
            let key = (
                Arc::clone(&object.reference.namespace),
                Arc::clone(&object.reference.name),
            );
            if !sliced.contains(&key)
                && let Some(endpoints) = decode::document::<Endpoints>(object, problems)
            {
                subsets.insert(key, from_endpoints(object, endpoints, problems));
            }
        }
        let mut known: HashMap<_, HashMap<_, _>> = HashMap::new();
        for object in &inventory.services {
            let Some(service) = decode::document::<Service>(object, problems) else {
                continue;
            };
            tell_external_name(object, &service, problems);
            let (namespace, name) = (
                Arc::clone(&object.reference.namespace),
                Arc::clone(&object.reference.name),
            );
            let key = (Arc::clone(&namespace), Arc::clone(&name));
            let subsets = subsets.remove(&key);
            let of_namespace = known.entry(Arc::clone(&namespace)).or_default();
            of_namespace.insert(
                Arc::clone(&name),
                Known {
                    service,
                    subsets,
                    namespace,
                    name,
                },
            );
        }
        Self {
            known,
            extent: Extent::Unknown,
        }
    }

    /// How `port` of a Service is reached. `is_meant` says that the name can mean nothing else; `svc.ns` may be a name
    /// of the world, unless there are other Services in `ns`.
    pub(crate) fn route(&self, namespace: &str, name: &str, port: u16, is_meant: bool) -> Route {
        let Some(known) = self.get(namespace, name) else {
            let is_seen = match &self.extent {
                Extent::Unknown => false,
                Extent::Namespace(only) => only == namespace,
                Extent::Cluster => true,
            };
            let exists_not = is_seen && (is_meant || self.known.contains_key(namespace));
            return Route::UnknownService { exists_not };
        };
        let spec = &known.service.spec;
        if spec.kind.as_deref() == Some("ExternalName") {
            let target = spec.external_name.as_deref().unwrap_or_default();
            return Route::Known(external(target, port));
        }
        let key = known.key(port);
        let ports = tcp_ports(&known.service);
        if !ports.is_empty() && !ports.iter().any(|known| known.port == Some(port)) {
            let others = ports.iter().filter_map(|port| port.port).collect();
            return Route::UnknownPort(Resolve::Service(key), others);
        }
        match known.cluster_ips() {
            ips if known.subsets.is_none() && !ips.is_empty() => Route::Known(Resolve::Fixed(
                ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect(),
            )),
            _ => Route::Known(Resolve::Service(key)),
        }
    }

    /// The addresses of every port of every Service that has any.
    pub(crate) fn table(&self) -> EndpointTable {
        let mut table = EndpointTable::default();
        for known in self.known.values().flat_map(HashMap::values) {
            for port in tcp_ports(&known.service) {
                let addresses = known.addresses(port);
                if let Some(number) = port.port.filter(|_| !addresses.is_empty()) {
                    table.services.insert(known.key(number), addresses.into());
                }
            }
        }
        table
    }

    fn get(&self, namespace: &str, name: &str) -> Option<&Known> {
        self.known.get(namespace)?.get(name)
    }
}

impl Known {
    fn key(&self, port: u16) -> ServiceKey {
        ServiceKey {
            namespace: Arc::clone(&self.namespace),
            name: Arc::clone(&self.name),
            port,
        }
    }

    fn cluster_ips(&self) -> Vec<IpAddr> {
        let spec = &self.service.spec;
        let all = spec.cluster_ips.iter().flatten();
        let mut ips: Vec<IpAddr> = all
            .chain(&spec.cluster_ip)
            .filter_map(|text| text.parse().ok())
            .collect();
        let mut seen = HashSet::new();
        ips.retain(|ip| seen.insert(*ip));
        ips
    }

    fn addresses(&self, port: &ServicePort) -> Vec<SocketAddr> {
        let only_port = tcp_ports(&self.service).len() == 1;
        let mut seen = HashSet::new();
        let mut addresses = Vec::new();
        for subset in self.subsets.iter().flatten() {
            let Some(number) = endpoint_port(port, only_port, &subset.ports) else {
                continue;
            };
            let sockets = subset.addresses.iter().map(|ip| SocketAddr::new(*ip, number));
            addresses.extend(sockets.filter(|address| seen.insert(*address)));
        }
        addresses
    }
}

fn external(target: &str, port: u16) -> Resolve {
    match names::ip(target) {
        Some(ip) => Resolve::Fixed(Arc::from([SocketAddr::new(ip, port)])),
        None => Resolve::Dns(target.into()),
    }
}

/// A name that DNS cannot find leads nowhere.
fn tell_external_name(object: &Object, service: &Service, problems: &mut Problems) {
    const FIELD: &str = "spec.externalName";
    let spec = &service.spec;
    if spec.kind.as_deref() != Some("ExternalName") {
        return;
    }
    let name = spec.external_name.as_deref().unwrap_or_default();
    let message = match names::dns_name(name) {
        _ if name.is_empty() => {
            format!(
                "`{FIELD}` is missing, so this Service leads nowhere; write the DNS name that it stands for"
            )
        }
        _ if names::ip(name).is_some() => return,
        Ok(_) => return,
        Err(why) => {
            let fix = match service::host_in_url(name) {
                Some(host) if !host.is_empty() => format!("write `{}`", names::without_port(&host)),
                _ => "write a DNS name".to_owned(),
            };
            let shown = service::without_credentials(name);
            format!("`{FIELD}` is `{shown}`, which {why}, so this Service leads nowhere; {fix}")
        }
    };
    problems.error(object, "bad_value", FIELD, message);
}

fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

fn tcp_ports(service: &Service) -> Vec<&ServicePort> {
    service
        .spec
        .ports
        .iter()
        .flatten()
        .filter(|port| is_tcp(port.protocol.as_deref()))
        .collect()
}

/// The pods' port behind a Service's port: of its name, as endpoint controllers write it; else of its
/// target port, as people write it by hand; else the only one for the only one.
fn endpoint_port(port: &ServicePort, only_port: bool, ports: &[EndpointPort]) -> Option<u16> {
    let tcp: Vec<&EndpointPort> = ports
        .iter()
        .filter(|port| is_tcp(port.protocol.as_deref()))
        .collect();
    let name = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let is_target = |candidate: &EndpointPort| match &port.target_port {
        Some(TargetPort::Number(number)) => candidate.port == Some(*number),
        Some(TargetPort::Name(target)) => candidate.name.as_deref() == Some(target),
        None => candidate.port == port.port,
    };
    let named: Vec<&&EndpointPort> = tcp
        .iter()
        .filter(|candidate| name(&candidate.name) == name(&port.name))
        .collect();
    let by_name = named
        .iter()
        .find(|candidate| is_target(candidate))
        .or(named.first())
        .map(|port| **port);
    let by_target = || tcp.iter().find(|candidate| is_target(candidate)).copied();
    let the_only = || {
        (only_port && tcp.len() == 1)
            .then(|| tcp.first().copied())
            .flatten()
    };
    by_name.or_else(by_target).or_else(the_only)?.port
}

type SubsetsByService = HashMap<(Arc<str>, Arc<str>), Vec<Subset>>;

fn from_slices(objects: &[&Object], problems: &mut Problems) -> SubsetsByService {
    let mut slices: HashMap<_, Vec<(&Object, EndpointSlice)>> = HashMap::new();
    for &object in objects {
        let Some(service) = object.labels.get(SERVICE_NAME_LABEL) else {
            let message = format!(
                "the slice belongs to no Service, because it has no label `{SERVICE_NAME_LABEL}`; add it"
            );
            problems.warning(object, "missing_field", "metadata.labels", message);
            continue;
        };
        if let Some(slice) = decode::document::<EndpointSlice>(object, problems) {
            let key = (
                Arc::clone(&object.reference.namespace),
                Arc::from(service.as_str()),
            );
            slices.entry(key).or_default().push((object, slice));
        }
    }
    slices
        .into_iter()
        .map(|(key, slices)| (key, subsets_of(slices, problems)))
        .collect()
}

/// Whether a change of an EndpointSlice is one of addresses alone, which have a way of their own: no route and no
/// problem depends on them. False where that is not certain.
pub fn tells_other_addresses_only(before: &Object, after: &Object) -> bool {
    let service = |object: &Object| object.labels.get(SERVICE_NAME_LABEL).cloned();
    let is_silent = |object: &Object| {
        let mut problems = Problems::default();
        let slice = decode::document::<EndpointSlice>(object, &mut problems);
        let subsets = slice.map(|slice| subsets_of(vec![(object, slice)], &mut problems));
        subsets.is_some() && problems.count() == 0
    };
    before.kind == "EndpointSlice"
        && after.reference == before.reference
        && service(before).is_some()
        && service(after) == service(before)
        && is_silent(before)
        && is_silent(after)
}

/// Ready endpoints; where a Service has none, those that end but still serve, as kube-proxy does.
fn subsets_of(slices: Vec<(&Object, EndpointSlice)>, problems: &mut Problems) -> Vec<Subset> {
    let any_ready = slices
        .iter()
        .any(|(_, slice)| !is_of_names(slice) && slice.endpoints.iter().flatten().any(is_ready));
    let usable = if any_ready { is_ready } else { is_still_serving };
    let mut subsets = Vec::with_capacity(slices.len());
    for (object, slice) in slices {
        if is_of_names(&slice) {
            let message = "the slice holds names and no addresses, so its endpoints are left out, as kube-proxy \
                           does; name the host in spec.service of the Mapping, or make the Service one of type \
                           ExternalName";
            problems.warning(object, "not_read", "addressType", message);
            continue;
        }
        let mut addresses = Vec::new();
        for endpoint in slice
            .endpoints
            .iter()
            .flatten()
            .filter(|endpoint| usable(endpoint))
        {
            let text = endpoint
                .addresses
                .iter()
                .flatten()
                .next()
                .map_or("", String::as_str);
            addresses.extend(address(object, "endpoints", text, problems));
        }
        subsets.push(Subset {
            ports: slice.ports.unwrap_or_default(),
            addresses,
        });
    }
    subsets
}

fn is_of_names(slice: &EndpointSlice) -> bool {
    slice.address_type.as_deref() == Some("FQDN")
}

fn is_ready(endpoint: &SliceEndpoint) -> bool {
    endpoint
        .conditions
        .as_ref()
        .and_then(|conditions| conditions.ready)
        .unwrap_or(true)
}

fn is_still_serving(endpoint: &SliceEndpoint) -> bool {
    endpoint
        .conditions
        .as_ref()
        .is_some_and(|conditions| conditions.serving == Some(true) && conditions.terminating == Some(true))
}

fn from_endpoints(object: &Object, endpoints: Endpoints, problems: &mut Problems) -> Vec<Subset> {
    let mut subsets = Vec::new();
    for subset in endpoints.subsets.unwrap_or_default() {
        let mut addresses = Vec::new();
        for ip in subset.addresses.unwrap_or_default() {
            addresses.extend(address(
                object,
                "subsets",
                ip.ip.as_deref().unwrap_or_default(),
                problems,
            ));
        }
        subsets.push(Subset {
            ports: subset.ports.unwrap_or_default(),
            addresses,
        });
    }
    subsets
}

fn address(object: &Object, field: &str, text: &str, problems: &mut Problems) -> Option<IpAddr> {
    let ip = text.parse().ok();
    if ip.is_none() {
        let message = format!("`{text}` is no IP address, so this endpoint is left out; correct it");
        problems.warning(object, "bad_value", field, message);
    }
    ip
}
