//! The campaign's engine: libFuzzer over the target that `CHORDAE_FUZZ` names. See `./fuzz`.
#![no_main]

use std::sync::OnceLock;

use chordae_fuzz::TARGETS;

static RUN: OnceLock<fn(&[u8])> = OnceLock::new();

fn chosen() -> fn(&[u8]) {
    let name = std::env::var("CHORDAE_FUZZ").unwrap_or_default();
    match TARGETS.iter().find(|target| target.name == name) {
        Some(target) => target.run,
        None => {
            eprintln!("CHORDAE_FUZZ={name}: no such target; ./fuzz --list shows them");
            std::process::exit(2);
        }
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| RUN.get_or_init(chosen)(data));
