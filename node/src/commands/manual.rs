//! What a package puts beside the binary, made of the command line itself: completions and man pages.

use std::{fs, path::Path};

use chordae_base::{Failure, Outcome};
use clap::CommandFactory;
use clap_complete::Shell;

use super::say;
use crate::{Verdict, cli::Cli};

/// Prints a shell's completions.
pub(super) fn completions(shell: Shell) -> Outcome<Verdict> {
    // In memory first: the library ends the process when whoever reads goes away.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "chordae", &mut script);
    say(String::from_utf8_lossy(&script).trim_end());
    Ok(Verdict::Done)
}

/// Writes a man page for each command.
pub(super) fn pages(out: &Path) -> Outcome<Verdict> {
    fs::create_dir_all(out)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), out))
        .map_err(|e| Failure::os(format_args!("write man pages to {}", out.display()), &e))?;
    Ok(Verdict::Done)
}
