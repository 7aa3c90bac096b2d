//! Standard output and standard error that are closed, full, stalled, or read by nobody any more.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, pipe};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::net::unix::pipe::Sender;

use crate::support::client::Client;
use crate::support::peer::Upstream;
use crate::support::program::{Finished, KeptPort, finish, listener, mapping, nuncio};
use crate::support::waiting::eventually;

/// A gateway whose standard output and standard error are what a test gives it.
struct Unread {
    child: Child,
    folder: TempDir,
    upstream: Upstream,
    port: KeptPort,
    admin: KeptPort,
}

impl Unread {
    /// Starts it by way of `run` and waits until it is ready.
    async fn start(run: impl FnOnce(Command) -> Child) -> Self {
        let (port, admin) = (KeptPort::new(), KeptPort::new());
        let upstream = Upstream::cleartext().await;
        let folder = tempfile::tempdir().unwrap();
        let text = listener(port.number) + &mapping("m", "/", &format!("http://{}", upstream.address), &[]);
        std::fs::write(folder.path().join("m.yaml"), text).unwrap();
        let address = format!("127.0.0.1:{}", admin.number);
        let mut command = nuncio([
            "run",
            "--bind",
            "127.0.0.1",
            "--workers",
            "1",
            "--admin",
            &address,
        ]);
        command.arg("--config").arg(folder.path());
        let unread = Self {
            child: run(command),
            folder,
            upstream,
            port,
            admin,
        };
        let ready = async || (unread.admin("/ambassador/v0/check_ready").await == Some(200)).then_some(());
        eventually("the gateway is ready", ready).await;
        unread
    }

    async fn admin(&self, path: &str) -> Option<u16> {
        Some(self.admin_text(path).await?.0)
    }

    async fn admin_text(&self, path: &str) -> Option<(u16, String)> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.admin.number));
        let stream = TcpStream::connect(address).await.ok()?;
        let mut client = Client::http1_over(stream).await;
        let response = client.get("localhost", path).await;
        Some((response.status.as_u16(), response.text().to_owned()))
    }

    async fn get(&self, path: &str) -> u16 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port.number));
        Client::http1(address).await.get("a", path).await.status.as_u16()
    }

    /// Adds a Mapping with a mistake, which the log has something to say about, and waits until it is live.
    async fn edit(&self, name: &str) {
        let path: PathBuf = self.folder.path().join(format!("{name}.yaml"));
        let prefix = format!("/{name}/");
        let text = mapping(name, &prefix, "https://127.0.0.1:1", &["tls: missing"]);
        std::fs::write(path, text).unwrap();
        let live = async || (self.get(&prefix).await == 503).then_some(());
        eventually("the edit is live", live).await;
    }

    async fn lost(&self, metric: &str) -> u64 {
        let (_, page) = self.admin_text("/metrics").await.unwrap();
        let line = page.lines().find(|line| line.starts_with(metric)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Serves, follows edits and ends as if its output were read.
    async fn is_unharmed(&mut self) {
        self.edit("first").await;
        self.edit("second").await;
        assert_eq!(self.get("/").await, 200);
        assert_eq!(self.admin("/ambassador/v0/check_alive").await, Some(200));
        assert_eq!(self.ended().await, Some(0));
    }

    async fn ended(&mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").arg(&id).status().unwrap().success());
        let ended = async || self.child.try_wait().unwrap();
        eventually("the gateway ends", ended).await.code()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn with(mut command: Command, out: impl Into<Stdio>, err: impl Into<Stdio>) -> Child {
    command.stdout(out).stderr(err).spawn().unwrap()
}

/// Reads lines up to one that holds `text`.
fn read_until(reader: PipeReader, text: &str) -> BufReader<PipeReader> {
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "no `{text}`");
    }
    reader
}

/// Fills a pipe, so that the next who writes to it would wait.
fn fill(pipe: PipeWriter) {
    let pipe = Sender::from_owned_fd(OwnedFd::from(pipe)).unwrap();
    for part in [&[b'x'; 4096][..], b"x"] {
        while pipe.try_write(part).is_ok() {}
    }
    // The program shares the descriptor, and expects it to block.
    drop(pipe.into_blocking_fd().unwrap());
}

#[tokio::test]
async fn a_gateway_serves_on_when_the_readers_of_its_logs_leave() {
    let (out_reader, out) = pipe().unwrap();
    let (err_reader, err) = pipe().unwrap();
    let mut gateway = Unread::start(|command| with(command, out, err)).await;
    drop((out_reader, err_reader));
    gateway.edit("unread").await;
    let lost = async || (gateway.lost("nuncio_log_lost_total ").await > 0).then_some(());
    eventually("lost lines of the log are counted", lost).await;
    assert_eq!(gateway.get("/").await, 200);
    let lost = async || (gateway.lost("nuncio_access_log_lost_total ").await > 0).then_some(());
    eventually("lost lines of the access log are counted", lost).await;
    gateway.is_unharmed().await;
}

#[tokio::test]
async fn a_gateway_serves_on_while_the_readers_of_its_logs_stall() {
    let (_out_reader, out) = pipe().unwrap();
    let (_err_reader, err) = pipe().unwrap();
    let (out_filler, err_filler) = (out.try_clone().unwrap(), err.try_clone().unwrap());
    let mut gateway = Unread::start(|command| with(command, out, err)).await;
    fill(out_filler);
    fill(err_filler);
    gateway.is_unharmed().await;
}

#[tokio::test]
async fn a_gateway_serves_on_when_its_disk_is_full() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let mut gateway = Unread::start(|command| with(command, full(), full())).await;
    gateway.is_unharmed().await;
}

#[tokio::test]
async fn a_gateway_serves_with_its_outputs_closed_from_the_start() {
    let closed = |command: Command| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"]);
        shell.arg(command.get_program()).args(command.get_args());
        shell.spawn().unwrap()
    };
    let mut gateway = Unread::start(closed).await;
    gateway.is_unharmed().await;
    // Nothing but requests came here, so no socket took the number of an output.
    for request in gateway.upstream.requests() {
        assert_eq!(request.method, "GET");
    }
}

#[tokio::test]
async fn lost_lines_are_reported_once_when_the_reader_is_back() {
    let (out_reader, out) = pipe().unwrap();
    let (err_reader, err) = pipe().unwrap();
    let gateway = Unread::start(|command| with(command, out, err)).await;
    // Nobody reads the access log until lines are lost.
    while gateway.lost("nuncio_access_log_lost_total ").await == 0 {
        assert_eq!(gateway.get(&format!("/{}", "x".repeat(4000))).await, 200);
    }
    let lost = gateway.lost("nuncio_access_log_lost_total ").await;
    let drain = std::thread::spawn(|| BufReader::new(out_reader).lines().map_while(Result::ok).count());
    let report = format!("the access log lost {lost} line");
    let reader = tokio::task::spawn_blocking(move || read_until(err_reader, &report));
    let rest = reader.await.unwrap();
    drop(gateway);
    assert!(drain.join().unwrap() > 0);
    let rest: Vec<_> = rest.lines().map_while(Result::ok).collect();
    assert!(!rest.iter().any(|line| line.contains("lost")), "{rest:?}");
}

#[test]
fn commands_end_quietly_when_their_reader_leaves() {
    let broken = "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {name: m}\nspec: {}\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.yaml"), broken).unwrap();
    let path = folder.path().to_str().unwrap();
    for (arguments, status) in [
        (&["check", path][..], 1),
        (&["check", path, "--format", "json"], 1),
        (&["explain", "http://a/", "--config", path], 1),
        (&["crds"], 0),
        (&["--help"], 0),
        (&["--version"], 0),
    ] {
        let read = finish(arguments);
        assert_eq!(read.status, status, "{arguments:?}: {}", read.stderr);
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let Finished {
            status: unread,
            stderr,
            ..
        } = finish_into(arguments, writer);
        assert_eq!((unread, &*stderr), (status, &*read.stderr), "{arguments:?}");
    }
}

/// Runs a command whose standard output is this.
fn finish_into(arguments: &[&str], out: PipeWriter) -> Finished {
    let mut command = nuncio(arguments);
    command.stdout(out).stderr(Stdio::piped());
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    Finished {
        status: output.status.code().unwrap_or(-1),
        stdout: String::new(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
