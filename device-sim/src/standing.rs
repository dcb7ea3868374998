//! What the server says of a stream on the `ack` topic (formats.md 2).

use serde::Deserialize;

/// One message of it; ranges are inclusive.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Standing {
    pub(crate) stream: String,
    pub(crate) boot: u64,
    #[serde(default)]
    pub(crate) durable: Vec<(u64, u64)>,
    #[serde(default)]
    pub(crate) refused: Vec<(u64, u64, String)>,
    /// Boots whose birth is known.
    #[serde(default)]
    pub(crate) boots: Vec<u64>,
}

impl Standing {
    /// Reads one; unknown keys are skipped, because a device outlives its server's version.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ack_topic_is_read() {
        let text = br#"{"stream":"ecg","boot":18446744073709551615,"durable":[[0,4],[6,6]],
            "archived":[],"refused":[[5,5,"conflict"]],"boots":[7]}"#;
        let standing = Standing::read(text);
        assert_eq!(
            standing,
            Some(Standing {
                stream: "ecg".into(),
                boot: u64::MAX,
                durable: vec![(0, 4), (6, 6)],
                refused: vec![(5, 5, "conflict".into())],
                boots: vec![7],
            })
        );
        assert_eq!(Standing::read(b"{}"), None);
    }
}
