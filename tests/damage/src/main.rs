//! `chordae-damage [--short] [--seed N] [ROW...]`: rows R09 to R12 of the scorecard, one `SCORE` line each.
//! Exit 0 if all are green, 1 if one is not, 2 for a wrong call.

use std::process::ExitCode;

use chordae_damage::{Form, ROWS, run};

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the lines are what it is for"
)]
fn main() -> ExitCode {
    let (mut form, mut seed, mut rows) = (Form::Long, 1_u64, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--short" => form = Form::Short,
            "--seed" => match args.next().and_then(|n| n.parse().ok()) {
                Some(n) => seed = n,
                None => return usage(),
            },
            row if ROWS.contains(&row) => rows.push(arg),
            _ => return usage(),
        }
    }
    if rows.is_empty() {
        rows = ROWS.map(str::to_owned).to_vec();
    }
    println!("seed {seed}");
    let mut green = true;
    for row in rows {
        match run(&row, form, seed) {
            Ok(score) => {
                green &= score.ok;
                println!("{}", score.line());
            }
            Err(failure) => {
                green = false;
                eprintln!("{row}: {failure}");
            }
        }
    }
    ExitCode::from(u8::from(!green))
}

#[expect(clippy::print_stderr, reason = "the usage line")]
fn usage() -> ExitCode {
    eprintln!("usage: chordae-damage [--short] [--seed N] [R09|R10|R11|R12 ...]");
    ExitCode::from(2)
}
