//! Programs under test: started with their output kept, waited for, and ended with the test.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Result;

/// How long a program may take to become what a test waits for; a loaded machine needs some of it.
const LIMIT: Duration = Duration::from_secs(60);
/// How often is looked again where no line of output announces the event.
const PAUSE: Duration = Duration::from_millis(20);

/// A running program. Dropping it ends it.
pub(crate) struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
}

#[derive(Default)]
struct Output {
    text: Mutex<String>,
    grown: Condvar,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, String> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// Starts `program`; standard output and error are kept together.
    pub(crate) fn start(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        let (mut reader, writer) = std::io::pipe()?;
        let child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .env("PATH", search_path())
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()
            .map_err(|error| {
                format!("{program} cannot be started ({error}); tests/peers/install installs it")
            })?;
        let output = Arc::<Output>::default();
        let kept = Arc::clone(&output);
        // Ends when the last holder of the pipe's other end does.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                kept.lock().push_str(&String::from_utf8_lossy(&buffer[..read]));
                kept.grown.notify_all();
            }
        });
        Ok(Self {
            name: program.to_owned(),
            child,
            output,
        })
    }

    /// All it has printed so far.
    pub(crate) fn output(&self) -> String {
        self.output.lock().clone()
    }

    /// Looks at the output until `look` finds something: after each new piece, and after each short pause.
    pub(crate) fn wait_for<T>(&mut self, what: &str, mut look: impl FnMut(&str) -> Option<T>) -> Result<T> {
        let started = Instant::now();
        loop {
            let text = self.output();
            if let Some(found) = look(&text) {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("{} ended with {status} before {what}:\n{text}", self.name).into());
            }
            if started.elapsed() > LIMIT {
                return Err(format!("{}: no {what} within {LIMIT:?}:\n{text}", self.name).into());
            }
            let current = self.output.lock();
            if current.len() == text.len() {
                drop(self.output.grown.wait_timeout(current, PAUSE));
            }
        }
    }

    /// Waits until it accepts connections at `address`.
    pub(crate) fn wait_for_port(&mut self, address: SocketAddr) -> Result {
        self.wait_for(&format!("connection at {address}"), |_| {
            TcpStream::connect(address).ok()
        })?;
        Ok(())
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "a failed test shows what its programs said")]
    fn drop(&mut self) {
        // Either fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- output of {}:\n{}", self.name, self.output());
        }
    }
}

/// A port for a program that cannot choose one itself. Counted up from below the range from which the system
/// gives ports to outgoing connections, so that nothing takes it between here and there.
pub(crate) fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % 50)? * 200;
    for _ in 0..2_000 {
        let port = 12_000 + offset + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no free port on 127.0.0.1".into())
}

/// `PATH`, with the folders of servers and that of tests/peers/install.
pub(crate) fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let installed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/peers/bin");
    format!("{path}:/usr/sbin:/usr/local/sbin:{installed}")
}
