//! placeholder
use chordae_base::Outcome; use crate::{Verdict, cli::DemoArgs};
pub(crate) async fn run(_a: DemoArgs) -> Outcome<Verdict> { Ok(Verdict::Done) }
