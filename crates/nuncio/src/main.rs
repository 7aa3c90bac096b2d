//! The gateway and its tools in one program.

mod cli;
mod echo;
mod failure;
mod output;
mod signals;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    dispatch(cli.command).unwrap_or_else(|failure| {
        output::complain(&failure);
        failure.status()
    })
}

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Echo(args) => runtime()?.block_on(echo::run(&args)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// A runtime for one command.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::wrong(format!("cannot start: {error}")))
}
