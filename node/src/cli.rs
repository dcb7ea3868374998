//! The command line (interfaces.md). Each command is a file in `commands/`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

mod device;
mod offline;
mod pull;
mod report;
mod session;

pub use device::{DeviceAddArgs, DeviceCommand, DeviceCommandArgs, DeviceKindArg, DeviceRenewArgs};
pub use offline::{CompletionsArgs, JoinArgs, ManArgs, RebuildArgs, RotateArgs};
pub use pull::{FormatArg, PullArgs};
pub use report::{ReportArgs, TrailArgs, TrailFormat};
pub use session::{
    GrantArgs, InventoryCommand, InventoryKeyArgs, InventoryPutArgs, SessionCommand,
    SessionKeyArgs, SessionListArgs,
};

/// Keeps, proves and serves ECG streams.
#[derive(Debug, Parser)]
#[command(name = "chordae", version, max_term_width = 100)]
#[command(after_help = "Begin with:  chordae demo --for 90s")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows the whole job on one machine: devices, chunks, anchors, a grant, a verified pull, a tampered copy.
    Demo(DemoArgs),
    /// Makes a data folder: keys, certificate authority, settings.
    #[command(after_help = "Example:  chordae init --data /var/lib/chordae --host ecg.example.org")]
    Init(InitArgs),
    /// Serves a data folder.
    #[command(after_help = "Example:  chordae serve --config /var/lib/chordae/chordae.toml")]
    Serve(ServeArgs),
    /// Serves devices at the bedside: keeps what they send until the node upstream has it.
    #[command(
        after_help = "Example:  chordae gateway --data ward-3 --init --name ward-3 --uplink zmq+tls://ecg.example.org:5556\n\
        \x20         chordae device add ward-3 --kind gateway --host ward-3.example.org --out ward-3/keys --data SERVER\n\
        \x20         chordae gateway --data ward-3"
    )]
    Gateway(GatewayArgs),
    /// Devices, gateways and monitors.
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Patients, requesters, operators and auditors known here.
    #[command(subcommand)]
    Party(PartyCommand),
    /// Key files.
    #[command(subcommand)]
    Key(KeyCommand),
    /// The trust file that a reader keeps.
    #[command(subcommand)]
    Trust(TrustCommand),
    /// Streams: whose they are, how they are cut.
    #[command(subcommand)]
    Stream(StreamCommand),
    /// Grants of patients.
    #[command(subcommand)]
    Session(SessionCommand),
    /// A patient's lists of her streams: one per provider or department.
    #[command(subcommand)]
    Inventory(InventoryCommand),
    /// Fetches a window, verifies it, writes it.
    #[command(
        after_help = "Example:  chordae pull --key clinician.pem --session SID --stream DID \
        --from 2026-11-20T10:00:00Z --until 2026-11-20T10:00:10Z --trust trust.json --out ecg.csv --format csv\n\
        \x20         the same with --format html --out strip.html: one file to send along, which draws the strip and\n\
        \x20         checks it in a browser, offline; at most 10 minutes (chordae verify strip.html --trust trust.json)\n\
        Exit: 0 verified, 1 could not, 3 tampered, 4 intact but not proven"
    )]
    Pull(PullArgs),
    /// Checks a data folder, a copy of one, a chunk, a report, a strip, or a proof bundle with its answer; offline.
    #[command(
        after_help = "Example:  chordae verify /var/lib/chordae --trust trust.json\n\
        Exit: 0 verified, 1 could not, 3 damaged or tampered, 4 intact but not proven"
    )]
    Verify(VerifyArgs),
    /// Puts several proofs into one file, with what they share in it once; `verify` reads it.
    #[command(
        after_help = "Example:  chordae join bed-1.proof.json bed-2.proof.json --out both.json\n\
        \x20         chordae verify both.json --answer bed-1.csv --answer bed-2.csv --trust trust.json"
    )]
    Join(JoinArgs),
    /// What of a span is there, what is missing and why: a signed page that can be cited.
    #[command(
        after_help = "Example:  chordae report DID --from 2026-11-20T10:00:00Z --to 2026-11-20T12:00:00Z \
        --key roe.pem --session SID --trust trust.json --data DIR --out report.html --json report.json\n\
        \x20         chordae verify report.json --trust trust.json\n\
        Exit: 0 every figure anchored, 1 could not, 3 tampered, 4 intact but not proven"
    )]
    Report(Box<ReportArgs>),
    /// Who asked for a patient's stream, and what became of it; for herself.
    #[command(
        after_help = "Example:  chordae trail --key ann.pem --stream DID --data DIR --format fhir"
    )]
    Trail(TrailArgs),
    /// Makes a request token, for curl.
    #[command(
        after_help = "Example:  curl -H \"Authorization: Chordae $(chordae token --key me.pem \
        --trust trust.json --session SID --url URL)\" URL"
    )]
    Token(TokenArgs),
    /// Breaks a copy of a data folder on purpose, so that `verify` can be seen to name it.
    #[command(
        after_help = "Example:  cp -r data copy && chordae tamper copy --how swap-chunks; chordae verify copy"
    )]
    Tamper(TamperArgs),
    /// Cosigns checkpoints of logs, each only if it goes on from the one before: nobody is shown another history.
    #[command(after_help = "Example:  chordae key new --role witness --out w1.pem\n\
        \x20         chordae witness --init --key w1.pem --name w1.example.org --trust trust.json --memory w1 \\\n\
        \x20             --listen 127.0.0.1:8090\n\
        \x20         chordae witness --key w1.pem --name w1.example.org --trust trust.json --memory w1 \\\n\
        \x20             --follow https://ecg.example.org:8443\n\
        Exit: 0 it goes on from what was seen, 1 could not look, 3 the log was set back or shows two histories")]
    Witness(WitnessArgs),
    /// Makes the links of a data folder anew from its chunk files and its ledger, and names what is lost for good.
    #[command(
        after_help = "Example:  chordae rebuild --data /var/lib/chordae && chordae verify /var/lib/chordae --trust trust.json\n\
        The server is stopped meanwhile. Nothing that is there is written over, and nothing is made unless every\n\
        chunk is what the ledger names; what is not is named.\n\
        Exit: 0 made anew, 1 could not, 3 a chunk or the ledger is damaged, 4 made, newest chunks not anchored yet"
    )]
    Rebuild(RebuildArgs),
    /// A data folder that was set back, and is only read from.
    #[command(subcommand)]
    Rollback(RollbackCommand),
    /// Health, lag and the state of each stream.
    #[command(after_help = "Example:  chordae status --data /var/lib/chordae --json")]
    Status(StatusArgs),
    /// Prints what a shell needs to complete commands.
    #[command(after_help = "Example:  chordae completions bash > /etc/bash_completion.d/chordae")]
    Completions(CompletionsArgs),
    /// Writes the man pages.
    #[command(
        after_help = "Example:  chordae man --out /usr/local/share/man/man1 && man chordae-pull"
    )]
    Man(ManArgs),
}

/// Where the running server is, for an operator: on this machine, or elsewhere with an operator's key.
#[derive(Debug, Clone, Args)]
pub struct Server {
    /// Data folder of a server on this machine (its control socket is used).
    #[arg(long, env = "CHORDAE_DATA", required_unless_present = "url")]
    pub data: Option<PathBuf>,
    /// Address of a server instead, e.g. `https://ecg.example.org:8443`.
    #[arg(long, requires_all = ["key", "trust"])]
    pub url: Option<String>,
    /// With --url: an operator's key file.
    #[arg(long, requires = "url")]
    pub key: Option<PathBuf>,
    /// With --url: trust file of the installation.
    #[arg(long, requires = "url")]
    pub trust: Option<PathBuf>,
}

/// A list of a running server.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the server is.
    #[command(flatten)]
    pub server: Server,
}

/// A name, and the server that knows it.
#[derive(Debug, Clone, Args)]
pub struct OneArgs {
    /// Device id, or key id (hex) of a party.
    pub id: String,
    /// Where the server is.
    #[command(flatten)]
    pub server: Server,
}

/// A server on this machine or elsewhere.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct Remote {
    /// Data folder of a server on this machine.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Address of a server, e.g. `https://ecg.example.org:8443`.
    #[arg(long)]
    pub url: Option<String>,
}

/// `chordae demo`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:  chordae demo --for 90s\n           chordae demo --record 100.hea --speed 60"
)]
pub struct DemoArgs {
    /// Ends by itself after this time, e.g. 90s or 5m; otherwise at Ctrl-C.
    #[arg(long = "for", value_parser = duration)]
    pub length: Option<std::time::Duration>,
    /// Folder to use; a new one is made and kept otherwise.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Streams a WFDB record (PATH.hea) instead of a synthetic ECG.
    #[arg(long)]
    pub record: Option<PathBuf>,
    /// How many times faster than life; other than 1, frames are sent as historical.
    #[arg(long, default_value_t = 1.0)]
    pub speed: f64,
    /// Simulated devices (one when a record is given).
    #[arg(long, default_value_t = 3)]
    pub devices: u16,
}

/// `chordae init`.
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// Folder to make.
    #[arg(long)]
    pub data: PathBuf,
    /// Origin of the ledger; it can never change. Default: chordae.local/ and half the provider's key id.
    #[arg(long)]
    pub name: Option<String>,
    /// Host names and addresses for the server certificate (repeatable).
    #[arg(long = "host", default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned()])]
    pub hosts: Vec<String>,
}

/// `chordae serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Settings; the data folder is the one the file lies in, unless --data names another.
    #[arg(long, env = "CHORDAE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Data folder.
    #[arg(long)]
    pub data: Option<PathBuf>,
}

/// `chordae rollback`.
#[derive(Debug, Subcommand)]
pub enum RollbackCommand {
    /// Takes a folder that was set back for what it is; the server ends, and its next start goes on from here.
    #[command(
        after_help = "Example:  chordae rollback accept --data DIR --reason \"restored from the backup of Monday\"\n\
        What was kept since is lost to this folder. The reason stands in the trail, which is anchored."
    )]
    Accept {
        /// Data folder of the server, which is only reading.
        #[arg(long)]
        data: PathBuf,
        /// Why, in a few words.
        #[arg(long)]
        reason: String,
    },
}

/// `chordae party`.
#[derive(Debug, Subcommand)]
pub enum PartyCommand {
    /// Makes a party known.
    #[command(
        after_help = "Example:  chordae party add clinician.pem.pub --role requester --data DIR"
    )]
    Add {
        /// Public identity (FILE.pub).
        public: PathBuf,
        /// Its role here.
        #[arg(long)]
        role: String,
        #[command(flatten)]
        #[allow(missing_docs, reason = "described at its type")]
        server: Server,
    },
    /// Lists parties with their key ids.
    #[command(after_help = "Example:  chordae party list --data DIR")]
    List(ListArgs),
    /// Refuses a party from now on; KEY ID as `party list` shows it.
    #[command(after_help = "Example:  chordae party disable KEYID --data DIR")]
    Disable(OneArgs),
    /// Takes a disabled party back.
    #[command(after_help = "Example:  chordae party enable KEYID --data DIR")]
    Enable(OneArgs),
}

/// `chordae key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Makes a key file and its public identity FILE.pub.
    #[command(
        after_help = "Example:  chordae key new --role requester --name \"Dr. Roe\" --out roe.pem"
    )]
    New {
        /// patient, requester, provider, operator, auditor or witness.
        #[arg(long)]
        role: String,
        /// A name for people.
        #[arg(long, default_value = "")]
        name: String,
        /// Key file to make.
        #[arg(long)]
        out: PathBuf,
    },
    /// Replaces a key of the installation; the ledger records it, and the old one counts no more from there on.
    #[command(
        after_help = "Examples:  chordae key rotate --role provider --data DIR && chordae trust export --data DIR --out trust.json\n\
        \x20          chordae key rotate --role witness --name w1 --vkey w1.example.org+11c0...+BK... --data DIR\n\
        The server is stopped meanwhile. What the old key signed stays good. Readers need the new trust file; who\n\
        checks a whole ledger follows provider and sequencer with the old one."
    )]
    Rotate(RotateArgs),
}

/// `chordae trust`.
#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// Writes the trust file of a data folder.
    #[command(after_help = "Example:  chordae trust export --data DIR --out trust.json")]
    Export {
        /// Data folder.
        #[arg(long)]
        data: PathBuf,
        /// File to write.
        #[arg(long)]
        out: PathBuf,
    },
    /// Prints the keys of a trust file as people compare them: over a telephone, with a letter, with a strip.
    #[command(after_help = "Example:  chordae trust show trust.json")]
    Show {
        /// The trust file.
        file: PathBuf,
    },
    /// Says which witnesses must have seen a checkpoint before it counts; the server is stopped meanwhile.
    #[command(
        after_help = "Example:  chordae trust policy --data DIR policy.txt && chordae trust export --data DIR --out trust.json\n\
        The policy (C2SP tlog-policy) names this log, its witnesses and how many of them:\n\
        \x20 log chordae.local/...+2dd4...+AX...\n\
        \x20 witness w1 w1.example.org+8f3a...+BG... https://w1.example.org\n\
        \x20 witness w2 w2.example.org+11c0...+BK... https://w2.example.org\n\
        \x20 group both all w1 w2\n\
        \x20 quorum both\n\
        `chordae witness` prints the line of a witness. Readers need the new trust file."
    )]
    Policy {
        /// Data folder.
        #[arg(long)]
        data: PathBuf,
        /// File with the policy; without one, the policy in force is printed.
        policy: Option<PathBuf>,
    },
}

/// `chordae witness`.
#[derive(Debug, Clone, Args)]
pub struct WitnessArgs {
    /// Key file of the witness (`chordae key new --role witness`).
    #[arg(long)]
    pub key: PathBuf,
    /// Its name in policies: an address without a scheme, e.g. w1.example.org.
    #[arg(long)]
    pub name: String,
    /// Trust file of a log to witness (repeatable).
    #[arg(long, value_name = "FILE")]
    pub trust: Vec<PathBuf>,
    /// Verifier key of a log to witness, NAME+HASH+KEY (repeatable).
    #[arg(long, value_name = "VKEY")]
    pub log: Vec<String>,
    /// Folder of what it has seen and cosigned. It must never be set back.
    #[arg(long)]
    pub memory: PathBuf,
    /// Makes that folder: for a witness that has seen nothing yet.
    #[arg(long)]
    pub init: bool,
    /// Takes checkpoints on this address, on this machine: put a proxy with TLS in front of it.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<std::net::SocketAddr>,
    /// Looks at a server's log by itself, e.g. `https://ecg.example.org:8443` (repeatable).
    #[arg(long, value_name = "URL")]
    pub follow: Vec<String>,
    /// How often it looks.
    #[arg(long, value_parser = duration, default_value = "10s")]
    pub every: std::time::Duration,
    /// Looks once and ends.
    #[arg(long, requires = "follow", conflicts_with = "listen")]
    pub once: bool,
}

/// `chordae stream`.
#[derive(Debug, Subcommand)]
pub enum StreamCommand {
    /// Lists streams with their dids, patients and chunks.
    #[command(after_help = "Example:  chordae stream list --data DIR")]
    List(ListArgs),
    /// Says whose a stream is, from a sample time on.
    #[command(
        after_help = "Example:  chordae stream assign bed-12/ecg --patient ann.pem.pub --data DIR"
    )]
    Assign {
        /// DEVICE/STREAM.
        stream: String,
        /// The patient's public identity.
        #[arg(long)]
        patient: PathBuf,
        /// First sample time (RFC 3339 or integer ns); default now.
        #[arg(long)]
        at: Option<String>,
        #[command(flatten)]
        #[allow(missing_docs, reason = "described at its type")]
        server: Server,
    },
    /// Says how a stream is cut.
    #[command(after_help = "Example:  chordae stream profile bed-12/ecg --slot 60s --data DIR")]
    Profile {
        /// DEVICE/STREAM.
        stream: String,
        /// Slot length: a multiple of 10 s, at most 1 h.
        #[arg(long, value_parser = duration)]
        slot: std::time::Duration,
        #[command(flatten)]
        #[allow(missing_docs, reason = "described at its type")]
        server: Server,
    },
}

/// `chordae verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// Data folder, chunk file, report, strip, proof bundle, or what `/ledger/fresh` answers.
    pub path: PathBuf,
    /// The answer that a proof bundle is for, in any format that pull writes; once for each of joined proofs, in their order.
    #[arg(long)]
    pub answer: Vec<PathBuf>,
    /// Trust file; without one no verdict is better than `unanchored`.
    #[arg(long)]
    pub trust: Option<PathBuf>,
    /// How old the ledger's newest audit-head may be (one is written hourly), e.g. 2h; of a data folder or `/ledger/fresh`.
    #[arg(long, value_parser = duration, requires = "trust")]
    pub max_age: Option<std::time::Duration>,
    /// Prints the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `chordae token`.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    /// The requester's key file.
    #[arg(long)]
    pub key: PathBuf,
    /// Trust file that names the origin.
    #[arg(long, required_unless_present = "aud")]
    pub trust: Option<PathBuf>,
    /// The origin.
    #[arg(long)]
    pub aud: Option<String>,
    /// Session id.
    #[arg(long)]
    pub session: Option<String>,
    /// Method of the request.
    #[arg(long, default_value = "GET")]
    pub method: String,
    /// File with the body of the request, which an operator's changes must sign as well.
    #[arg(long)]
    pub body: Option<PathBuf>,
    /// Address of the request, exactly as it will be sent.
    #[arg(long)]
    pub url: String,
}

/// `chordae tamper`.
#[derive(Debug, Clone, Args)]
pub struct TamperArgs {
    /// A copy of a data folder; never the folder of a server.
    pub copy: PathBuf,
    /// What to do to it (see the list with a wrong name).
    #[arg(long)]
    pub how: String,
    /// The did whose chunks are meant; all streams otherwise.
    #[arg(long)]
    pub stream: Option<String>,
}

/// `chordae gateway`.
#[derive(Debug, Clone, Args)]
pub struct GatewayArgs {
    /// Its settings; default: gateway.toml in its folder.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Its folder: spool, list of devices; default: that of the settings.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Writes commented settings instead of serving.
    #[arg(long)]
    pub init: bool,
    /// With --init: where the node upstream is.
    #[arg(long, value_name = "URL", requires = "init")]
    pub uplink: Option<String>,
    /// With --init: the gateway's name; its certificate is looked for in keys/NAME.crt.
    #[arg(long, default_value = "gateway", requires = "init")]
    pub name: String,
}

/// `chordae status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the server is.
    #[command(flatten)]
    pub server: Server,
}

/// `90s`, `5m`, `2h` or plain seconds.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{text:?}: use s, m or h, e.g. 90s")),
    };
    let seconds: f64 = number
        .parse()
        .map_err(|_| format!("{text:?}: use s, m or h, e.g. 90s"))?;
    let seconds = seconds * scale;
    if !(0.001..=31_536_000.0).contains(&seconds) {
        return Err(format!("{text:?}: between 1 ms and a year"));
    }
    Ok(std::time::Duration::from_secs_f64(seconds))
}
