//! The node: command line, settings, assembly, control socket, start and stop.
//!
//! Floor 4: the only room that knows every service. It contains no policy; what a sample is worth is
//! decided below. `assemble.rs` shows how it all starts.

use std::process::ExitCode;

use chordae_base::{Failure, FailureKind};

// The controls of the fault tests lose data on purpose; whoever builds for use cannot build one.
#[cfg(all(
    not(debug_assertions),
    any(feature = "control-ack-before-append", feature = "control-no-sync")
))]
compile_error!("a control loses data on purpose and exists only as a debug build");

mod adapters;
pub mod assemble;
pub mod authority;
mod births;
pub mod bridge;
pub mod cli;
pub mod client;
pub mod command;
pub mod commands;
pub mod control;
mod cosigners;
pub mod demo;
pub mod folder;
pub mod gateway;
pub mod keyfile;
pub mod keyring;
pub mod listen;
pub mod log;
pub mod memory;
pub mod observe;
mod paced;
pub mod reading;
mod remote_log;
pub mod revocations;
pub mod rotation;
pub mod server;
mod serving;
pub mod settings;
pub mod status;
mod tail;
pub mod tls;
pub mod trace;
pub mod witness_file;

/// What a command ends with (interfaces.md, exit codes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Done, or verified.
    Done,
    /// Damaged or tampered.
    Tampered,
    /// Intact, but not proven.
    Unproven,
}

/// Runs one command and turns its outcome into an exit code; a failure is one line on stderr.
pub fn run(cli: cli::Cli) -> ExitCode {
    let runtime = match start() {
        Ok(runtime) => runtime,
        Err(failure) => return fail(&failure),
    };
    let outcome = runtime.block_on(commands::run(cli));
    // Blocking threads of a server have been joined by then; nothing waits for stragglers.
    runtime.shutdown_background();
    match outcome {
        Ok(Verdict::Done) => ExitCode::SUCCESS,
        Ok(Verdict::Tampered) => ExitCode::from(3),
        Ok(Verdict::Unproven) => ExitCode::from(4),
        Err(failure) => fail(&failure),
    }
}

fn start() -> Result<tokio::runtime::Runtime, Failure> {
    // One provider for every TLS user of the process, chosen here and nowhere else.
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| Failure::internal("a TLS provider was installed before main"))?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::os("start threads", &e))
}

#[expect(
    clippy::print_stderr,
    reason = "the one line that says why a command failed"
)]
fn fail(failure: &Failure) -> ExitCode {
    let line: String = failure
        .why
        .lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join("; ");
    eprintln!("chordae: {line}");
    match failure.kind {
        FailureKind::Damaged => ExitCode::from(3),
        FailureKind::BadInput
        | FailureKind::Refused
        | FailureKind::NotFound
        | FailureKind::Busy
        | FailureKind::Io
        | FailureKind::Internal => ExitCode::from(1),
    }
}
