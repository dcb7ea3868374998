//! Chance under a seed: the same seed and purpose give the same throws, on every machine.
//!
//! The stream is BLAKE3's extendable output, so no generator of our own is involved.

use chordae_base::seams::Entropy;

/// Throws of one purpose.
pub(crate) struct Dice {
    source: blake3::OutputReader,
}

impl Dice {
    /// The throws for `purpose` under `seed`; another purpose throws independently.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("chordae device-sim dice");
        hasher
            .update(&seed.to_le_bytes())
            .update(purpose.as_bytes());
        Self {
            source: hasher.finalize_xof(),
        }
    }

    /// Eight random bytes.
    pub(crate) fn bytes(&mut self) -> [u8; 8] {
        let mut bytes = [0; 8];
        self.source.fill(&mut bytes);
        bytes
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        // 53 bits: every one of them is a double.
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True once in `n` times on average; never for 0.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.bits().is_multiple_of(n)
    }
}

/// 64 random bits of the outside world: a boot, or a seed where none was given.
pub(crate) fn draw(entropy: &dyn Entropy) -> u64 {
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
