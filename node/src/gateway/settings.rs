//! `gateway.toml`: every key with its trade-off. Unknown keys and wrong types refuse the start.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use chordae_base::{DeviceId, Failure, Outcome, limits};
use chordae_ingest::{core::gateway::gate::SpoolBounds, gateway::link::Target};
use serde::Deserialize;

use crate::{folder, settings};

/// The file that `chordae gateway --init` writes; it parses to [`GatewaySettings::default`].
pub const TEMPLATE: &str = include_str!("../gateway.toml");

/// All settings.
#[derive(Debug, Clone, PartialEq, Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct GatewaySettings {
    /// Doors for devices.
    pub mqtt: Mqtt,
    /// The node upstream.
    pub uplink: Uplink,
    /// Certificates.
    pub keys: Keys,
    /// The spool.
    pub spool: Spool,
    /// Metrics and probes.
    pub metrics: settings::Metrics,
}

/// See `gateway.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mqtt {
    /// TLS listener.
    #[serde(deserialize_with = "settings::listener")]
    pub tls: Option<SocketAddr>,
    /// Plain listener, loopback only.
    #[serde(deserialize_with = "settings::listener")]
    pub plain: Option<SocketAddr>,
}

/// See `gateway.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Uplink {
    /// Where the node is.
    pub url: String,
    /// Who we are, where no certificate says it.
    pub name: String,
}

/// See `gateway.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Keys {
    /// Certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authority.
    pub ca: PathBuf,
}

/// See `gateway.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Spool {
    /// Most bytes.
    pub max_bytes: u64,
    /// Devices are refused below this much free disk.
    pub min_free_bytes: u64,
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            tls: Some(SocketAddr::from(([0, 0, 0, 0], 8883))),
            plain: None,
        }
    }
}

impl Default for Uplink {
    fn default() -> Self {
        Self {
            url: String::new(),
            name: "gateway".into(),
        }
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            cert: "keys/gateway.crt".into(),
            key: "keys/gateway.key".into(),
            ca: "keys/ca.crt".into(),
        }
    }
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            max_bytes: limits::SPOOL_BYTES_MAX,
            min_free_bytes: limits::SPOOL_FREE_MIN,
        }
    }
}

impl GatewaySettings {
    /// Reads a file and the environment; paths become absolute or relative to the working folder.
    ///
    /// # Errors
    /// `BadInput` naming file, line and key.
    pub fn read(path: &Path, env: &[(String, String)]) -> Outcome<Self> {
        let text = folder::read_small(path)?;
        let mut settings = Self::parse(&text, env).map_err(|e| e.during(path.display()))?;
        let base = path.parent().unwrap_or(Path::new("."));
        let keys = &mut settings.keys;
        for path in [&mut keys.cert, &mut keys.key, &mut keys.ca] {
            *path = base.join(&*path);
        }
        Ok(settings)
    }

    /// Reads settings from text, then `CHORDAE_*` overrides.
    ///
    /// # Errors
    /// `BadInput` naming line and key.
    pub fn parse(text: &str, env: &[(String, String)]) -> Outcome<Self> {
        let settings: Self = settings::from_toml(text, env)?;
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
            ("metrics.listen", Some(self.metrics.listen)),
        ];
        for (key, addr) in plain {
            if let Some(addr) = addr.filter(|a| !a.ip().is_loopback()) {
                return Err(Failure::bad_input(format!(
                    "{key} = {addr}: a listener without TLS must be on loopback (127.0.0.1 or [::1])"
                )));
            }
        }
        if !(1 << 20..=1 << 40).contains(&self.spool.max_bytes) {
            return Err(Failure::bad_input(
                "spool.max-bytes must be 1048576 to 1099511627776",
            ));
        }
        self.name()?;
        if !self.uplink.url.is_empty() {
            self.target()?;
        }
        Ok(())
    }

    /// The node upstream.
    ///
    /// # Errors
    /// `BadInput` when it is not set or no uplink, `Refused` when it is plain and not on this machine.
    pub fn target(&self) -> Outcome<Target> {
        let target = match self.uplink.url.as_str() {
            "" => Err(Failure::bad_input(
                "it is not set; say where the node is, e.g. \"zmq+tls://ecg.example.org:5556\"",
            )),
            url => url.parse(),
        };
        target.map_err(|e: Failure| e.during("uplink.url"))
    }

    /// Who we are, where no certificate says it.
    ///
    /// # Errors
    /// `BadInput` for what is no name.
    pub fn name(&self) -> Outcome<DeviceId> {
        DeviceId::new(self.uplink.name.as_str()).map_err(|e| e.during("uplink.name"))
    }

    /// How much the spool may hold.
    pub fn bounds(&self) -> SpoolBounds {
        SpoolBounds {
            bytes_max: self.spool.max_bytes,
            items_max: limits::SPOOL_ITEMS_MAX,
            free_min: self.spool.min_free_bytes,
        }
    }
}

/// The template, filled in for a gateway.
pub fn written(name: &str, url: &str) -> String {
    TEMPLATE
        .replace("url = \"\"", &format!("url = \"{url}\""))
        .replace("name = \"gateway\"", &format!("name = \"{name}\""))
        .replace("\"keys/gateway.", &format!("\"keys/{name}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_says_the_defaults() {
        let parsed = GatewaySettings::parse(TEMPLATE, &[]).unwrap();
        assert_eq!(parsed, GatewaySettings::default());
        assert!(parsed.target().is_err_and(|e| e.why.contains("uplink.url")));
    }

    #[test]
    fn what_init_writes_is_what_was_asked() {
        let text = written("ward-3", "zmq+tls://ecg.example.org:5556");
        let parsed = GatewaySettings::parse(&text, &[]).unwrap();
        assert_eq!(parsed.target().unwrap().port, 5556);
        assert_eq!(parsed.name().unwrap().as_str(), "ward-3");
        assert_eq!(parsed.keys.cert, Path::new("keys/ward-3.crt"));
        assert_eq!(parsed.keys.key, Path::new("keys/ward-3.key"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, word) in [
            ("[spool]\nmax-bites = 1\n", "line 2"),
            ("[spool]\nmax-bytes = 7\n", "spool.max-bytes"),
            ("[uplink]\nurl = \"zmq://10.0.0.7:5555\"\n", "uplink.url"),
            ("[uplink]\nurl = \"http://x:1\"\n", "uplink.url"),
            ("[mqtt]\nplain = \"0.0.0.0:1883\"\n", "mqtt.plain"),
        ] {
            let err = GatewaySettings::parse(text, &[]).unwrap_err().why;
            assert!(err.contains(word), "{text}: {err}");
        }
    }
}
