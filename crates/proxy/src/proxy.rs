//! The running proxy: its workers, and what the rest of the program may ask of them.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nuncio_model::{EndpointTable, Live, Problem, Snapshot, UpstreamIndex, UpstreamStatus};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;

use crate::access_log::AccessLog;
use crate::descriptors::Budget;
use crate::log_queue::LogQueue;
use crate::stats::{Totals, WorkerStats};
use crate::upstream::live::lock;
use crate::worker::{Orders, Shared, Worker};
use crate::{metrics, problems};

/// How to run the proxy.
#[derive(Clone, Copy, Debug)]
pub struct ProxyOptions {
    /// Data-plane threads; at least one is started.
    pub workers: usize,
    /// Address that listeners bind.
    pub bind: IpAddr,
    /// To standard output.
    pub access_log: AccessLog,
    /// Add `x-nuncio-reason` to answers of the gateway's own for a failed upstream.
    pub expose_reasons: bool,
    /// The most that draining takes.
    pub drain_time: Duration,
    /// Listen beside another process that has the same ports and is about to leave them.
    pub take_over: bool,
    /// Descriptors that the process may have.
    pub descriptors: usize,
    /// Of those, how many are for connections to the admin interface.
    pub admin_connections: usize,
}

/// Why the proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A thread could not be started.
    #[error("cannot start a worker: {0}")]
    Thread(#[from] io::Error),
    /// A listener's port could not be opened.
    #[error("cannot listen on port {port} of {address}: {why}")]
    Port {
        /// The bind address.
        address: IpAddr,
        /// The port.
        port: u16,
        /// What the system says, and the fix.
        why: String,
    },
    /// The workers ended before they served.
    #[error("the workers ended before they served")]
    Ended,
}

/// A running proxy.
pub struct Proxy {
    shared: Arc<Shared>,
    stats: Vec<Arc<WorkerStats>>,
    served: Vec<watch::Receiver<Option<u64>>>,
    drain: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// Starts the workers. They serve once `snapshot` holds one; an update of either channel is live as
    /// soon as the workers have taken it.
    pub fn start(
        options: ProxyOptions,
        snapshot: &watch::Receiver<Option<Arc<Snapshot>>>,
        endpoints: &watch::Receiver<Arc<EndpointTable>>,
    ) -> Result<Self, StartError> {
        let shared = Arc::new(Shared {
            bind: options.bind,
            expose_reasons: options.expose_reasons,
            access_log: options.access_log,
            log: options.access_log.open()?,
            drain_time: options.drain_time,
            take_over: options.take_over,
            registry: Default::default(),
            workers: options.workers.max(1),
            budget: Budget::new(
                options.descriptors,
                options.workers.max(1),
                options.admin_connections,
            ),
            unbound: Default::default(),
            bound: Default::default(),
        });
        let (drain, draining) = watch::channel(false);
        let mut proxy = Self {
            shared,
            stats: Vec::new(),
            served: Vec::new(),
            drain,
            threads: Vec::new(),
        };
        for number in 0..options.workers.max(1) {
            proxy.start_worker(number, snapshot, endpoints, &draining)?;
        }
        Ok(proxy)
    }

    fn start_worker(
        &mut self,
        number: usize,
        snapshot: &watch::Receiver<Option<Arc<Snapshot>>>,
        endpoints: &watch::Receiver<Arc<EndpointTable>>,
        drain: &watch::Receiver<bool>,
    ) -> Result<(), StartError> {
        let (served, serving) = watch::channel(None);
        let mut snapshot = snapshot.clone();
        // A snapshot that is there already counts as new for a worker that has not seen it.
        snapshot.mark_changed();
        let orders = Orders {
            snapshot,
            endpoints: endpoints.clone(),
            drain: drain.clone(),
            served,
        };
        let stats = Arc::<WorkerStats>::default();
        let (shared, worker_stats) = (Arc::clone(&self.shared), Arc::clone(&stats));
        let runtime = || {
            Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default())
        };
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || match runtime() {
                Ok(runtime) => runtime.block_on(Worker::new(shared, worker_stats).run(orders)),
                Err(error) => tracing::error!(%error, "a worker has no runtime"),
            })?;
        self.stats.push(stats);
        self.served.push(serving);
        self.threads.push(thread);
        Ok(())
    }

    /// Waits until every worker serves the first configuration.
    ///
    /// # Errors
    /// A port of that configuration that could not be opened.
    pub async fn opened(&self) -> Result<(), StartError> {
        for served in &self.served {
            let mut served = served.clone();
            served
                .wait_for(Option::is_some)
                .await
                .map_err(|_| StartError::Ended)?;
        }
        let unbound = lock(&self.shared.unbound);
        match unbound.iter().next() {
            Some((port, why)) => Err(StartError::Port {
                address: self.shared.bind,
                port: *port,
                why: why.clone(),
            }),
            None => Ok(()),
        }
    }

    /// What the running proxy tells about itself.
    pub fn live(&self) -> Arc<dyn Live> {
        Arc::new(LiveProxy {
            shared: Arc::clone(&self.shared),
            stats: self.stats.clone(),
            served: self.served.clone(),
            drain: self.drain.subscribe(),
        })
    }

    /// Stops accepting, finishes what is under way, at most for the drain time, and returns.
    pub async fn drain(mut self) {
        self.drain.send_replace(true);
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            let ended: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
            if let Some(log) = &self.shared.log {
                log.flush();
            }
            ended.iter().all(Result::is_ok)
        });
        if !joined.await.unwrap_or(false) {
            tracing::error!("a worker ended in a panic");
        }
    }
}

struct LiveProxy {
    shared: Arc<Shared>,
    stats: Vec<Arc<WorkerStats>>,
    served: Vec<watch::Receiver<Option<u64>>>,
    drain: watch::Receiver<bool>,
}

impl Live for LiveProxy {
    fn upstream(&self, snapshot: &Snapshot, index: UpstreamIndex) -> UpstreamStatus {
        let upstream = snapshot.upstream(index);
        self.shared
            .registry
            .get(&upstream.identity)
            .map(|live| live.status())
            .unwrap_or_default()
    }

    fn metrics(&self, snapshot: &Snapshot) -> String {
        let lost = self.shared.log.as_ref().map_or(0, LogQueue::lost);
        let live_problems = problems::count(snapshot, &self.shared);
        let totals = Totals::of(&self.stats);
        let shed = self.shared.budget.shed();
        metrics::page(
            snapshot,
            &self.shared.registry,
            &totals,
            live_problems,
            (lost, shed),
        )
    }

    fn problems(&self, snapshot: &Snapshot) -> Vec<Problem> {
        problems::all(snapshot, &self.shared)
    }

    fn alive(&self) -> bool {
        // A worker holds its sender as long as it runs; once it drains it may end.
        *self.drain.borrow() || self.served.iter().all(|served| served.has_changed().is_ok())
    }

    fn ready(&self) -> bool {
        self.served.iter().all(|served| served.borrow().is_some()) && self.shared.has_port()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_worker_that_ended_is_noticed() {
        let (snapshots, snapshot) = watch::channel(None);
        let (_addresses, endpoints) = watch::channel(Arc::default());
        let options = ProxyOptions {
            workers: 2,
            bind: Ipv4Addr::LOCALHOST.into(),
            access_log: AccessLog::Off,
            expose_reasons: false,
            drain_time: Duration::ZERO,
            take_over: false,
            descriptors: 1024,
            admin_connections: 64,
        };
        let proxy = Proxy::start(options, &snapshot, &endpoints).expect("workers");
        let live = proxy.live();
        assert!(live.alive() && !live.ready());
        // Nobody asked them to drain: they end because what they follow is gone.
        drop(snapshots);
        for worker in proxy.threads {
            worker.join().expect("no panic");
        }
        assert!(!live.alive());
    }
}
