//! `Service` of Kubernetes' core API: what is needed to find its endpoints.

use serde::Deserialize;

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Service {
    /// What it is.
    pub spec: ServiceSpec,
}

/// `spec` of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its address, or `None` for a headless one.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    /// All its addresses, where it has one of each family.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<String>>,
    /// Name that an `ExternalName` Service stands for.
    pub external_name: Option<String>,
    /// Its ports.
    pub ports: Option<Vec<ServicePort>>,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServicePort {
    /// Its name; may be absent where it is the only one.
    pub name: Option<String>,
    /// Port of the Service.
    pub port: Option<u16>,
    /// Port of the pods; `port` where absent.
    pub target_port: Option<TargetPort>,
    /// `TCP` where absent.
    pub protocol: Option<String>,
}

/// A pod's port by number or name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a port number or the name of a port")]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}
