//! `chordae join`: several proofs in one file. Offline; nothing is verified here.

use chordae_base::{
    Failure, Outcome, limits,
    seams::{Disk as _, real::OsDisk},
};
use chordae_chain::bundle::{ProofBundle, joined};

use super::{pull::replace, say};
use crate::{Verdict, cli};

pub(super) fn run(args: &cli::JoinArgs) -> Outcome<Verdict> {
    let (mut bundles, mut before) = (Vec::new(), 0);
    for path in &args.proofs {
        let name = path.display();
        let bytes = OsDisk.read(path, limits::REPORT_BYTES_MAX);
        let bytes = bytes.map_err(|e| Failure::os(format_args!("read {name}"), &e))?;
        before += bytes.len();
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| Failure::bad_input(format!("{name} is not text")))?;
        bundles.push(ProofBundle::parse(&text).map_err(|e| e.during(name))?);
    }
    let text = joined::join(&bundles)?;
    replace(&args.out, text.as_bytes())?;
    say(format!(
        "{}  {} proofs, {} bytes ({before} before)",
        args.out.display(),
        bundles.len(),
        text.len()
    ));
    Ok(Verdict::Done)
}
