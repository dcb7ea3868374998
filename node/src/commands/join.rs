//! `chordae join`: several proofs in one file. Offline; nothing is verified here.

use chordae_base::{Failure, Outcome, limits};
use chordae_chain::bundle::{ProofBundle, joined};

use super::{pull::replace, say, verify::read};
use crate::{Verdict, cli};

pub(super) fn run(args: &cli::JoinArgs) -> Outcome<Verdict> {
    let (mut bundles, mut before) = (Vec::new(), 0);
    for path in &args.proofs {
        let name = path.display();
        let bytes = read(path, limits::REPORT_BYTES_MAX)?;
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
