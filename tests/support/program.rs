//! The built program: commands that end, and gateways that run.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpSocket;

use super::client::{Client, Response, request};
use super::waiting::eventually;

/// Another program may take a port between its choice and its use.
const ATTEMPTS: usize = 10;

/// The program with these arguments and no environment variable that would change what it does. Another build than
/// the one beside these tests is driven where `NUNCIO_TEST_PROGRAM` names it, such as an optimised one.
pub fn nuncio<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let program = std::env::var_os("NUNCIO_TEST_PROGRAM");
    let mut command = Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_nuncio").into()));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars() {
        if name.starts_with("AMBASSADOR_") || name.starts_with("NUNCIO_") || name.starts_with("AES_") {
            command.env_remove(name);
        }
    }
    command
        .env_remove("ENVOY_CONCURRENCY")
        .env_remove("SSLKEYLOGFILE");
    command
}

/// A command that ended.
#[derive(Debug)]
pub struct Finished {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    pub fn of(command: &mut Command) -> Self {
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        Self {
            status: status.code().unwrap_or(-1),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }
}

/// Runs a command to its end.
pub fn finish(arguments: &[&str]) -> Finished {
    Finished::of(&mut nuncio(arguments))
}

/// Waits for a command without holding up the test's own servers.
pub async fn finish_beside(mut command: Command) -> Finished {
    tokio::task::spawn_blocking(move || Finished::of(&mut command))
        .await
        .unwrap()
}

/// The program while it runs; killed when dropped.
pub struct Running {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    readers: Vec<JoinHandle<()>>,
}

/// Lines that a program has printed so far.
type Lines = Arc<Mutex<Vec<String>>>;

impl Running {
    pub fn start(command: Command) -> Self {
        Self::start_reading(command, true)
    }

    fn start_reading(mut command: Command, stdout: bool) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, stderr) = (Lines::default(), Lines::default());
        let mut readers = vec![collect(child.stderr.take().unwrap(), Arc::clone(&stderr))];
        if stdout {
            readers.push(collect(child.stdout.take().unwrap(), Arc::clone(&lines)));
        }
        Self {
            child,
            stdout: lines,
            stderr,
            readers,
        }
    }

    /// What is on standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.lock().unwrap().clone()
    }

    /// What is on standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits for what `find` finds in a line of standard output.
    pub async fn printed<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        eventually(what, async || self.stdout().iter().find_map(|line| find(line))).await
    }

    /// Waits for a line of standard error that holds `text`.
    pub async fn logged(&mut self, text: &str) {
        let holds = || self.stderr().iter().any(|line| line.contains(text)).then_some(());
        eventually(&format!("`{text}` in the log"), async || holds()).await;
    }

    /// Where its admin interface is, once the log says so.
    pub async fn admin(&self) -> SocketAddr {
        eventually("an admin interface", async || {
            self.stderr().iter().find_map(|line| {
                let (_, address) = line.split_once("admin interface on http://")?;
                address.trim().parse().ok()
            })
        })
        .await
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status().unwrap();
        assert!(status.success());
    }

    /// The exit status once it has ended; -1 for a signal.
    pub fn ended(&mut self) -> Option<i32> {
        self.child
            .try_wait()
            .unwrap()
            .map(|status| status.code().unwrap_or(-1))
    }

    /// Waits for the end; all that was printed has then been read.
    pub async fn end(&mut self) -> i32 {
        let status = eventually("the program ends", async || self.ended()).await;
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- its standard error:\n{}", self.stderr().join("\n"));
        }
    }
}

fn collect(pipe: impl Read + Send + 'static, lines: Lines) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    })
}

/// A gateway to be started.
pub struct Plan {
    manifests: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    files: Vec<(String, String)>,
    expose_reasons: bool,
    read_log: bool,
    /// A kubeconfig to read instead of the manifests, and the port of the cluster's Listener.
    cluster: Option<(PathBuf, u16)>,
}

impl Plan {
    /// Reads from a cluster, which has a Listener on `port`.
    pub fn cluster(mut self, kubeconfig: &Path, port: u16) -> Self {
        self.cluster = Some((kubeconfig.to_owned(), port));
        self
    }

    /// Leaves `--expose-reasons` out.
    pub fn without_reasons(mut self) -> Self {
        self.expose_reasons = false;
        self
    }

    /// Lets nobody read the standard output.
    pub fn unread_log(mut self) -> Self {
        self.read_log = false;
        self
    }

    /// Adds arguments of `nuncio run`.
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Leads an upstream's `host:port` to an address, as `--resolve` does.
    pub fn resolve(self, host_and_port: &str, address: SocketAddr) -> Self {
        let ip = match address {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        };
        self.args(&["--resolve", &format!("{host_and_port}:{ip}:{}", address.port())])
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts one more file beside the manifests.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Starts it and waits until it serves. Where the manifests hold no Listener, an HTTP one on a free
    /// port is added; where they do, `$PORT` in them stands for that port.
    pub async fn start(self) -> Gateway {
        let mut last = Vec::new();
        for _ in 0..ATTEMPTS {
            match self.attempt().await {
                Ok(gateway) => return gateway,
                Err(stderr) => last = stderr,
            }
        }
        panic!("the gateway does not start:\n{}", last.join("\n"));
    }

    async fn attempt(&self) -> Result<Gateway, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests).unwrap();
        let kept = self.cluster.is_none().then(KeptPort::new);
        let port = match (&kept, &self.cluster) {
            (Some(kept), _) => kept.number,
            (None, cluster) => cluster.as_ref().map_or(0, |(_, port)| *port),
        };
        let mut text = self.manifests.replace("$PORT", &port.to_string());
        if !text.contains("kind: Listener") {
            text = format!("{}---\n{text}", listener(port));
        }
        std::fs::write(manifests.join("manifests.yaml"), text).unwrap();
        for (name, text) in &self.files {
            std::fs::write(manifests.join(name), text).unwrap();
        }
        let mut command = nuncio(["run", "--admin", "127.0.0.1:0", "--bind", "127.0.0.1"]);
        if self.expose_reasons {
            command.arg("--expose-reasons");
        }
        if !self.arguments.iter().any(|argument| argument == "--workers") {
            command.args(["--workers", "1"]);
        }
        command.args(&self.arguments);
        match &self.cluster {
            Some((kubeconfig, _)) => command.arg("--kubernetes").arg("--kubeconfig").arg(kubeconfig),
            None => command.arg("--config").arg(&manifests),
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut program = Running::start_reading(command, self.read_log);
        let started = eventually("the gateway is ready", async || match program.ended() {
            Some(_) => Some(None),
            None => Some(Some(admin_when_ready(&program.stderr())?)),
        });
        let Some(admin) = started.await else {
            program.end().await;
            return Err(program.stderr());
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Gateway {
            address,
            admin,
            program,
            folder,
            _port: kept,
        })
    }
}

/// The admin address out of the log, once the log says that the gateway is ready.
fn admin_when_ready(log: &[String]) -> Option<SocketAddr> {
    let (_, rest) = log
        .iter()
        .find_map(|line| line.split_once("admin interface on http://"))?;
    let ready = log.iter().any(|line| line.ends_with(" ready"));
    ready.then(|| rest.trim().parse().unwrap())
}

/// A port of 127.0.0.1 that nobody else is given for as long as this lives. A gateway can listen on it, since
/// it shares its ports among its workers and looks only for others that listen.
pub struct KeptPort {
    pub number: u16,
    _socket: TcpSocket,
}

impl KeptPort {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        // Only now: a port that may be shared could be one that is.
        socket.set_reuseport(true).unwrap();
        socket.set_reuseaddr(true).unwrap();
        Self {
            number: socket.local_addr().unwrap().port(),
            _socket: socket,
        }
    }
}

/// A port of 127.0.0.1 that was free a moment ago.
pub fn free_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap().port()
}

/// An HTTP Listener that takes every Host.
pub fn listener(port: u16) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata:\n  name: test-{port}\nspec:\n  \
         port: {port}\n  protocol: HTTP\n  securityModel: XFP\n  hostBinding:\n    namespace:\n      from: ALL\n"
    )
}

/// A Mapping of every hostname at `prefix` to `service`; `more` are further lines of its spec.
pub fn mapping(name: &str, prefix: &str, service: &str, more: &[&str]) -> String {
    let mut text = format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata:\n  name: {name}\nspec:\n  \
         hostname: \"*\"\n  prefix: {prefix}\n  service: {service}\n"
    );
    for line in more {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

/// A TLSContext with these lines in its spec.
pub fn tls_context(name: &str, lines: &[&str]) -> String {
    let mut text = format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: TLSContext\nmetadata:\n  name: {name}\nspec:\n"
    );
    for line in lines {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

/// The same objects in another namespace than `default`.
pub fn in_namespace(namespace: &str, manifests: &str) -> String {
    manifests.replace("metadata:\n", &format!("metadata:\n  namespace: {namespace}\n"))
}

/// A gateway that serves; killed when dropped.
pub struct Gateway {
    /// Its first port.
    pub address: SocketAddr,
    /// Its admin interface.
    pub admin: SocketAddr,
    pub program: Running,
    folder: TempDir,
    _port: Option<KeptPort>,
}

impl Gateway {
    /// A gateway with these manifests and reasons exposed; more can be said before it is started.
    pub fn with(manifests: impl Into<String>) -> Plan {
        Plan {
            manifests: manifests.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            files: Vec::new(),
            expose_reasons: true,
            read_log: true,
            cluster: None,
        }
    }

    /// Starts a gateway with these manifests.
    pub async fn start(manifests: impl Into<String>) -> Self {
        Self::with(manifests).start().await
    }

    /// What clients call it.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// GETs a path on a connection of its own.
    pub async fn get(&self, path: &str) -> Response {
        self.send(request(Method::GET, &self.authority(), path, "")).await
    }

    /// Sends a request on an HTTP/1.1 connection of its own.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Response {
        Client::http1(self.address).await.send(request).await.unwrap()
    }

    /// GETs a path of the admin interface.
    pub async fn admin(&self, path: &str) -> Response {
        Client::http1(self.admin)
            .await
            .get(&self.admin.to_string(), path)
            .await
    }

    /// GETs JSON from the admin interface.
    pub async fn admin_json(&self, path: &str) -> Value {
        self.admin(path).await.json()
    }

    /// The upstream of `/api/v1/upstreams` that the Mapping of this name uses.
    pub async fn upstream_of(&self, mapping: &str) -> Value {
        let all = self.admin_json("/api/v1/upstreams").await;
        let used_by = |upstream: &&Value| {
            let mappings = upstream["mappings"].as_array().unwrap();
            mappings.iter().any(|user| user["name"] == mapping)
        };
        let found = all["upstreams"].as_array().unwrap().iter().find(used_by);
        found
            .unwrap_or_else(|| panic!("no upstream of {mapping} in {all:#}"))
            .clone()
    }

    /// Everything in `/api/v1/problems`.
    pub async fn problems(&self) -> Vec<Value> {
        let all = self.admin_json("/api/v1/problems").await;
        all["problems"].as_array().unwrap().clone()
    }

    /// The problem of this object (`Mapping m.default`) with this reason.
    pub async fn problem(&self, object: &str, reason: &str) -> Value {
        let all = self.problems().await;
        let found = all
            .iter()
            .find(|problem| problem["reason"] == reason && object_of(problem) == object);
        let found = found.unwrap_or_else(|| panic!("no {reason} of {object} in {all:#?}"));
        found.clone()
    }

    /// Waits for an access-log entry with this path.
    pub async fn access_log(&self, path: &str) -> Value {
        eventually("an access-log entry", async || {
            let lines = self.program.stdout();
            let entries = lines
                .iter()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            entries.into_iter().find(|entry| entry["path"] == path)
        })
        .await
    }

    /// The folder of its manifests.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("manifests")
    }

    /// The manifests that it was started with; the Listener is among them.
    pub fn manifests(&self) -> String {
        std::fs::read_to_string(self.folder().join("manifests.yaml")).unwrap()
    }

    /// Writes a file among its manifests the way editors do: a new file takes the old one's place.
    pub fn write(&self, name: &str, text: &str) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.folder().join(name)).unwrap();
    }

    /// Removes a file from its manifests.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.folder().join(name)).unwrap();
    }

    /// GETs a path until the answer is right; for use after [`Gateway::write`].
    pub async fn get_until(&self, path: &str, right: impl Fn(&Response) -> bool) -> Response {
        eventually("the answer changes", async || {
            Some(self.get(path).await).filter(&right)
        })
        .await
    }
}

/// `Mapping m.default`; empty for a problem of no object.
pub fn object_of(problem: &Value) -> String {
    let part = |name: &str| problem["object"][name].as_str();
    match (part("kind"), part("name"), part("namespace")) {
        (Some(kind), Some(name), Some(namespace)) => format!("{kind} {name}.{namespace}"),
        _ => String::new(),
    }
}

/// The folder of the repository.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
