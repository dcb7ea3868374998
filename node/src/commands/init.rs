//! `chordae init`: keys, certificate authority, server certificate, settings, trust file.

use std::path::Path;

use chordae_base::{
    Failure, Outcome,
    seams::{Clock, Entropy, real},
};
use chordae_chain::{
    checkpoint::TrustedLog,
    keys::Role,
    trust::{TrustFile, policy_text},
};

use super::say;
use crate::{
    Verdict, authority,
    cli::InitArgs,
    folder::{self, Folder},
    keyfile, settings,
};

/// Runs the command.
///
/// # Errors
/// `Busy` when the folder holds an installation already.
pub fn run(args: &InitArgs) -> Outcome<Verdict> {
    let (clock, entropy) = (real::OsClock, real::OsEntropy);
    let trust = make(
        &args.data,
        args.name.as_deref(),
        &args.hosts,
        &clock,
        &entropy,
    )?;
    let data = args.data.display();
    say(format!("made {data} for origin {}", trust.origin));
    say(format!("next:  chordae serve --config {data}/chordae.toml"));
    Ok(Verdict::Done)
}

/// Makes an installation in a folder.
///
/// # Errors
/// `Busy` when there is one already, `Io` when it cannot be written.
pub fn make(
    data: &Path,
    name: Option<&str>,
    hosts: &[String],
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Outcome<TrustFile> {
    let home = Folder::new(data);
    if home.keys().exists() {
        return Err(Failure::busy(format!(
            "{} is in use already; choose another --data",
            data.display()
        )));
    }
    folder::make_private(&home.keys())?;
    let provider = keyfile::make(
        &home.key("provider.pem"),
        "provider",
        Role::Provider,
        entropy,
    )?;
    let sequencer = keyfile::make(
        &home.key("sequencer.pem"),
        "sequencer",
        Role::Sequencer,
        entropy,
    )?;
    let log = keyfile::make(&home.key("log.pem"), "log", Role::Log, entropy)?;
    keyfile::make(
        &home.key("operator.pem"),
        "operator",
        Role::Operator,
        entropy,
    )?;
    let origin = match name {
        Some(name) => name.to_owned(),
        None => format!("chordae.local/{}", &provider.key_id().to_string()[..32]),
    };
    let now_ns = clock.wall_ns();
    let ca = authority::make(&origin, now_ns)?;
    let server = authority::sign(&ca, &authority::Leaf::Server(hosts), now_ns)?.pair;
    folder::write_public(&home.key("ca.crt"), &ca.cert)?;
    folder::write_secret(&home.key("ca.key"), &ca.key)?;
    folder::write_public(&home.key("server.crt"), &server.cert)?;
    folder::write_secret(&home.key("server.key"), &server.key)?;
    let trust = TrustFile {
        policy: policy_text(&TrustedLog::new(&origin, &log.sign_public())?),
        origin,
        providers: vec![provider.public("provider", Role::Provider)],
        sequencers: vec![sequencer.public("sequencer", Role::Sequencer)],
        retired: Vec::new(),
        ca: Some(ca.cert),
    };
    folder::write_public(&home.key("trust.json"), &trust.to_json()?)?;
    if !home.settings().exists() {
        folder::write_public(&home.settings(), settings::TEMPLATE)?;
    }
    Ok(trust)
}
