//! `Endpoints` of Kubernetes' core API.

use serde::Deserialize;

/// The endpoints of the Service of the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Endpoints {
    /// Addresses that share their ports.
    pub subsets: Option<Vec<EndpointSubset>>,
}

/// Addresses that share their ports. Those that are not ready are in a list that is not read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EndpointSubset {
    /// Ready addresses.
    pub addresses: Option<Vec<EndpointAddress>>,
    /// Their ports.
    pub ports: Option<Vec<EndpointPort>>,
}

/// An address of [`Endpoints`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EndpointAddress {
    /// The address.
    pub ip: Option<String>,
}

/// A port of endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EndpointPort {
    /// Name of the Service's port that it belongs to.
    pub name: Option<String>,
    /// The port of the pods.
    pub port: Option<u16>,
    /// `TCP` where absent.
    pub protocol: Option<String>,
}
