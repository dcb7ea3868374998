//! `chordae device`: who comes to the doors, and remote control.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{ListArgs, OneArgs, Server, duration};

/// `chordae device`.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Registers a device, gateway or monitor and writes its certificate and key.
    #[command(
        after_help = "Examples:  chordae device add bed-12 --data DIR --out certs\n           \
        chordae device add ward-3 --kind gateway --host ward-3.example.org --data DIR --out certs\n           \
        chordae device add bed-13 --gateway ward-3 --streams ecg --data DIR --out certs"
    )]
    Add(DeviceAddArgs),
    /// Lists devices: kind, gateway, whether it is on, what it last said of itself, end of its certificate.
    #[command(after_help = "Example:  chordae device list --data DIR")]
    List(ListArgs),
    /// Refuses a device from now on, and cuts its connections within a minute.
    #[command(after_help = "Example:  chordae device disable bed-12 --data DIR")]
    Disable(OneArgs),
    /// Takes a disabled device back.
    #[command(after_help = "Example:  chordae device enable bed-12 --data DIR")]
    Enable(OneArgs),
    /// Revokes every certificate given to a device so far; `renew` gives it another.
    #[command(after_help = "Example:  chordae device revoke bed-12 --data DIR")]
    Revoke(OneArgs),
    /// Gives a device another certificate; the one before stays good until it expires or is revoked.
    #[command(after_help = "Example:  chordae device renew bed-12 --data DIR --out certs-2027")]
    Renew(DeviceRenewArgs),
    /// Gives a device a command, kept for it while it is offline; prints the command's id.
    #[command(
        after_help = "Examples:  chordae device command bed-12 '{\"do\":\"identify\"}' --wait 10s --data DIR\n           \
        chordae device command bed-12 '{\"do\":\"set-rate\",\"hz\":250}' --expires 1h --data DIR\n           \
        chordae device command bed-12 '{\"do\":\"set-leads\",\"names\":[\"I\",\"V5\"]}' --data DIR\n\
        Commands: start, stop, set-rate, set-leads, sync-time, identify\n\
        Exit with --wait: 0 the device did it, 1 it could not, or has not replied yet"
    )]
    Command(DeviceCommandArgs),
    /// Lists commands, of one device or all: who gave them, when, and what came of them.
    #[command(after_help = "Example:  chordae device commands bed-12 --data DIR")]
    Commands {
        /// Device id; all devices if absent.
        id: Option<String>,
        #[command(flatten)]
        #[allow(missing_docs, reason = "described at its type")]
        list: ListArgs,
    },
}

/// `chordae device add`.
#[derive(Debug, Clone, Args)]
pub struct DeviceAddArgs {
    /// Device id: 1-64 of a-z 0-9 . _ -
    pub id: String,
    /// What it is.
    #[arg(long, value_enum, default_value_t = DeviceKindArg::Device)]
    pub kind: DeviceKindArg,
    /// For a device: the gateway that speaks for it.
    #[arg(long)]
    pub gateway: Option<String>,
    /// Streams it may publish; any if none is named.
    #[arg(long, value_delimiter = ',')]
    pub streams: Vec<String>,
    /// For a monitor: the devices whose live frames it may watch; `all` for every one.
    #[arg(long, value_delimiter = ',', required_if_eq("kind", "monitor"))]
    pub watches: Vec<String>,
    /// For a gateway: host names and addresses at which devices reach it (repeatable); this machine's
    /// loopback if none is named.
    #[arg(long = "host", value_delimiter = ',')]
    pub hosts: Vec<String>,
    /// Folder for {id}.crt, {id}.key and ca.crt.
    #[arg(long, default_value = ".")]
    pub out: PathBuf,
    /// Where the server is.
    #[command(flatten)]
    pub server: Server,
}

/// `chordae device renew`.
#[derive(Debug, Clone, Args)]
pub struct DeviceRenewArgs {
    /// Device id.
    pub id: String,
    /// For a gateway: other host names and addresses than it has (repeatable).
    #[arg(long = "host", value_delimiter = ',')]
    pub hosts: Vec<String>,
    /// Folder for {id}.crt, {id}.key and ca.crt.
    #[arg(long, default_value = ".")]
    pub out: PathBuf,
    /// Where the server is.
    #[command(flatten)]
    pub server: Server,
}

/// `chordae device command`.
#[derive(Debug, Clone, Args)]
pub struct DeviceCommandArgs {
    /// Device id.
    pub id: String,
    /// The command, a JSON object with "do".
    pub command: String,
    /// How long it is kept for the device, at most 7 days.
    #[arg(long, value_parser = duration, default_value = "10m")]
    pub expires: std::time::Duration,
    /// Waits so long for the reply and prints it.
    #[arg(long, value_parser = duration)]
    pub wait: Option<std::time::Duration>,
    /// Where the server is.
    #[command(flatten)]
    pub server: Server,
}

/// Kinds of peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceKindArg {
    /// Publishes its own streams.
    Device,
    /// Speaks for the devices behind it.
    Gateway,
    /// Watches live frames.
    Monitor,
}
