//! The pages of docs/ as a reader would follow them: files are written, commands are run in one shell, and what they
//! print must be what the page shows.
//!
//! A ```` ```yaml ```` or ```` ```ini ```` block whose first line is `# NAME.yaml` or `# NAME.ini` is a file. In a
//! ```` ```console ```` block a line after `$ ` is a command, what follows it is its output: `...` alone stands for any
//! lines, within a line for any text. Ports of the page are replaced by free ones.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use super::Result;
use super::foreign::free_address;
use crate::support::program::{nuncio, repository};
use crate::support::waiting::{PATIENCE, eventually};

/// The port of the gateway in all pages.
const GATEWAY: &str = "8080";
/// That of the admin interface.
const ADMIN: &str = "8877";
/// Those of services.
const SERVICES: RangeInclusive<u16> = 9443..=9457;
/// A command that only looks is tried again until the change before it shows.
const LOOKING: [&str; 3] = ["curl", "grep", "nuncio"];
/// Ends a command's output; the exit status follows.
const END: &str = "-- end of the command:";

/// What a reader does next.
enum Step {
    Write { name: String, content: String },
    Run { command: String, shown: Vec<String> },
}

/// The steps of a page, in its order.
fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```").filter(|kind| !kind.is_empty()) else {
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        match kind {
            "yaml" | "ini" => {
                let name = block.first().and_then(|line| line.strip_prefix("# "));
                if let Some(name) = name.filter(|name| name.ends_with(&format!(".{kind}"))) {
                    let (name, content) = (name.to_owned(), block.join("\n") + "\n");
                    steps.push(Step::Write { name, content });
                }
            }
            "console" => steps.extend(commands(&block)),
            _ => {}
        }
    }
    steps
}

fn commands(block: &[&str]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in block {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step::Run {
                command: command.to_owned(),
                shown: Vec::new(),
            }),
            (None, Some(Step::Run { command, .. })) if is_open(command) => {
                command.push('\n');
                command.push_str(line);
            }
            (None, Some(Step::Run { shown, .. })) => shown.push((*line).to_owned()),
            (None, _) => panic!("a console block begins with output: {line}"),
        }
    }
    steps
}

/// Whether a command goes on in the next line.
fn is_open(command: &str) -> bool {
    command.ends_with('\\') || command.matches('{').count() > command.matches('}').count()
}

/// Whether `printed` is what the page shows.
fn is_as_shown(shown: &[String], printed: &[String]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first == "..." => {
            (0..=printed.len()).any(|skipped| is_as_shown(rest, &printed[skipped..]))
        }
        Some((first, rest)) => printed
            .split_first()
            .is_some_and(|(line, others)| line_is_as_shown(first, line) && is_as_shown(rest, others)),
    }
}

fn line_is_as_shown(shown: &str, printed: &str) -> bool {
    let Some((before, after)) = shown.split_once("...") else {
        return shown == printed;
    };
    let Some(rest) = printed.strip_prefix(before) else {
        return false;
    };
    let mut starts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    starts.any(|at| line_is_as_shown(after, &rest[at..]))
}

/// A shell in a folder of its own, with everything that it started; ended when dropped.
struct Shell {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    ports: BTreeMap<String, u16>,
    folder: tempfile::TempDir,
}

impl Shell {
    fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("nuncio-pages-").tempdir()?;
        let mut ports = BTreeMap::new();
        let fixed = [GATEWAY.to_owned(), ADMIN.to_owned()];
        for port in SERVICES.map(|port| port.to_string()).chain(fixed) {
            ports.insert(port, free_address()?.port());
        }
        let bin = program_folder(folder.path(), ports[ADMIN])?;
        let path = std::env::var("PATH").unwrap_or_default();
        // Taken from a command of the program, so that no variable of this shell changes what it does.
        let clean = nuncio(["--version"]);
        let mut command = Command::new("bash");
        for (name, _) in clean.get_envs().filter(|(_, value)| value.is_none()) {
            command.env_remove(name);
        }
        let mut child = command
            .args(["--noprofile", "--norc"])
            .env("PATH", format!("{}:{path}", bin.display()))
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let mut input = child.stdin.take().ok_or("no input")?;
        writeln!(input, "exec 2>&1")?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(std::result::Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            input,
            lines,
            ports,
            folder,
        })
    }

    /// The text with this shell's ports for those of the page.
    fn with_ports(&self, text: &str) -> String {
        with_ports(text, &self.ports)
    }

    fn write(&self, name: &str, content: &str) -> Result {
        let path = self.folder.path().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        Ok(std::fs::write(path, self.with_ports(content))?)
    }

    /// Runs a command to its end; what it printed and its status.
    fn run(&mut self, command: &str) -> Result<(Vec<String>, i32)> {
        writeln!(self.input, "{command}\nprintf '\\n%s %s\\n' '{END}' $?")?;
        let mut printed = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.map_err(|_| format!("`{command}` does not end; it printed {printed:#?}"))?;
            if let Some(status) = line.strip_prefix(END) {
                // The marker begins a line of its own, also after output that does not end one.
                while printed.last().is_some_and(String::is_empty) {
                    printed.pop();
                }
                return Ok((printed, status.trim().parse()?));
            }
            printed.push(line);
        }
    }

    /// Waits until what a command started in the background accepts connections: the gateway on its port,
    /// another server on the one that its command names.
    async fn wait_for(&self, command: &str) {
        let named = |port: &&u16| numbers(command).any(|number| number == port.to_string());
        let port = if command.contains("nuncio run") {
            &self.ports[GATEWAY]
        } else {
            let mut ports = self.ports.values();
            ports.find(named).expect("a server's command names its port")
        };
        eventually(&format!("`{command}` to listen"), async || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).ok()
        })
        .await;
    }

    async fn follow(&mut self, page: &str) -> Result<usize> {
        let mut commands = 0;
        for step in steps(page) {
            let (command, shown) = match step {
                Step::Write { name, content } => {
                    self.write(&name, &content)?;
                    continue;
                }
                Step::Run { command, shown } => (self.with_ports(&command), shown),
            };
            let shown: Vec<String> = shown.iter().map(|line| self.with_ports(line)).collect();
            commands += 1;
            self.do_as_shown(&command, &shown).await?;
        }
        Ok(commands)
    }

    async fn do_as_shown(&mut self, command: &str, shown: &[String]) -> Result {
        if command.ends_with('&') {
            self.run(command)?;
            self.wait_for(command).await;
            return Ok(());
        }
        let program = command.split_whitespace().find(|word| !word.contains('='));
        let looks = program.is_some_and(|program| LOOKING.contains(&program));
        let started = std::time::Instant::now();
        loop {
            let (printed, status) = self.run(command)?;
            let is_right = is_as_shown(shown, &printed) && (status == 0 || !shown.is_empty());
            if is_right {
                return Ok(());
            }
            if !looks || started.elapsed() > PATIENCE / 4 {
                let log = std::fs::read_to_string(self.folder.path().join("nuncio.log")).unwrap_or_default();
                return Err(format!(
                    "$ {command}\nended with {status} and printed\n{}\nwhere the page shows\n{}\nlog of the gateway:\n{log}",
                    printed.join("\n"),
                    shown.join("\n")
                )
                .into());
            }
        }
    }
}

/// The text with other numbers for those that are ports of the page, each looked at once: a free port may have
/// another port's digits in it.
fn with_ports(text: &str, ports: &BTreeMap<String, u16>) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(start);
        let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        let (number, after) = number.split_at(end);
        replaced.push_str(before);
        match ports.get(number) {
            Some(free) => replaced.push_str(&free.to_string()),
            None => replaced.push_str(number),
        }
        rest = after;
    }
    replaced + rest
}

fn numbers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_digit())
}

impl Drop for Shell {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).status();
        let _ = self.child.wait();
    }
}

/// A folder with the program under its name; `run` gets an admin interface on a free port.
fn program_folder(folder: &Path, admin: u16) -> Result<std::path::PathBuf> {
    let bin = folder.join(".bin");
    std::fs::create_dir(&bin)?;
    let program = env!("CARGO_BIN_EXE_nuncio");
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = run ]; then shift; exec '{program}' run --bind 127.0.0.1 --admin 127.0.0.1:{admin} \"$@\"; fi\n\
         exec '{program}' \"$@\"\n"
    );
    let path = bin.join("nuncio");
    std::fs::write(&path, script)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(bin)
}

/// Follows a page; gives back how many commands it has.
async fn follow(page: &str) -> Result<usize> {
    let text = std::fs::read_to_string(repository().join(page))?;
    Shell::start()?.follow(&text).await
}

#[tokio::test]
async fn tls_origination_is_as_its_page_tells() -> Result {
    assert!(follow("docs/tls-origination.md").await? > 30);
    Ok(())
}

#[tokio::test]
async fn tls_failures_are_as_their_page_tells() -> Result {
    assert!(follow("docs/tls-failures.md").await? > 50);
    Ok(())
}

#[tokio::test]
async fn migrating_is_as_its_page_tells() -> Result {
    assert!(follow("docs/migrating.md").await? > 20);
    Ok(())
}

#[test]
fn ports_are_replaced_once_and_whole() {
    let ports = BTreeMap::from([("9443".to_owned(), 38080), ("8080".to_owned(), 41234)]);
    let replaced = with_ports("shop:443:127.0.0.1:9443 8080, 18080", &ports);
    assert_eq!(replaced, "shop:443:127.0.0.1:38080 41234, 18080");
}

#[test]
fn a_page_that_shows_something_else_is_noticed() {
    let shown = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    assert!(is_as_shown(
        &shown(&["a", "...", "d...f"]),
        &shown(&["a", "b", "c", "def"])
    ));
    assert!(!is_as_shown(
        &shown(&["a", "...", "d...f"]),
        &shown(&["a", "b", "c", "de"])
    ));
    assert!(!is_as_shown(&shown(&["a"]), &shown(&["a", "b"])));
    assert!(!is_as_shown(&shown(&[]), &shown(&["a"])));
}
