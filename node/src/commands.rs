//! One file per command.

use std::path::Path;

use chordae_base::Outcome;

use crate::{
    Verdict,
    cli::{self, Cli, Command},
    client::Place,
    folder::Folder,
};

mod admin;
mod asking;
mod desk;
mod device;
mod gateway;
pub mod init;
mod inventory;
mod join;
pub(crate) mod key;
mod manager;
mod manual;
pub mod pull;
mod rebuild;
mod report;
pub mod serve;
pub mod session;
mod stop;
mod table;
mod trail;
mod verify;
mod witness;

pub(crate) use key::read_trust;
pub(crate) use verify::folder as check_folder;

/// Runs a command.
///
/// # Errors
/// Whatever kept it from being done.
pub async fn run(cli: Cli) -> Outcome<Verdict> {
    match cli.command {
        Command::Demo(args) => crate::demo::run(args).await,
        Command::Init(args) => init::run(&args),
        Command::Serve(args) => serve::run(&args).await,
        Command::Gateway(args) => gateway::run(&args).await,
        Command::Device(args) => device::run(args).await,
        Command::Party(args) => admin::party(args).await,
        Command::Key(cli::KeyCommand::New { role, name, out }) => key::new(&role, &name, &out),
        Command::Key(cli::KeyCommand::Rotate(args)) => key::rotate(&args),
        Command::Trust(cli::TrustCommand::Export { data, out }) => key::export_trust(&data, &out),
        Command::Trust(cli::TrustCommand::Show { file }) => key::show_trust(&file),
        Command::Trust(cli::TrustCommand::Policy { data, policy }) => {
            key::policy(&data, policy.as_deref())
        }
        Command::Witness(args) => witness::run(&args).await,
        Command::Stream(args) => admin::stream(args).await,
        Command::Session(args) => session::run(args).await,
        Command::Inventory(args) => inventory::run(args).await,
        Command::Pull(args) => pull::run(&args).await,
        Command::Verify(args) => verify::run(&args),
        Command::Join(args) => join::run(&args),
        Command::Rebuild(args) => rebuild::run(&args),
        Command::Report(args) => report::run(&args).await,
        Command::Trail(args) => trail::run(&args).await,
        Command::Token(args) => key::token(&args),
        Command::Tamper(args) => verify::tamper(&args),
        Command::Rollback(args) => admin::rollback(args).await,
        Command::Status(args) => admin::status(&args).await,
        Command::Completions(args) => manual::completions(args.shell),
        Command::Man(args) => manual::pages(&args.out),
    }
}

/// The control socket of a data folder.
pub fn socket(data: &Path) -> Place {
    Place::Socket(Folder::new(data).control())
}

/// A line for the person at the terminal, or the program that reads our output.
#[expect(clippy::print_stdout, reason = "what a command was asked for")]
pub fn say(line: impl std::fmt::Display) {
    println!("{line}");
}
