//! The command line, read into a configuration.

use std::path::PathBuf;

use chordae_base::{
    DeviceId, Failure, Outcome, Rate, StreamName, limits, time::SECOND_NS, wire::ClockKind,
};
use chordae_device_sim::{
    Config, Credentials, Encoding, Endpoint, Faults, Mqtt, Pace, Source, parse_rate,
};
use clap::{Parser, ValueEnum};

/// Simulated ECG devices that stream over MQTT or ZeroMQ and keep every frame until it is acknowledged.
///
/// They obey the commands start, stop, set-rate, set-leads, sync-time and identify.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where to: `mqtts://HOST[:8883]` or `zmq+tls://HOST[:5556]`; on a loopback listener
    /// `mqtt://HOST[:1883]` or `zmq://HOST[:5555]`.
    #[arg(long)]
    url: Endpoint,
    /// Certificate authority of the server (PEM).
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The device's certificate (PEM), or a folder with {id}.crt for each device.
    #[arg(long, value_name = "FILE|DIR")]
    cert: Option<PathBuf>,
    /// Its private key (PEM), or a folder with {id}.key; where --cert is a folder, that folder.
    #[arg(long, value_name = "FILE|DIR")]
    key: Option<PathBuf>,
    /// How many devices: sim-0001, sim-0002, ...
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "device")]
    devices: usize,
    /// Exactly this device.
    #[arg(long, value_name = "ID")]
    device: Option<DeviceId>,
    /// Name of each device's stream.
    #[arg(long, default_value = "ecg")]
    stream: StreamName,
    /// Leads: 1, 2, 3 or 12 synthetic ones (12), or the first so many of a record (all).
    #[arg(long, value_name = "N")]
    leads: Option<usize>,
    /// Samples per second of synthetic ECG: 500, or 125/2.
    #[arg(long, value_name = "HZ", default_value = "500", value_parser = parse_rate)]
    rate: Rate,
    /// Length of a frame.
    #[arg(long, value_name = "T", default_value = "1s", value_parser = duration)]
    frame: i64,
    /// Stream this WFDB record instead of synthetic ECG; its end ends the stream.
    #[arg(long, value_name = "PATH.hea", conflicts_with = "rate")]
    record: Option<PathBuf>,
    /// Speed; any but 1 sends history that ends now, marked as such.
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    speed: f64,
    /// As fast as acknowledgements allow, as history (a week of it unless --for or a record says).
    #[arg(long, conflicts_with = "speed")]
    max_rate: bool,
    /// Frames of one device in flight [default: 16, with --max-rate 64].
    #[arg(long, value_name = "N")]
    burst: Option<usize>,
    /// Length of the stream, in its own time.
    #[arg(long = "for", value_name = "T", value_parser = duration)]
    length: Option<i64>,
    /// What the devices say of their clocks, and how these behave.
    #[arg(long, value_enum, default_value_t = Clock::Synced)]
    clock: Clock,
    /// What goes wrong, of the list below.
    #[arg(
        long,
        value_name = "LIST",
        default_value = "",
        hide_default_value = true
    )]
    faults: Faults,
    /// How births and frames are encoded: deltas, i16le (what it cannot say goes as deltas), json
    /// (MQTT only) or mixed (another each time, also when a frame is sent again).
    #[arg(long, value_name = "FORM", default_value = "deltas")]
    encoding: Encoding,
    /// What is owed survives a crash (kill -9) of the simulator in this file, and is sent again by the
    /// next that is given it. Not synced: it does not outlive the machine.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Boot number of each device instead of a random one: given twice, a boot number used again.
    #[arg(long, value_name = "N")]
    boot: Option<u64>,
    /// Number of a boot's first frame, which should be 0; past the greatest number comes 0 again.
    #[arg(long, value_name = "N", default_value_t = 0)]
    first_seq: u64,
    /// True time of the first sample (RFC 3339, or ns). With --boot and --seed the same frames are
    /// sent again, byte for byte.
    #[arg(long, value_name = "T", value_parser = time)]
    start: Option<i64>,
    /// The devices' clocks are set wrong by this: 10m, -1s, 87600h.
    #[arg(long, value_name = "T", value_parser = signed, allow_hyphen_values = true)]
    skew: Option<i64>,
    /// Live devices have been recording for so long without a network when they start: what a
    /// reconnection after that time looks like, without the wait.
    #[arg(long, value_name = "T", value_parser = duration)]
    away: Option<i64>,
    /// All devices send the same minute over and over, encoded once: for thousands of devices.
    #[arg(long)]
    precomputed: bool,
    /// List of acknowledged frames, one fsynced line each: device stream boot seq t0_ns samples
    /// blake3 (of the codes as little-endian i32, lead after lead). Appended to.
    #[arg(long, value_name = "FILE")]
    acked: Option<PathBuf>,
    /// MQTT version: 3 (3.1.1) or 5.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(3..=5))]
    mqtt: u8,
    /// QoS of births and frames over MQTT; at 0 the `ack` topic settles them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Seed of synthesis and faults; the boot is random all the same.
    #[arg(long)]
    seed: Option<u64>,
    /// A connection on which something waits for its acknowledgement longer than this is given up for
    /// another one.
    #[arg(long, value_name = "T", default_value = "20s", value_parser = duration)]
    silence: i64,
    /// Give up when only acknowledgements are waited for and none comes for this long.
    #[arg(long, value_name = "T", default_value = "60s", value_parser = duration)]
    patience: i64,
}

const EXAMPLES: &str = "Faults (--faults drop,jitter=40ms,...), each striking now and then:
  drop            the connection is cut right after a frame, before its acknowledgement
  reconnect       the device says goodbye and connects again
  pause[=10m]     the same, but it stays away so long (of the stream's time: --speed shortens it)
  dup             a frame is sent twice
  reorder         a frame is overtaken by the next
  late            a frame is held back for 20 s
  gap             a frame is lost in the device, its number never comes
  encodings       as --encoding mixed
  extremes        codes at the edges of 32 and 16 bits, runs without a value
  reuse-boot      once a boot, after 32 frames: numbers from the beginning under the same boot, the old
                  frames out of memory (the same content) and new ones under their numbers (other)
  clock-jump[=2s] the clock steps by this, to either side and back
  jitter[=40ms]   t0 is off by up to half of this to either side, so neighbours disagree by up to this
  drift[=1%]      the clock runs fast (-1%: slow) against the samples

Examples:
  device-sim --url mqtt://localhost:1883 --devices 3 --leads 12 --for 90s
  device-sim --url mqtts://ward.example --ca ca.pem --cert certs/ --devices 20 --acked acked.txt
  device-sim --url mqtt://localhost:1883 --device bed-7 --record 100.hea --speed 60
  device-sim --url zmq://localhost:5555 --device bed-7 --faults drop,dup,reorder --state owed.txt
  device-sim --url mqtts://ward.example --ca ca.pem --cert certs/ --devices 2000 --precomputed

Exit codes: 0 everything acknowledged, 1 not, 2 wrong usage. Ctrl-C ends the streams in order.";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Clock {
    /// Disciplined to UTC.
    Synced,
    /// An hour behind, 50 ppm fast.
    FreeRunning,
    /// Counts from the boot.
    Unknown,
}

impl Args {
    /// # Errors
    /// `BadInput`: wrong usage.
    pub(crate) fn config(self) -> Outcome<Config> {
        let credentials = self.credentials()?;
        let mqtt = match self.mqtt {
            3 => Mqtt::V3,
            5 => Mqtt::V5,
            other => return Err(Failure::bad_input(format!("--mqtt {other}: 3 or 5"))),
        };
        let devices = match self.device {
            Some(id) => vec![id],
            None if self.devices > limits::SIM_DEVICES_MAX => {
                let most = limits::SIM_DEVICES_MAX;
                return Err(Failure::bad_input(format!("--devices: at most {most}")));
            }
            None => (1..=self.devices)
                .map(|n| DeviceId::new(format!("sim-{n:04}")))
                .collect::<Outcome<_>>()?,
        };
        let source = match self.record {
            Some(path) => Source::Record {
                path,
                leads: self.leads,
            },
            None => Source::Synthetic {
                leads: self.leads.unwrap_or(12),
                rate: self.rate,
            },
        };
        Ok(Config {
            credentials,
            stream: self.stream,
            source,
            frame_ns: self.frame,
            pace: if self.max_rate {
                Pace::Max
            } else {
                Pace::Speed(self.speed)
            },
            length_ns: self.length,
            clock: match self.clock {
                Clock::Synced => ClockKind::Synced,
                Clock::FreeRunning => ClockKind::FreeRunning,
                Clock::Unknown => ClockKind::Unknown,
            },
            faults: self.faults,
            burst: self.burst.unwrap_or(if self.max_rate { 64 } else { 16 }),
            mqtt,
            qos: self.qos,
            encoding: self.encoding,
            acked: self.acked,
            state: self.state,
            seed: self.seed,
            boot: self.boot,
            first_seq: self.first_seq,
            start_ns: self.start,
            skew_ns: self.skew.unwrap_or(0),
            away_ns: self.away.unwrap_or(0),
            precomputed: self.precomputed,
            ack_wait_ns: self.silence.unsigned_abs(),
            patience_ns: self.patience.unsigned_abs(),
            ..Config::new(self.url, devices)?
        })
    }

    fn credentials(&self) -> Outcome<Option<Credentials>> {
        match (&self.ca, &self.cert, &self.key) {
            (None, None, None) => Ok(None),
            (Some(ca), Some(cert), key) if key.is_some() || cert.is_dir() => {
                let key = key.clone().unwrap_or_else(|| cert.clone());
                Ok(Some(Credentials {
                    ca: ca.clone(),
                    cert: cert.clone(),
                    key,
                }))
            }
            _ => Err(Failure::bad_input("TLS needs --ca, --cert and --key")),
        }
    }
}

fn time(text: &str) -> Result<i64, String> {
    chordae_base::time::parse(text).map_err(|e| e.why)
}

/// A duration of either sign, in nanoseconds.
fn signed(text: &str) -> Result<i64, String> {
    let span: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "give a duration such as 10m, -1s or 87600h".to_owned())?;
    i64::try_from(span.as_nanos()).map_err(|_| "more than 64 bits of ns".to_owned())
}

/// A duration such as `90s`, `250ms`, `1h 30m`, in nanoseconds.
fn duration(text: &str) -> Result<i64, String> {
    let span: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "give a duration such as 90s, 250ms or 2h".to_owned())?;
    let ns = i64::try_from(span.as_nanos()).map_err(|_| "too long".to_owned())?;
    if (1..=400 * 86_400 * SECOND_NS).contains(&ns) {
        Ok(ns)
    } else {
        Err("more than 0 and at most 400 days".to_owned())
    }
}
