//! The `chordae` command.

use clap::Parser;

fn main() -> std::process::ExitCode {
    // A wrong command line ends here, with clap's explanation and exit code 2.
    let cli = chordae::cli::Cli::parse();
    chordae::run(cli)
}
