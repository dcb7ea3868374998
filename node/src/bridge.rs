//! The `[bridge]` of `chordae.toml`: which broker, as whom, and what to hear there.
//!
//! Off unless an address is given. Off this machine only with TLS, and then with the authority to trust;
//! files are named relative to the data folder, and the secret ones must be unreadable by others.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use chordae_base::{
    Failure, Outcome, limits,
    seams::{Clock, Entropy},
};
use chordae_ingest::{
    bridge::{
        BridgeSettings, Parts,
        metrics::BridgeMetrics,
        upstream::{self, Address, TlsFiles},
    },
    core::{bridge::packet::Wanted, mqtt::framing::Version},
};
use serde::Deserialize;

use crate::{
    adapters::Known,
    assemble::House,
    folder::{self, Folder},
};

/// See `chordae.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Bridge {
    /// `mqtt://HOST[:PORT]`, `mqtts://HOST[:PORT]`, or `off`.
    pub url: String,
    /// The name of our session there.
    pub client_id: String,
    /// `5` or `3.1.1`.
    pub protocol: String,
    /// User there; empty: none.
    pub user: String,
    /// File with the password of `user`.
    pub password_file: PathBuf,
    /// Certificate authority of the broker.
    pub ca: PathBuf,
    /// Our certificate there; empty: none.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// What to subscribe to.
    pub filters: Vec<String>,
    /// QoS of the subscription.
    pub qos: u8,
}

impl Default for Bridge {
    fn default() -> Self {
        let topic = |last: &str| format!("chordae/v1/+/+/{last}");
        Self {
            url: "off".into(),
            client_id: "chordae".into(),
            protocol: "5".into(),
            user: String::new(),
            password_file: PathBuf::new(),
            ca: PathBuf::new(),
            cert: PathBuf::new(),
            key: PathBuf::new(),
            filters: ["birth", "birth.json", "frame", "frame.json"]
                .map(topic)
                .into(),
            qos: 1,
        }
    }
}

impl Bridge {
    /// Whether there is a broker.
    pub fn is_on(&self) -> bool {
        self.url != "off"
    }

    /// Bounds that no type expresses.
    ///
    /// # Errors
    /// `BadInput` naming the key.
    pub fn check(&self) -> Outcome<()> {
        if self.is_on() {
            self.wanted(None)?;
            self.address()?;
        }
        Ok(())
    }

    /// What the bridge starts with; `None` if it is off.
    ///
    /// # Errors
    /// `BadInput` naming the key; `Refused` for a secret that others can read.
    pub fn open(&self, home: &Folder) -> Outcome<Option<BridgeSettings>> {
        if !self.is_on() {
            return Ok(None);
        }
        let in_home = |path: &Path| home.root().join(path);
        let address = self.address()?;
        let secret = |path: &Path| folder::read_secret(&in_home(path));
        let login = match self.user.as_str() {
            "" => None,
            user => {
                let password =
                    secret(&self.password_file).map_err(|f| f.during("bridge.password-file"))?;
                let password = password.trim_end_matches(['\r', '\n']).to_owned();
                Some((user.to_owned(), password))
            }
        };
        let tls = match address.tls {
            false => None,
            true => {
                let public = |path: &Path| folder::read_small(&in_home(path));
                let own = match is_empty(&self.cert) {
                    true => None,
                    false => Some((
                        public(&self.cert).map_err(|f| f.during("bridge.cert"))?,
                        secret(&self.key).map_err(|f| f.during("bridge.key"))?,
                    )),
                };
                let ca = public(&self.ca).map_err(|f| f.during("bridge.ca"))?;
                let own = own.map(|(cert, key)| (cert.into_bytes(), key.into_bytes()));
                let files = TlsFiles {
                    ca: ca.into_bytes(),
                    own,
                };
                Some(upstream::client_config(&files)?)
            }
        };
        Ok(Some(BridgeSettings {
            address,
            tls,
            wanted: self.wanted(login)?,
        }))
    }

    fn address(&self) -> Outcome<Address> {
        let bad = |why: &str| {
            Err(Failure::bad_input(format!(
                "bridge.url = {:?}: {why}",
                self.url
            )))
        };
        let address: Address = self
            .url
            .parse()
            .map_err(|f: Failure| f.during("bridge.url"))?;
        if !address.tls && !address.is_loopback() {
            return bad("without TLS the broker must be on this machine; use mqtts://");
        }
        if address.tls && is_empty(&self.ca) {
            return bad("mqtts:// needs bridge.ca, the authority that vouches for the broker");
        }
        Ok(address)
    }

    fn wanted(&self, login: Option<(String, String)>) -> Outcome<Wanted> {
        let bad = |why: String| Err(Failure::bad_input(why));
        let version = match self.protocol.as_str() {
            "5" => Version::V5,
            "3.1.1" => Version::V4,
            other => {
                return bad(format!(
                    "bridge.protocol = {other:?}: it is \"5\" or \"3.1.1\""
                ));
            }
        };
        if !(1..=2).contains(&self.qos) {
            return bad("bridge.qos must be 1 or 2: with 0 the broker sends nothing again".into());
        }
        let size = |text: &str| (1..=1024).contains(&text.len()) && !text.contains('\0');
        if !size(&self.client_id) {
            return bad(
                "bridge.client-id must be given: the broker keeps our session under it".into(),
            );
        }
        let filters = &self.filters;
        if !(1..=limits::SUBSCRIPTIONS_MAX).contains(&filters.len())
            || !filters.iter().all(|f| size(f))
        {
            return bad(format!(
                "bridge.filters must be 1 to {}",
                limits::SUBSCRIPTIONS_MAX
            ));
        }
        Ok(Wanted {
            version,
            client_id: self.client_id.clone(),
            login,
            filters: filters.clone(),
            qos: self.qos,
        })
    }
}

/// Starts it; it connects for itself, and again.
///
/// # Errors
/// `Internal` when its metrics are registered already.
pub fn start(
    upstream: BridgeSettings,
    house: &House,
    clock: &Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metrics: &prometheus::Registry,
) -> Outcome<chordae_ingest::bridge::Bridge> {
    let parts = Parts {
        ingest: house.ingest.clone(),
        registry: Arc::new(Known(Arc::clone(&house.registry))),
        clock: Arc::clone(clock),
        entropy,
        metrics: house.ingest_metrics.clone(),
        own: BridgeMetrics::register(metrics)?,
    };
    Ok(chordae_ingest::bridge::Bridge::start(upstream, parts))
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

#[cfg(test)]
mod tests {
    use crate::settings::Settings;

    fn refused(lines: &str) -> String {
        Settings::parse(&format!("[bridge]\n{lines}"), &[])
            .unwrap_err()
            .why
    }

    #[test]
    fn what_would_lose_or_leak_is_refused_at_the_start() {
        assert!(Settings::parse("[bridge]\nurl = \"mqtt://localhost\"\n", &[]).is_ok());
        for (lines, named) in [
            ("url = \"broker\"", "bridge.url"),
            ("url = \"mqtt://broker.ward\"", "mqtts"),
            ("url = \"mqtts://broker.ward\"", "bridge.ca"),
            ("url = \"mqtt://[::1]\"\nqos = 0", "bridge.qos"),
            ("url = \"mqtt://[::1]\"\nprotocol = \"4\"", "3.1.1"),
            ("url = \"mqtt://[::1]\"\nclient-id = \"\"", "client-id"),
            ("url = \"mqtt://[::1]\"\nfilters = []", "bridge.filters"),
        ] {
            let why = refused(lines);
            assert!(why.contains(named), "{lines}: {why}");
        }
    }
}
