//! `chordae session` and `chordae inventory`: what a patient allows, and her lists of her streams.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Remote;

/// `chordae session`.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// A patient grants windows of her streams to a requester; prints the session id.
    #[command(after_help = "Examples:\n\
        one stream, one hour:\n  \
        chordae session grant --data DIR --key ann.pem --to roe.pem.pub --stream DID \\\n    \
        --from 2026-11-20T10:00:00Z --until 2026-11-20T11:00:00Z --purpose \"second opinion\"\n\
        several streams, each with its own bounds; what is not said comes from --from, --until, --leads:\n  \
        chordae session grant --data DIR --key ann.pem --to roe.pem.pub --from 2026-11-20T10:00:00Z \\\n    \
        --stream DID1 --stream DID2,until=2026-11-21T00:00:00Z,leads=I+II --stream DID3,from=any,leads=all\n\
        from now on, without an end, until the session itself ends:\n  \
        chordae session grant ... --stream DID --from 2026-11-20T10:00:00Z --expires 2026-12-01T00:00:00Z\n\
        all streams of two inventories, a section for each:\n  \
        chordae session grant ... --inventory ID1 --inventory ID2,leads=II")]
    Grant(Box<GrantArgs>),
    /// Lists sessions: of the server, for an operator; those of a patient or requester, with her --key.
    #[command(after_help = "Examples:  chordae session list --data DIR\n           \
        chordae session list --data DIR --key roe.pem        what may I see?\n           \
        chordae session list --url https://ecg.example.org:8443 --key roe.pem --trust trust.json")]
    List(SessionListArgs),
    /// Shows one session to a party of it; to its patient also after its record is gone.
    #[command(after_help = "Example:  chordae session show --data DIR --key roe.pem --session SID")]
    Show(SessionKeyArgs),
    /// The patient takes a grant back.
    #[command(
        after_help = "Example:  chordae session revoke --data DIR --key ann.pem --session SID"
    )]
    Revoke(SessionKeyArgs),
}

/// `chordae session grant`.
#[derive(Debug, Clone, Args)]
pub struct GrantArgs {
    /// The patient's key file.
    #[arg(long)]
    pub key: PathBuf,
    /// The requester's public identity.
    #[arg(long)]
    pub to: PathBuf,
    /// A stream's did, with bounds of its own if need be (repeatable).
    #[arg(
        long,
        value_name = "DID[,from=T|any][,until=T|any][,leads=I+II|all]",
        required_unless_present = "inventory"
    )]
    pub stream: Vec<String>,
    /// An inventory, all of whose streams are granted, in a section of their own (repeatable).
    #[arg(long, value_name = "ID[,from=...][,until=...][,leads=...]")]
    pub inventory: Vec<String>,
    /// First instant granted; no bound if absent.
    #[arg(long)]
    pub from: Option<String>,
    /// First instant not granted; no bound if absent.
    #[arg(long)]
    pub until: Option<String>,
    /// Leads granted; all if absent.
    #[arg(long, value_delimiter = ',')]
    pub leads: Option<Vec<String>>,
    /// When the grant ends; never if absent.
    #[arg(long)]
    pub expires: Option<String>,
    /// What it is for.
    #[arg(long, default_value = "")]
    pub purpose: String,
    /// Keeps the bounds as given instead of rounding them inwards to whole pages (10 s).
    #[arg(long)]
    pub exact: bool,
    /// Trust file with the provider's sealing key (with --url).
    #[arg(long)]
    pub trust: Option<PathBuf>,
    /// Where the server is.
    #[command(flatten)]
    pub server: Remote,
}

/// `chordae session list`.
#[derive(Debug, Clone, Args)]
pub struct SessionListArgs {
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
    /// Data folder of a server on this machine.
    #[arg(long, env = "CHORDAE_DATA", required_unless_present = "url")]
    pub data: Option<PathBuf>,
    /// Address of a server instead, e.g. `https://ecg.example.org:8443`.
    #[arg(long, requires_all = ["key", "trust"])]
    pub url: Option<String>,
    /// A patient's or requester's key file: lists what she may see. An operator's (with --url): all.
    #[arg(long)]
    pub key: Option<PathBuf>,
    /// Trust file of the installation (with --url).
    #[arg(long)]
    pub trust: Option<PathBuf>,
}

/// `chordae session show|revoke`.
#[derive(Debug, Clone, Args)]
pub struct SessionKeyArgs {
    /// The caller's key file.
    #[arg(long)]
    pub key: PathBuf,
    /// Session id.
    #[arg(long)]
    pub session: String,
    /// Prints JSON (show).
    #[arg(long)]
    pub json: bool,
    /// Trust file (with --url).
    #[arg(long)]
    pub trust: Option<PathBuf>,
    /// Where the server is.
    #[command(flatten)]
    pub server: Remote,
}

/// `chordae inventory`.
#[derive(Debug, Subcommand)]
pub enum InventoryCommand {
    /// Makes an inventory, or changes one: streams named are put in, or replaced; prints its id.
    #[command(after_help = "Examples:\n\
        a new one:\n  \
        chordae inventory put --data DIR --key ann.pem --stream DID,place=\"ward 3\" --stream DID2\n\
        a stream has moved (the ledger is not touched, sessions go on):\n  \
        chordae inventory put --data DIR --key ann.pem --inventory ID --stream DID,url=https://new.example.org:8443\n\
        a stream is taken out:\n  \
        chordae inventory put --data DIR --key ann.pem --inventory ID --drop DID2")]
    Put(InventoryPutArgs),
    /// Lists a patient's inventories.
    #[command(after_help = "Example:  chordae inventory list --data DIR --key ann.pem")]
    List {
        /// The patient's key file.
        #[arg(long)]
        key: PathBuf,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
        /// Trust file (with --url).
        #[arg(long)]
        trust: Option<PathBuf>,
        #[command(flatten)]
        #[allow(missing_docs, reason = "described at its type")]
        server: Remote,
    },
    /// Shows what an inventory lists.
    #[command(
        after_help = "Example:  chordae inventory show --data DIR --key ann.pem --inventory ID"
    )]
    Show(InventoryKeyArgs),
    /// Removes an inventory for good; sessions granted from it go on until they are revoked.
    #[command(
        after_help = "Example:  chordae inventory remove --data DIR --key ann.pem --inventory ID"
    )]
    Remove(InventoryKeyArgs),
}

/// `chordae inventory put`.
#[derive(Debug, Clone, Args)]
pub struct InventoryPutArgs {
    /// The patient's key file.
    #[arg(long)]
    pub key: PathBuf,
    /// The inventory to change; a new one is made otherwise.
    #[arg(long)]
    pub inventory: Option<String>,
    /// A stream of hers, with what is to be said of it (repeatable); `url` is where it can be asked for.
    #[arg(
        long,
        value_name = "DID[,url=URL][,NAME=TEXT]...",
        required_unless_present = "drop"
    )]
    pub stream: Vec<String>,
    /// A stream to take out (repeatable).
    #[arg(long, value_name = "DID", requires = "inventory")]
    pub drop: Vec<String>,
    /// Trust file with the provider's sealing key (with --url).
    #[arg(long)]
    pub trust: Option<PathBuf>,
    /// Where the server is.
    #[command(flatten)]
    pub server: Remote,
}

/// `chordae inventory show|remove`.
#[derive(Debug, Clone, Args)]
pub struct InventoryKeyArgs {
    /// The patient's key file.
    #[arg(long)]
    pub key: PathBuf,
    /// Inventory id.
    #[arg(long)]
    pub inventory: String,
    /// Prints JSON (show).
    #[arg(long)]
    pub json: bool,
    /// Trust file (with --url).
    #[arg(long)]
    pub trust: Option<PathBuf>,
    /// Where the server is.
    #[command(flatten)]
    pub server: Remote,
}
