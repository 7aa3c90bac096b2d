//! The gateway and its tools in one program.

mod check;
mod cli;
mod crds;
mod demo;
mod descriptors;
mod echo;
mod explain;
mod failure;
mod log;
mod output;
mod probe;
mod report;
mod run;
mod settings;
mod signals;

use std::process::ExitCode;

use clap::Parser;
use tokio::task::LocalSet;
use tracing_subscriber::filter::LevelFilter;

use crate::cli::{Cli, Command, CrdsArgs};
use crate::failure::Failure;
use crate::settings::{LogSettings, process_environment};

fn main() -> ExitCode {
    let cli = Cli::parse();
    dispatch(cli.command).unwrap_or_else(|failure| {
        output::complain(&failure);
        failure.status()
    })
}

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    let descriptors = descriptors::raise_limit();
    let environment = &process_environment;
    match command {
        Command::Run(args) => {
            let (settings, log) = settings::run(args, descriptors, environment)?;
            let log = log::start(log)?;
            let outcome = block_on(run::run(settings, log.clone()));
            let status = outcome.unwrap_or_else(|failure| {
                // Through the queue, so that a reader that stalls cannot keep the process from ending.
                log.send(format!("nuncio: {failure}\n").into_bytes());
                failure.status()
            });
            log.flush();
            Ok(status)
        }
        Command::Probe(args) => {
            let (options, _) = settings::compile(&args.resolve, environment)?;
            block_on(probe::run(&args, &options))
        }
        Command::Echo(args) => {
            let log = log::start(LogSettings {
                json: false,
                level: LevelFilter::WARN,
            })?;
            let outcome = block_on(echo::run(&args));
            log.flush();
            outcome
        }
        Command::Demo(args) => block_on(demo::run(&args)),
        Command::Crds(CrdsArgs {}) => output::with_stdout(|out, _| crds::write(out)),
        Command::Check(args) => {
            let (options, warnings) = settings::compile(&[], environment)?;
            output::with_stdout(|out, colour| check::run(&args, &options, &warnings, out, colour))
        }
        Command::Explain(args) => {
            let question = explain::Question::read(&args)?;
            let (options, _) = settings::compile(&[], environment)?;
            output::with_stdout(|out, _| explain::run(&question, &options, out))
        }
    }
}

/// Runs a command on a runtime of its own: control work never shares a thread with the data plane.
fn block_on(command: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::wrong(format!("cannot start: {error}")))?;
    // The probe's connector is the data plane's, whose tasks stay on their thread.
    let outcome = LocalSet::new().block_on(&runtime, command);
    // Whoever asked for the end does not wait for a file that is just being read.
    runtime.shutdown_background();
    outcome
}
