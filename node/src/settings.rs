//! `chordae.toml`: every key with its trade-off. Unknown keys and wrong types refuse the start.
//!
//! Settings are values that an operator tunes; things that do work (clock, disk, ledger) are handed over
//! in `assemble.rs` and are no settings. `CHORDAE_SECTION_KEY` in the environment overrides `section.key`.

use std::{net::SocketAddr, path::Path};

use chordae_base::{Failure, Outcome, limits, time::SECOND_NS};
use chordae_ingest::core::mqtt::profile::Profile;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{bridge::Bridge, folder, trace::Trace};

/// The file that `chordae init` writes; it parses to [`Settings::default`].
pub const TEMPLATE: &str = include_str!("chordae.toml");

/// All settings.
#[derive(Debug, Clone, PartialEq, Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Doors for devices.
    pub mqtt: Mqtt,
    /// Doors for gateways and for devices that speak ZeroMQ.
    pub zmq: Zmq,
    /// Doors for readers.
    pub http: Http,
    /// Metrics and probes.
    pub metrics: Metrics,
    /// Spans for a collector.
    pub trace: Trace,
    /// The write-ahead log.
    pub wal: Wal,
    /// Cutting and anchoring.
    pub chunks: Chunks,
    /// The ledger.
    pub ledger: Ledger,
    /// An existing broker to hear.
    pub bridge: Bridge,
}

/// See `chordae.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mqtt {
    /// TLS listener.
    #[serde(deserialize_with = "listener")]
    pub tls: Option<SocketAddr>,
    /// Plain listener, loopback only.
    #[serde(deserialize_with = "listener")]
    pub plain: Option<SocketAddr>,
    /// Web pages that may connect beside those of this host.
    #[serde(deserialize_with = "list")]
    pub origins: Vec<String>,
    /// Any client id, any topic.
    pub open: bool,
    /// Filters that nobody may subscribe to where any topic may be.
    #[serde(deserialize_with = "list")]
    pub refuse: Vec<String>,
}

impl Mqtt {
    /// What the doors are for.
    pub fn profile(&self) -> Profile {
        match self.open {
            false => Profile::Closed,
            true => Profile::Open {
                refuse: self.refuse.clone(),
            },
        }
    }
}

/// See `chordae.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Zmq {
    /// TLS listener.
    #[serde(deserialize_with = "listener")]
    pub tls: Option<SocketAddr>,
    /// Plain listener, loopback only.
    #[serde(deserialize_with = "listener")]
    pub plain: Option<SocketAddr>,
}

/// See `chordae.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Http {
    /// TLS listener.
    #[serde(deserialize_with = "listener")]
    pub tls: Option<SocketAddr>,
    /// Plain listener, loopback only.
    #[serde(deserialize_with = "listener")]
    pub plain: Option<SocketAddr>,
    /// Names by which readers may ask for this node, beside those of its certificate.
    pub hosts: Vec<String>,
}

/// See `chordae.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Metrics {
    /// Listener, loopback only.
    pub listen: SocketAddr,
}

/// See `chordae.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Wal {
    /// Most bytes the log may hold.
    pub max_bytes: u64,
    /// Bytes of one file of the log.
    pub segment_bytes: u64,
    /// Doors stop below this much free disk (never less than 3/4 of `max_bytes`).
    pub min_free_bytes: u64,
}

/// See `chordae.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Chunks {
    /// Slot length of new streams, seconds.
    pub slot_seconds: u32,
    /// Samples older than this go to quarantine, days.
    pub oldest_days: u32,
}

/// See `chordae.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ledger {
    /// Longest time from a link to its anchor, seconds.
    pub anchor_seconds: u32,
    /// Events that close a block.
    pub block_events: usize,
    /// Longest wait of a block's first event for more, milliseconds.
    pub block_wait_ms: u32,
    /// Streams up to which each head is anchored by an event of its own.
    pub heads_alone: usize,
    /// Whether anybody may read the log's entries over HTTP.
    pub public_entries: bool,
    /// File outside the data folder that keeps the newest checkpoint; empty for none.
    pub witness: String,
    /// PEM of the authority of the witnesses' certificates; the installation's own if empty.
    pub witness_ca: String,
}

/// An address, or `off`.
pub(crate) fn listener<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    if text == "off" {
        return Ok(None);
    }
    let bad = || D::Error::custom(format!("{text:?} is neither \"off\" nor ADDRESS:PORT"));
    text.parse().map(Some).map_err(|_| bad())
}

/// A list, or in the environment one text with commas.
fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Listed {
        Many(Vec<String>),
        Text(String),
    }
    Ok(match Listed::deserialize(from)? {
        Listed::Many(many) => many,
        Listed::Text(text) => text.split(',').map(|one| one.trim().to_owned()).collect(),
    })
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            tls: Some(SocketAddr::from(([0, 0, 0, 0], 8883))),
            plain: None,
            origins: Vec::new(),
            open: false,
            refuse: Vec::new(),
        }
    }
}

impl Default for Zmq {
    fn default() -> Self {
        Self {
            tls: Some(SocketAddr::from(([0, 0, 0, 0], 5556))),
            plain: None,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            tls: Some(SocketAddr::from(([0, 0, 0, 0], 8443))),
            plain: None,
            hosts: Vec::new(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: addr(9464) }
    }
}

impl Default for Wal {
    fn default() -> Self {
        Self {
            max_bytes: limits::WAL_BYTES_MAX,
            segment_bytes: limits::WAL_SEGMENT_BYTES,
            min_free_bytes: limits::DISK_FREE_MIN,
        }
    }
}

impl Default for Chunks {
    fn default() -> Self {
        Self {
            slot_seconds: 300,
            oldest_days: 30,
        }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            anchor_seconds: 10,
            block_events: limits::BLOCK_EVENTS_MAX,
            block_wait_ms: 0,
            heads_alone: limits::HEADS_ALONE_STREAMS,
            public_entries: true,
            witness: String::new(),
            witness_ca: String::new(),
        }
    }
}

impl Settings {
    /// Reads a file and the environment.
    ///
    /// # Errors
    /// `BadInput` naming file, line and key.
    pub fn read(path: &Path, env: &[(String, String)]) -> Outcome<Self> {
        let text = folder::read_small(path)?;
        Self::parse(&text, env).map_err(|e| e.during(path.display()))
    }

    /// Reads settings from text, then `CHORDAE_*` overrides.
    ///
    /// # Errors
    /// `BadInput` naming line and key.
    pub fn parse(text: &str, env: &[(String, String)]) -> Outcome<Self> {
        let settings: Self = from_toml(text, env)?;
        settings.check()?;
        Ok(settings)
    }

    /// Bounds that no type expresses.
    ///
    /// # Errors
    /// `BadInput` naming the key.
    pub fn check(&self) -> Outcome<()> {
        let plain = [
            ("mqtt.plain", self.mqtt.plain),
            ("zmq.plain", self.zmq.plain),
            ("http.plain", self.http.plain),
            ("metrics.listen", Some(self.metrics.listen)),
        ];
        for (key, addr) in plain {
            if let Some(addr) = addr.filter(|a| !a.ip().is_loopback()) {
                return Err(Failure::bad_input(format!(
                    "{key} = {addr}: a listener without TLS must be on loopback (127.0.0.1 or [::1])"
                )));
            }
        }
        if self.mqtt.open && self.mqtt.tls.is_some() {
            return Err(Failure::bad_input(
                "mqtt.open lets anybody publish anything: it is for tests on loopback; set mqtt.tls = \"off\" \
                 and use mqtt.plain, or mqtt.open = false",
            ));
        }
        self.bridge.check()?;
        self.trace.check()?;
        let slot = i64::from(self.chunks.slot_seconds) * SECOND_NS;
        if slot == 0 || slot % limits::PAGE_NS != 0 || slot > limits::SLOT_NS_MAX {
            return Err(Failure::bad_input(
                "chunks.slot-seconds must be a multiple of 10 from 10 to 3600",
            ));
        }
        let bounds: [(&str, u64, u64, u64); 6] = [
            ("wal.max-bytes", self.wal.max_bytes, 256 << 20, 1 << 40),
            (
                "wal.segment-bytes",
                self.wal.segment_bytes,
                1 << 20,
                limits::WAL_SEGMENT_BYTES,
            ),
            (
                "ledger.anchor-seconds",
                self.ledger.anchor_seconds.into(),
                1,
                3600,
            ),
            (
                "ledger.block-events",
                self.ledger.block_events as u64,
                1,
                limits::BLOCK_EVENTS_MAX as u64,
            ),
            (
                "ledger.block-wait-ms",
                self.ledger.block_wait_ms.into(),
                0,
                10_000,
            ),
            (
                "chunks.oldest-days",
                self.chunks.oldest_days.into(),
                1,
                36_500,
            ),
        ];
        for (key, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Err(Failure::bad_input(format!(
                    "{key} must be {least} to {most}"
                )));
            }
        }
        Ok(())
    }

    /// Slot length of new streams.
    pub fn slot_ns(&self) -> i64 {
        i64::from(self.chunks.slot_seconds) * SECOND_NS
    }

    /// When blocks of the ledger are closed.
    pub fn blocks(&self) -> chordae_anchor::ledger::Cadence {
        chordae_anchor::ledger::Cadence {
            events: self.ledger.block_events,
            wait: std::time::Duration::from_millis(self.ledger.block_wait_ms.into()),
            ..Default::default()
        }
    }

    /// Anchor interval.
    pub fn anchor_ns(&self) -> i64 {
        i64::from(self.ledger.anchor_seconds) * SECOND_NS
    }
}

/// Settings of any kind from text, then `CHORDAE_*` overrides.
///
/// # Errors
/// `BadInput` naming line and key.
pub(crate) fn from_toml<S: serde::de::DeserializeOwned>(
    text: &str,
    env: &[(String, String)],
) -> Outcome<S> {
    let bad = |e: toml::de::Error| {
        let before = e
            .span()
            .and_then(|span| text.get(..span.start))
            .unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Failure::bad_input(format!("line {line}: {}", e.message()))
    };
    // Parsed once as it stands, so that an error names the line the operator wrote.
    let _: S = toml::from_str(text).map_err(bad)?;
    let mut table: toml::Table = toml::from_str(text).map_err(bad)?;
    for (name, value) in env {
        let Some(key) = name.strip_prefix("CHORDAE_") else {
            continue;
        };
        let Some((section, key)) = key.split_once('_') else {
            continue;
        };
        let section = table
            .entry(section.to_ascii_lowercase())
            .or_insert_with(|| toml::Table::new().into());
        let section = section.as_table_mut().ok_or_else(|| {
            Failure::bad_input(format!("{name}: there is no such section of settings"))
        })?;
        let key = key.to_ascii_lowercase().replace('_', "-");
        section.insert(key, env_value(value));
    }
    table
        .try_into()
        .map_err(|e: toml::de::Error| Failure::bad_input(format!("environment: {}", e.message())))
}

/// A number or boolean where it reads as one, else text.
fn env_value(text: &str) -> toml::Value {
    if let Ok(n) = text.parse::<i64>() {
        return n.into();
    }
    match text {
        "true" => true.into(),
        "false" => false.into(),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_says_the_defaults() {
        assert_eq!(Settings::parse(TEMPLATE, &[]).unwrap(), Settings::default());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let err = Settings::parse("[wal]\nmax-bites = 1\n", &[])
            .unwrap_err()
            .why;
        assert!(err.contains("line 2") && err.contains("max-bites"), "{err}");
        let err = Settings::parse("[wal]\nmax-bytes = \"much\"\n", &[])
            .unwrap_err()
            .why;
        assert!(err.contains("line 2"), "{err}");
        let err = Settings::parse("[wal]\nmax-bytes = 1\nmax-bytes = 2\n", &[])
            .unwrap_err()
            .why;
        assert!(err.contains("duplicate"), "{err}");
    }

    #[test]
    fn a_plain_listener_off_loopback_is_refused() {
        let err = Settings::parse("[mqtt]\nplain = \"0.0.0.0:1883\"\n", &[])
            .unwrap_err()
            .why;
        assert!(
            err.contains("mqtt.plain") && err.contains("loopback"),
            "{err}"
        );
    }

    #[test]
    fn blocks_are_closed_by_count_and_by_timer_within_bounds() {
        let text = "[ledger]\nblock-events = 50\nblock-wait-ms = 20\n";
        let blocks = Settings::parse(text, &[]).unwrap().blocks();
        assert_eq!((blocks.events, blocks.wait.as_millis()), (50, 20));
        assert_eq!(Settings::default().blocks(), Default::default());
        for bad in [
            "block-events = 0",
            "block-events = 401",
            "block-wait-ms = 10001",
        ] {
            let err = Settings::parse(&format!("[ledger]\n{bad}\n"), &[])
                .unwrap_err()
                .why;
            assert!(err.contains("ledger.block-"), "{err}");
        }
    }

    #[test]
    fn any_topic_is_for_loopback_only() {
        let tls = "[mqtt]\nopen = true\nplain = \"127.0.0.1:0\"\n";
        let err = Settings::parse(tls, &[]).unwrap_err().why;
        assert!(
            err.contains("mqtt.open") && err.contains("loopback"),
            "{err}"
        );
        let env = [("CHORDAE_MQTT_REFUSE".to_owned(), "a/b, c".to_owned())];
        let settings = Settings::parse(&format!("{tls}tls = \"off\"\n"), &env).unwrap();
        let refuse = ["a/b", "c"].map(str::to_owned).to_vec();
        assert_eq!(settings.mqtt.profile(), Profile::Open { refuse });
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let env = [("CHORDAE_CHUNKS_SLOT_SECONDS".to_owned(), "60".to_owned())];
        let settings = Settings::parse("[chunks]\nslot-seconds = 10\n", &env).unwrap();
        assert_eq!(settings.chunks.slot_seconds, 60);
        let env = [("CHORDAE_CHUNKS_SLOT".to_owned(), "60".to_owned())];
        let err = Settings::parse("", &env).unwrap_err().why;
        assert!(err.contains("environment"), "{err}");
    }
}
