//! Names and ids (formats.md 1). Each is checked when made, so a value of the type is a valid name.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Failure, Outcome, limits, seams::Entropy};

/// Device ids and stream names: 1-64 bytes of `a-z 0-9 . _ -`, the first a letter or digit.
fn check_name(kind: &str, text: &str) -> Outcome<()> {
    let bytes = text.as_bytes();
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let fits = (1..=limits::NAME_BYTES_MAX).contains(&bytes.len())
        && bytes.first().is_some_and(plain)
        && bytes
            .iter()
            .all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-'));
    if fits {
        return Ok(());
    }
    Err(Failure::bad_input(format!(
        "{kind} {text:?} must be 1-64 of a-z 0-9 . _ - and begin with a letter or digit"
    )))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and wraps a name; compared byte for byte, never used to build a path.
            ///
            /// # Errors
            /// `BadInput` when the text breaks the rule of formats.md 1.
            pub fn new(text: impl AsRef<str>) -> Outcome<Self> {
                let text = text.as_ref();
                check_name($kind, text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Failure;
            fn from_str(s: &str) -> Outcome<Self> {
                Self::new(s)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Failure;
            fn try_from(s: String) -> Outcome<Self> {
                Self::new(s)
            }
        }

        impl From<$name> for String {
            fn from(n: $name) -> Self {
                n.as_str().to_owned()
            }
        }
    };
}

name_type!(
    /// A device id, as registered and as its certificate says.
    DeviceId, "device id"
);
name_type!(
    /// The name of a stream of a device.
    StreamName, "stream name"
);

/// A stream as its device knows it, text form `device/stream`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamKey {
    /// The device that publishes it.
    pub device: DeviceId,
    /// Its name on the device.
    pub stream: StreamName,
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.device, self.stream)
    }
}

impl FromStr for StreamKey {
    type Err = Failure;
    fn from_str(s: &str) -> Outcome<Self> {
        let (device, stream) = s
            .split_once('/')
            .ok_or_else(|| Failure::bad_input(format!("{s:?} is not DEVICE/STREAM")))?;
        Ok(Self {
            device: device.parse()?,
            stream: stream.parse()?,
        })
    }
}

impl TryFrom<String> for StreamKey {
    type Error = Failure;
    fn try_from(s: String) -> Outcome<Self> {
        s.parse()
    }
}

impl From<StreamKey> for String {
    fn from(k: StreamKey) -> Self {
        k.to_string()
    }
}

/// A data stream id: UUID version 4, text form UUID. It never mixes two patients.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Did(pub [u8; 16]);

impl Did {
    /// A fresh random did.
    pub fn random(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        Self(
            uuid::Builder::from_random_bytes(bytes)
                .into_uuid()
                .into_bytes(),
        )
    }
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&uuid::Uuid::from_bytes(self.0), f)
    }
}

impl fmt::Debug for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Did {
    type Err = Failure;
    fn from_str(s: &str) -> Outcome<Self> {
        // Only the hyphenated lower-case form: one did has one text.
        let did = uuid::Uuid::try_parse(s).map(|u| Self(u.into_bytes())).ok();
        did.filter(|d| d.to_string() == s)
            .ok_or_else(|| Failure::bad_input(format!("{s:?} is not a did (lower-case UUID)")))
    }
}

impl TryFrom<String> for Did {
    type Error = Failure;
    fn try_from(s: String) -> Outcome<Self> {
        s.parse()
    }
}

impl From<Did> for String {
    fn from(d: Did) -> Self {
        d.to_string()
    }
}

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Failure;
            fn from_str(s: &str) -> Outcome<Self> {
                let mut bytes = [0; 32];
                let lower = !s.bytes().any(|b| b.is_ascii_uppercase());
                match hex::decode_to_slice(s, &mut bytes) {
                    Ok(()) if lower => Ok(Self(bytes)),
                    _ => Err(Failure::bad_input(format!("{s:?} is not 64 lower-case hex digits"))),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Failure;
            fn try_from(s: String) -> Outcome<Self> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(h: $name) -> Self {
                h.to_string()
            }
        }
    };
}

hash_type!(
    /// A 32-byte digest (BLAKE3 or SHA-256, as the place says), text form lower-case hex.
    Digest
);
hash_type!(
    /// SHA-256 of a party's 32-byte Ed25519 public key.
    KeyId
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::fake::FakeEntropy;

    #[test]
    fn names_keep_the_rule() {
        for good in ["a", "0", "monitor-7", "icu.3_bed-12", &"x".repeat(64)] {
            assert_eq!(DeviceId::new(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(65);
        let bad = [
            "", ".", "-a", "_a", ".a", "A", "a b", "a/b", "a\0", "a+", "a#", "\u{e9}", "a\n", "..",
            &long,
        ];
        for text in bad {
            assert!(
                DeviceId::new(text).is_err() && StreamName::new(text).is_err(),
                "{text:?}"
            );
        }
        assert!(
            serde_json::from_str::<DeviceId>("\"A\"").is_err(),
            "serde goes through the check"
        );
    }

    #[test]
    fn a_stream_key_is_two_names_and_one_slash() {
        let key: StreamKey = "bed-1/ecg".parse().unwrap();
        assert_eq!((key.device.as_str(), key.stream.as_str()), ("bed-1", "ecg"));
        assert_eq!(key.to_string(), "bed-1/ecg");
        for bad in ["bed-1", "bed-1/", "/ecg", "a/b/c", "a//b"] {
            assert!(bad.parse::<StreamKey>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_did_is_a_version_4_uuid_with_one_text() {
        let did = Did::random(&FakeEntropy::new(7));
        let text = did.to_string();
        assert_eq!(text.parse::<Did>().unwrap(), did);
        assert_eq!(text.as_bytes().get(14), Some(&b'4'));
        assert_eq!(did.0[8] & 0xc0, 0x80);
        let braced = format!("{{{text}}}");
        for bad in [
            text.to_uppercase(),
            text.replace('-', ""),
            braced,
            format!("urn:uuid:{text}"),
        ] {
            assert!(bad.parse::<Did>().is_err(), "{bad}");
        }
        assert_ne!(Did::random(&FakeEntropy::new(8)), did);
    }

    #[test]
    fn digests_are_lower_case_hex() {
        let digest = Digest([0xab; 32]);
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        for bad in [
            "AB".repeat(32),
            "ab".repeat(31),
            "ab".repeat(33),
            "zz".repeat(32),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
