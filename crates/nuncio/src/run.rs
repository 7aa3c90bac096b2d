//! `nuncio run`: joins the controller, the proxy and the admin interface, and ends them in order.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nuncio_admin::{About, Admin};
use nuncio_compile::Options;
use nuncio_controller::{ClusterHealth, ControllerError, Publisher, run_files, run_kubernetes};
use nuncio_model::{ClusterState, EndpointTable, Live, Severity, Snapshot};
use nuncio_proxy::{LogQueue, Proxy, StartError};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::failure::Failure;
use crate::settings::{RunSettings, Source, cannot_listen};
use crate::signals::Termination;

/// Supervisors send a signal to the process and then to its group: within this time that is one signal.
const ONE_SIGNAL: Duration = Duration::from_millis(250);
/// Connections to the admin interface that may wait to be accepted.
const ADMIN_BACKLOG: u32 = 1024;

/// What the controller has to end in.
const LETTING_GO: Duration = Duration::from_secs(5);

/// A gateway that runs in this process. Dropping it ends the control tasks, not the requests in flight.
pub(crate) struct Gateway {
    /// Where the admin interface listens.
    pub(crate) admin: SocketAddr,
    snapshot: watch::Receiver<Option<Arc<Snapshot>>>,
    proxy: Proxy,
    bind: IpAddr,
    /// A port of the first configuration that cannot be opened ends the start.
    needs_ports: bool,
    shutdown_delay: Duration,
    drain_time: Duration,
    leave: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    controller: JoinHandle<Result<(), ControllerError>>,
    tasks: Vec<JoinHandle<()>>,
}

/// Why a gateway did not come up.
#[derive(Debug)]
pub(crate) enum NotOpened {
    /// A Listener's port, or the workers.
    Proxy(StartError),
    /// Watching the manifests.
    Controller(String),
}

impl Gateway {
    /// Takes the admin port and starts everything; [`Gateway::opened`] tells when it serves. `log` is the
    /// program's own, for the metric of its lost lines.
    pub(crate) async fn start(settings: RunSettings, log: Option<LogQueue>) -> Result<Self, Failure> {
        let RunSettings {
            source,
            admin,
            admin_names,
            proxy,
            mut compile,
            shutdown_delay,
            warnings,
        } = settings;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let bound = listen(admin, proxy.take_over);
        let listener =
            bound.map_err(|error| cannot_listen("the admin interface", admin, error, "--admin"))?;
        let admin = listener
            .local_addr()
            .map_err(|error| Failure::wrong(error.to_string()))?;
        let (snapshot_sender, snapshot) = watch::channel(None);
        let (endpoint_sender, endpoints) = watch::channel(Arc::new(EndpointTable::default()));
        let (bind, drain_time) = (proxy.bind, proxy.drain_time);
        compile.admin_port = meet(admin.ip(), bind).then_some(admin.port());
        let max_connections = proxy.admin_connections;
        let proxy = Proxy::start(proxy, &snapshot, &endpoints)
            .map_err(|error| Failure::wrong(format!("cannot start the workers: {error}")))?;
        let (stop, stopped) = watch::channel(false);
        let (leave, leaving) = watch::channel(false);
        let health = match source {
            Source::Files(_) => None,
            Source::Kubernetes(_) => Some(Arc::new(ClusterHealth::default())),
        };
        // In a cluster a Listener may be anybody's, and the gateway everybody's.
        let needs_ports = health.is_none();
        let serve = nuncio_admin::serve(
            listener,
            Admin {
                snapshot: snapshot.clone(),
                live: proxy.live(),
                about: about(&compile, &source),
                cluster: health.clone().map(|health| health as Arc<dyn ClusterState>),
                leaving,
                lost_log_lines: Arc::new(move || log.as_ref().map_or(0, LogQueue::lost)),
                names: admin_names,
                max_connections,
            },
            until(stopped.clone()),
        );
        let tell = tell_changes(where_problems_show(&source, admin), snapshot.clone());
        let publisher = Publisher {
            snapshot: snapshot_sender,
            endpoints: endpoint_sender,
        };
        let tasks = vec![
            tokio::spawn(async {
                if let Err(error) = serve.await {
                    tracing::error!("the admin interface ended: {error}");
                }
            }),
            tokio::spawn(tell),
        ];
        let controller = control(source, compile, publisher, (health, proxy.live()), stopped);
        Ok(Self {
            admin,
            snapshot,
            proxy,
            bind,
            needs_ports,
            shutdown_delay,
            drain_time,
            leave,
            stop,
            controller,
            tasks,
        })
    }

    /// Waits until the first configuration serves: on all its ports, unless it is that of a cluster.
    pub(crate) async fn opened(&mut self) -> Result<(), NotOpened> {
        let failed = tokio::select! {
            opened = self.proxy.opened() => match opened {
                Ok(()) => return Ok(()),
                // It is a problem of that Listener, and tried again.
                Err(error @ StartError::Port { .. }) if !self.needs_ports => {
                    tracing::error!("{error}");
                    return Ok(());
                }
                Err(error) => error,
            },
            ended = &mut self.controller => return Err(NotOpened::Controller(sentence_of(ended))),
        };
        // Workers end when nobody is left who could publish: then the controller knows the cause.
        if self.snapshot.has_changed().is_err() {
            let ended = (&mut self.controller).await;
            return Err(NotOpened::Controller(sentence_of(ended)));
        }
        Err(NotOpened::Proxy(failed))
    }

    /// The configuration in force; none before [`Gateway::opened`].
    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.borrow().clone()
    }

    /// Says that it is not ready any more, and goes on serving for the shutdown delay: until then some still
    /// send new connections here.
    pub(crate) async fn leave(&self) {
        // Nobody reads it only when the admin interface is gone already.
        let _ = self.leave.send(true);
        tokio::time::sleep(self.shutdown_delay).await;
    }

    /// Stops accepting and finishes what is in flight, for the drain time at most.
    pub(crate) async fn drain(self) {
        // Nobody listens only when the tasks have ended already.
        let _ = self.stop.send(true);
        self.proxy.drain().await;
        // It lets go of what it holds in the cluster, within a limit of its own.
        let _ = tokio::time::timeout(LETTING_GO, self.controller).await;
        for task in self.tasks {
            task.abort();
        }
    }
}

/// Whether a port of one address is also one of the other.
fn meet(one: IpAddr, other: IpAddr) -> bool {
    one == other || one.is_unspecified() || other.is_unspecified()
}

/// Opens the admin port. It can be shared, so that another process can take over from this one, but only
/// with one that means to: otherwise a port that is taken is an error.
fn listen(address: SocketAddr, take_over: bool) -> io::Result<TcpListener> {
    let bind = |shared| {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(shared)?;
        socket.bind(address)?;
        Ok::<_, io::Error>(socket)
    };
    if !take_over {
        bind(false)?;
    }
    bind(true)?.listen(ADMIN_BACKLOG)
}

/// Starts what reads the configuration.
fn control(
    source: Source,
    options: Options,
    publisher: Publisher,
    (health, live): (Option<Arc<ClusterHealth>>, Arc<dyn Live>),
    stopped: watch::Receiver<bool>,
) -> JoinHandle<Result<(), ControllerError>> {
    let stop = until(stopped);
    match source {
        Source::Files(paths) => tokio::spawn(run_files(paths, options, publisher, stop)),
        Source::Kubernetes(cluster) => {
            let health = health.unwrap_or_default();
            tokio::spawn(run_kubernetes(cluster, options, publisher, health, live, stop))
        }
    }
}

fn sentence_of(ended: Result<Result<(), ControllerError>, tokio::task::JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "the configuration is not watched any more".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone means stop as well.
    let _ = stopped.wait_for(|stop| *stop).await;
}

fn about(options: &nuncio_compile::Options, source: &Source) -> About {
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: hostname.trim().to_owned(),
        ambassador_id: options.ambassador_id.clone(),
        namespace: options.namespace.clone(),
        single_namespace: options.single_namespace,
        mode: match source {
            Source::Files(_) => "file",
            Source::Kubernetes(_) => "kubernetes",
        },
        started: SystemTime::now(),
    }
}

fn where_problems_show(source: &Source, admin: SocketAddr) -> String {
    match source {
        Source::Files(paths) => {
            let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
            format!("`nuncio check {}`", paths.join(" "))
        }
        Source::Kubernetes(_) => format!("http://{admin}/api/v1/problems"),
    }
}

/// Logs where the problems of every configuration that is published can be seen; the controller logs
/// the problems themselves.
async fn tell_changes(place: String, mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>) {
    while snapshots.changed().await.is_ok() {
        let snapshot = snapshots.borrow_and_update().clone();
        let problems = snapshot.as_ref().map_or(&[][..], |snapshot| &snapshot.problems);
        let serious = problems
            .iter()
            .filter(|problem| problem.severity > Severity::Notice)
            .count();
        if serious > 0 {
            let noun = if serious == 1 { "problem" } else { "problems" };
            tracing::warn!("{serious} {noun} in the configuration: {place} shows where");
        }
    }
}

/// The ports in words, for the log.
fn ports(bind: IpAddr, snapshot: Option<&Snapshot>) -> String {
    let listeners = snapshot.map_or(&[][..], |snapshot| &snapshot.listeners);
    if listeners.is_empty() {
        return "serves no port: the manifests hold no usable Listener".to_owned();
    }
    let addresses = listeners
        .iter()
        .map(|listener| SocketAddr::new(bind, listener.port).to_string());
    format!("serves on {}", addresses.collect::<Vec<_>>().join(", "))
}

/// `nuncio run`: serves until SIGTERM or SIGINT, then drains. A second signal ends it at once.
pub(crate) async fn run(settings: RunSettings, log: LogQueue) -> Result<ExitCode, Failure> {
    let mut signals = Termination::listen()?;
    let mut gateway = Gateway::start(settings, Some(log)).await?;
    tracing::info!("admin interface on http://{}", gateway.admin);
    let opened = tokio::select! {
        opened = gateway.opened() => opened,
        signal = signals.next() => {
            tracing::info!("{signal}: ends before the first configuration served");
            return Ok(ExitCode::SUCCESS);
        }
    };
    opened.map_err(|error| match error {
        NotOpened::Proxy(error @ StartError::Port { .. }) => Failure::port(error.to_string()),
        NotOpened::Proxy(error) => Failure::usage(error.to_string()),
        NotOpened::Controller(error) => Failure::usage(error),
    })?;
    tracing::info!("{}", ports(gateway.bind, gateway.snapshot().as_deref()));
    tracing::info!("ready");
    tokio::select! {
        signal = signals.next() => {
            let seconds = gateway.drain_time.as_secs();
            if !gateway.shutdown_delay.is_zero() {
                let delay = gateway.shutdown_delay.as_secs();
                tracing::info!("{signal}: not ready any more, goes on accepting for {delay} s");
                tokio::select! {
                    () = gateway.leave() => {}
                    again = signals.next_after(ONE_SIGNAL) => tracing::info!("{again}: drains now"),
                }
            }
            tracing::info!("{signal}: finishes what is in flight, for {seconds} s at most");
        }
        ended = &mut gateway.controller => return Err(Failure::wrong(sentence_of(ended))),
    }
    tokio::select! {
        () = gateway.drain() => {
            tracing::info!("drained");
            Ok(ExitCode::SUCCESS)
        }
        signal = signals.next_after(ONE_SIGNAL) => {
            tracing::warn!("{signal} again: ends at once");
            Ok(ExitCode::FAILURE)
        }
    }
}
