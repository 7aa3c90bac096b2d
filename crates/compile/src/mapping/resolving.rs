//! How the host of a Mapping is found.

use std::net::SocketAddr;
use std::sync::Arc;

use nuncio_model::{Resolve, UpstreamHost};

use super::Draft;
use crate::endpoints::Route;
use crate::service::ClusterName;
use crate::tellable::tellable;

impl Draft<'_, '_> {
    pub(super) fn resolve(&mut self, host: &UpstreamHost, route: Route, port: u16) -> Resolve {
        if let Some(address) = self.resolved_by_flag(host, port) {
            return Resolve::Fixed(Arc::from([address]));
        }
        let name = match host {
            UpstreamHost::Ip(ip) => return Resolve::Fixed(Arc::from([SocketAddr::new(*ip, port)])),
            UpstreamHost::Name(name) => name,
        };
        match route {
            Route::UnknownService { .. } => Resolve::Dns(Arc::clone(name)),
            Route::Known(resolve) => resolve,
            Route::UnknownPort(resolve, others) => {
                let others: Vec<String> = others.iter().map(u16::to_string).collect();
                let message = format!(
                    "`spec.service` asks for port {port} of Service `{name}`, which only has {}; write one of them",
                    others.join(", ")
                );
                self.problems
                    .error(self.object, "unknown_port", "spec.service", message);
                resolve
            }
        }
    }

    /// DNS is asked all the same: it may know better than the API server does.
    pub(super) fn tell_unknown_service(&mut self, cluster: ClusterName<'_>) {
        let (name, namespace) = (tellable(cluster.service), tellable(cluster.namespace));
        let message = format!(
            "`spec.service` asks for Service `{name}` in namespace `{namespace}`, which does not exist; create it or correct the name"
        );
        self.problems
            .error(self.object, "unknown_service", "spec.service", message);
    }

    fn resolved_by_flag(&self, host: &UpstreamHost, port: u16) -> Option<SocketAddr> {
        if self.around.resolve.is_empty() {
            return None;
        }
        let host = match host {
            UpstreamHost::Name(name) => name.trim_end_matches('.').to_owned(),
            UpstreamHost::Ip(ip) => ip.to_string(),
        };
        self.around.resolve.get(&(host, port)).copied()
    }
}
