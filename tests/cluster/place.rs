//! What a request is about.

use http::Method;
use serde_json::Value;

/// Every resource that it serves: group, version, plural, kind.
const RESOURCES: [(&str, &str, &str, &str); 20] = [
    ("getambassador.io", "v3alpha1", "mappings", "Mapping"),
    ("getambassador.io", "v3alpha1", "tlscontexts", "TLSContext"),
    ("getambassador.io", "v3alpha1", "hosts", "Host"),
    ("getambassador.io", "v3alpha1", "listeners", "Listener"),
    ("getambassador.io", "v3alpha1", "modules", "Module"),
    ("getambassador.io", "v3alpha1", "tcpmappings", "TCPMapping"),
    (
        "getambassador.io",
        "v3alpha1",
        "kubernetesserviceresolvers",
        "KubernetesServiceResolver",
    ),
    (
        "getambassador.io",
        "v3alpha1",
        "kubernetesendpointresolvers",
        "KubernetesEndpointResolver",
    ),
    (
        "getambassador.io",
        "v3alpha1",
        "consulresolvers",
        "ConsulResolver",
    ),
    ("getambassador.io", "v3alpha1", "authservices", "AuthService"),
    (
        "getambassador.io",
        "v3alpha1",
        "ratelimitservices",
        "RateLimitService",
    ),
    ("getambassador.io", "v3alpha1", "filterpolicies", "FilterPolicy"),
    ("getambassador.io", "v3alpha1", "filters", "Filter"),
    ("", "v1", "services", "Service"),
    ("", "v1", "endpoints", "Endpoints"),
    ("", "v1", "secrets", "Secret"),
    ("", "v1", "events", "Event"),
    ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    ("events.k8s.io", "v1", "events", "Event"),
    ("coordination.k8s.io", "v1", "leases", "Lease"),
];

/// Where a path leads.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub plural: String,
    pub api_version: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub subresource: String,
}

impl Place {
    /// `/api/v1/...` and `/apis/GROUP/VERSION/...`.
    pub fn parse(path: &str) -> Option<Self> {
        let mut steps = path.split('/').filter(|step| !step.is_empty());
        let (group, version) = match steps.next()? {
            "api" => ("", steps.next()?),
            "apis" => (steps.next()?, steps.next()?),
            _ => return None,
        };
        let mut rest: Vec<&str> = steps.collect();
        let mut namespace = "";
        if rest.first() == Some(&"namespaces") && rest.len() > 2 {
            namespace = rest[1];
            rest.drain(..2);
        }
        let known = RESOURCES
            .iter()
            .find(|known| known.0 == group && known.1 == version && Some(&known.2) == rest.first())?;
        Some(Self {
            plural: known.2.to_owned(),
            api_version: if group.is_empty() {
                version.to_owned()
            } else {
                format!("{group}/{version}")
            },
            kind: known.3.to_owned(),
            namespace: namespace.to_owned(),
            name: rest.get(1).unwrap_or(&"").to_string(),
            subresource: rest.get(2).unwrap_or(&"").to_string(),
        })
    }

    pub fn of(object: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let known = RESOURCES.iter().find(|known| {
            let version = if known.0.is_empty() {
                known.1.to_owned()
            } else {
                format!("{}/{}", known.0, known.1)
            };
            version == api_version && known.3 == kind
        });
        let known = known.unwrap_or_else(|| panic!("{kind} of {api_version} is not served here"));
        Self {
            plural: known.2.to_owned(),
            api_version,
            kind,
            namespace: text(&object["metadata"]["namespace"]),
            name: text(&object["metadata"]["name"]),
            subresource: String::new(),
        }
    }
}

pub fn verb(method: &Method, place: &Place, query: &str) -> &'static str {
    match *method {
        Method::GET if !place.name.is_empty() => "get",
        Method::GET if matches!(parameter(query, "watch").as_deref(), Some("true" | "1")) => "watch",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::DELETE => "delete",
        _ => "patch",
    }
}

/// A parameter of a query; what is escaped in it is of no concern here.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| value.to_owned())
    })
}
