//! Links: the chain of a did (formats.md 4).
//!
//! ```text
//! genesis(did) ◀─prev─ link 0 ◀─prev─ link 1 ◀─prev─ link 2 = head
//! ```
//!
//! A link is 168 bytes: big-endian, fixed places, no choice left to a writer, so that one link has
//! one encoding and one digest. Decoding refuses what no honest writer makes (a slot off the grid,
//! rows outside it, a non-zero filler); whether the bytes are *true* is for the one who holds the
//! chunk or the ledger.

use chordae_base::{Did, Digest, Failure, Outcome, Span, limits};

/// First bytes of every link.
const MAGIC: &[u8; 8] = b"CHLINK01";

/// The record of a chunk in the chain of its stream. Times in nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The data stream.
    pub did: Did,
    /// 0, 1, 2, ... in the order of linking.
    pub index: u64,
    /// Start of the chunk's slot, a multiple of its length.
    pub slot_start_ns: i64,
    /// Length of the slot, a multiple of a page, at most an hour.
    pub slot_len_ns: i64,
    /// Time of the first row, inside the slot.
    pub first_ns: i64,
    /// End of the last row, at most the slot's end.
    pub end_ns: i64,
    /// Rows of the chunk, at least one.
    pub rows: u32,
    /// BLAKE3 of the chunk file.
    pub file_root: Digest,
    /// Root over metadata and pages, see [`crate::pages`].
    pub pages_root: Digest,
    /// Digest of the link before, or [`genesis`].
    pub prev: Digest,
}

impl Link {
    /// Bytes of an encoded link.
    pub const BYTES: usize = 168;

    /// The 168 bytes of formats.md 4.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            for (to, from) in out.iter_mut().skip(at).zip(field) {
                *to = *from;
            }
            at += field.len();
        };
        put(MAGIC);
        put(&self.did.0);
        put(&self.index.to_be_bytes());
        put(&self.slot_start_ns.to_be_bytes());
        put(&self.slot_len_ns.to_be_bytes());
        put(&self.first_ns.to_be_bytes());
        put(&self.end_ns.to_be_bytes());
        put(&self.rows.to_be_bytes());
        put(&[0; 4]);
        put(&self.file_root.0);
        put(&self.pages_root.0);
        put(&self.prev.0);
        out
    }

    /// Reads a link back.
    ///
    /// # Errors
    /// `BadInput` for another length or magic, a non-zero filler, or fields that break the rules of
    /// a chunk (see `check_frame`).
    pub fn decode(bytes: &[u8]) -> Outcome<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().map_err(|_| {
            Failure::bad_input(format!("a link has 168 bytes, this has {}", bytes.len()))
        })?;
        let mut fields = Fields { rest: bytes };
        let magic: [u8; 8] = fields.take()?;
        if &magic != MAGIC {
            return Err(Failure::bad_input(
                "not a link: it does not begin with CHLINK01",
            ));
        }
        let link = Self {
            did: Did(fields.take()?),
            index: u64::from_be_bytes(fields.take()?),
            slot_start_ns: i64::from_be_bytes(fields.take()?),
            slot_len_ns: i64::from_be_bytes(fields.take()?),
            first_ns: i64::from_be_bytes(fields.take()?),
            end_ns: i64::from_be_bytes(fields.take()?),
            rows: u32::from_be_bytes(fields.take()?),
            file_root: {
                let filler: [u8; 4] = fields.take()?;
                if filler != [0; 4] {
                    return Err(Failure::bad_input(
                        "link: the filler after `rows` is not zero",
                    ));
                }
                Digest(fields.take()?)
            },
            pages_root: Digest(fields.take()?),
            prev: Digest(fields.take()?),
        };
        check_frame(
            link.slot(),
            Span {
                from_ns: link.first_ns,
                until_ns: link.end_ns,
            },
            link.rows,
        )
        .map_err(|e| e.during(format_args!("link {} of {}", link.index, link.did)))?;
        Ok(link)
    }

    /// What the next link and the ledger name: `DK("chordae v1 link", bytes)`.
    pub fn digest(&self) -> Digest {
        Digest(blake3::derive_key("chordae v1 link", &self.encode()))
    }

    /// The slot as (start, length), both in nanoseconds.
    pub fn slot(&self) -> (i64, i64) {
        (self.slot_start_ns, self.slot_len_ns)
    }

    /// From the first row to the end of the last.
    pub fn span(&self) -> Span {
        Span {
            from_ns: self.first_ns,
            until_ns: self.end_ns,
        }
    }

    /// Whether this link may follow `before` (`None`: the genesis of its did).
    ///
    /// # Errors
    /// `Damaged`, saying which of did, index and `prev` does not follow.
    pub fn follows(&self, before: Option<&Self>) -> Outcome<()> {
        let (did, index, prev) = match before {
            None => (self.did, Some(0), genesis(&self.did)),
            Some(b) => (b.did, b.index.checked_add(1), b.digest()),
        };
        let what = if did != self.did {
            "belongs to another stream than the link before it"
        } else if index != Some(self.index) {
            "does not have the next index"
        } else if prev != self.prev {
            "does not name the digest of the link before it"
        } else {
            return Ok(());
        };
        Err(Failure::damaged(format!(
            "link {} of {} {what}",
            self.index, self.did
        )))
    }
}

/// What link and metadata both say about a chunk's place: slot (start, length) on the grid, rows
/// inside it. Times in nanoseconds.
///
/// # Errors
/// `BadInput` naming the rule.
pub(crate) fn check_frame(slot: (i64, i64), span: Span, rows: u32) -> Outcome<()> {
    let (start, len) = slot;
    let on_pages = (limits::PAGE_NS..=limits::SLOT_NS_MAX).contains(&len)
        && len.rem_euclid(limits::PAGE_NS) == 0;
    let broken = if !on_pages {
        "the slot is not a multiple of 10 s up to 1 h"
    } else if start.rem_euclid(len) != 0 || start.checked_add(len).is_none() {
        "the slot does not start at a multiple of its length"
    } else if span.from_ns < start || span.until_ns > start.saturating_add(len) {
        "rows lie outside the slot"
    } else if span.from_ns >= span.until_ns {
        "the rows end before they begin"
    } else if rows == 0 || usize::try_from(rows).is_ok_and(|n| n > limits::CHUNK_ROWS_HARD) {
        "the number of rows is zero or more than a chunk holds"
    } else {
        return Ok(());
    };
    Err(Failure::bad_input(broken))
}

/// Takes fixed-size fields from the front.
struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let short = || Failure::bad_input("link is cut short");
        let (field, rest) = self.rest.split_first_chunk::<N>().ok_or_else(short)?;
        self.rest = rest;
        Ok(*field)
    }
}

/// `prev` of index 0: `DK("chordae v1 genesis", did)`.
pub fn genesis(did: &Did) -> Digest {
    Digest(blake3::derive_key("chordae v1 genesis", &did.0))
}

/// `DK("chordae v1 tag", did || index)`: whoever knows the did finds the event, nobody else can
/// link two.
pub fn tag(did: &Did, index: u64) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("chordae v1 tag");
    hasher.update(&did.0).update(&index.to_be_bytes());
    Digest(*hasher.finalize().as_bytes())
}

/// `chunks/{did}/{index / 1000, 7 digits}/{index, 10 digits}.parquet`: the fence between two writers.
pub fn object_name(did: &Did, index: u64) -> String {
    format!("chunks/{did}/{:07}/{index:010}.parquet", index / 1000)
}

/// Which chunk an object name means; `None` for any other name, also for one written differently.
pub fn parse_object_name(name: &str) -> Option<(Did, u64)> {
    let mut parts = name
        .strip_prefix("chunks/")?
        .strip_suffix(".parquet")?
        .split('/');
    let did: Did = parts.next()?.parse().ok()?;
    let index: u64 = parts.nth(1)?.parse().ok()?;
    (object_name(&did, index) == name).then_some((did, index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        let did: Did = "0b5f6c1e-8a37-4a52-9d0e-6f1c2b3a4d5e".parse().unwrap();
        Link {
            did,
            index: 0,
            slot_start_ns: 1_700_000_040_000_000_000,
            slot_len_ns: 60_000_000_000,
            first_ns: 1_700_000_045_000_000_000,
            end_ns: 1_700_000_056_999_999_999,
            rows: 4320,
            file_root: Digest([1; 32]),
            pages_root: Digest([2; 32]),
            prev: genesis(&did),
        }
    }

    #[test]
    fn every_flipped_bit_changes_the_digest_or_is_refused() {
        let good = link();
        assert_eq!(Link::decode(&good.encode()).unwrap(), good);
        for bit in 0..Link::BYTES * 8 {
            let mut bytes = good.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = Link::decode(&bytes) {
                assert_ne!(other.digest(), good.digest(), "bit {bit}");
                assert_eq!(
                    other.encode(),
                    bytes,
                    "bit {bit}: two encodings of one link"
                );
            }
        }
    }

    #[test]
    fn what_no_writer_makes_is_refused() {
        type Twist = fn(&mut Link);
        let twists: &[(&str, Twist)] = &[
            ("off the grid", |l| l.slot_start_ns += 1),
            ("zero length", |l| l.slot_len_ns = 0),
            ("half a page", |l| l.slot_len_ns = 5_000_000_000),
            ("two hours", |l| l.slot_len_ns = 7_200_000_000_000),
            ("first before the slot", |l| {
                l.first_ns = l.slot_start_ns - 1
            }),
            ("end after the slot", |l| {
                l.end_ns = l.slot_start_ns + l.slot_len_ns + 1
            }),
            ("ends where it begins", |l| l.end_ns = l.first_ns),
            ("no rows", |l| l.rows = 0),
            ("too many rows", |l| l.rows = u32::MAX),
            ("the last slot of time", |l| {
                l.slot_start_ns = i64::MAX - i64::MAX.rem_euclid(l.slot_len_ns);
            }),
        ];
        for (what, twist) in twists {
            let mut bad = link();
            twist(&mut bad);
            assert!(Link::decode(&bad.encode()).is_err(), "{what} was accepted");
        }
        let good = link().encode();
        assert!(Link::decode(&good[..167]).is_err(), "short");
        assert!(Link::decode(&[&good[..], &[0]].concat()).is_err(), "long");
    }

    #[test]
    fn a_link_follows_only_the_one_before_it() {
        let first = link();
        first.follows(None).unwrap();
        let second = Link {
            index: 1,
            prev: first.digest(),
            ..link()
        };
        second.follows(Some(&first)).unwrap();
        assert!(second.follows(None).is_err());
        assert!(
            Link {
                index: 2,
                ..second.clone()
            }
            .follows(Some(&first))
            .is_err()
        );
        assert!(
            Link {
                prev: first.prev,
                ..second.clone()
            }
            .follows(Some(&first))
            .is_err()
        );
        assert!(
            Link {
                did: Did([7; 16]),
                ..second
            }
            .follows(Some(&first))
            .is_err()
        );
    }

    #[test]
    fn an_object_has_one_name() {
        let did = link().did;
        for index in [0, 999, 1000, 1_234_567, 12_345_678_901, u64::MAX] {
            assert_eq!(
                parse_object_name(&object_name(&did, index)),
                Some((did, index))
            );
        }
        for bad in [
            "0000000/1.parquet",
            "0000000/0000001000.parquet",
            "0000001/0000000001.parquet",
        ] {
            assert_eq!(
                parse_object_name(&format!("chunks/{did}/{bad}")),
                None,
                "{bad}"
            );
        }
        assert_eq!(
            parse_object_name("chunks/../0000000/0000000000.parquet"),
            None
        );
    }
}
