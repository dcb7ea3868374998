//! Chance that can be repeated: the same seed, the same losses (splitmix64).

/// A stream of numbers that its seed decides.
#[derive(Debug, Clone)]
pub struct Luck(u64);

impl Luck {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw().checked_rem(end).unwrap_or(0)
    }

    /// Heads or tails.
    pub fn coin(&mut self) -> bool {
        self.draw() & 1 == 0
    }

    /// What becomes of so many unsynced changes.
    pub fn fate(&mut self, changes: u64) -> Fate {
        match self.coin() {
            true => Fate::Prefix(self.below(changes.saturating_add(1))),
            false => Fate::Any(Self(self.draw())),
        }
    }
}

/// What of a list of unsynced changes arrives, decided anew for each file and folder.
#[derive(Debug, Clone)]
pub enum Fate {
    /// None of it.
    Drop,
    /// The first so many of them: written in order, then cut.
    Prefix(u64),
    /// Each or not, as the coin falls: written in any order, then cut.
    Any(Luck),
}

impl Fate {
    /// Whether the `n`-th change arrives; asked once for each, in order.
    pub fn arrives(&mut self, n: u64) -> bool {
        match self {
            Self::Drop => false,
            Self::Prefix(end) => n < *end,
            Self::Any(luck) => luck.coin(),
        }
    }
}
