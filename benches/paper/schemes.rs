//! A stream verified by each scheme: what it asks of the ledger, and what it then knows.
//!
//! ```text
//! records   references of all ─▶ 30 events at a time ─▶ digest = digest?            n reads, names each bad chunk
//! chain     reference of the last ─▶ event ─▶ digest = chain's? else the one before  1 + from the last to before the
//!                                    it, by the reference inside the event           first bad one; the good beginning
//! files     `stream::verify_stream` over what the chunks say of themselves          1 + one for each bad one, about;
//!                                                                                    names each bad chunk
//! links     links (168 bytes each) ─▶ `verify_stream` over them ─▶ file = link's?    1 read, names each bad chunk
//! ```
//!
//! `records` is what the paper calls record-based, `chain` its digest chain with early termination (MedChain, 3.3);
//! `files` and `links` are ours, without the link journal and with it. Each works on digests that were computed before,
//! from the chunks as they arrived: that work is told apart, since it asks nobody.

use chordae_base::{Did, Digest, Failure, Outcome};
use chordae_chain::{
    link::{self, Link},
    stream::{ChunkClaim, verify_stream},
};

use super::{
    house::House,
    reader::Reader,
    signals::{Bad, Digests},
};

/// Length of a chunk's slot: half an hour and a little more, on whole pages of ten seconds.
const SLOT_NS: i64 = 1_810_000_000_000;
/// Rows of a chunk: 1,950,000 bytes in format 212, two leads.
const ROWS: u32 = 650_000;
/// Bytes of a reference.
const REFERENCE: usize = 32;

/// How a stream is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// A digest on the ledger for each chunk.
    Records,
    /// The published digest chain.
    Chain,
    /// Ours, the chunk files alone.
    Files,
    /// Ours, with links.
    Links,
}

impl Scheme {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Records, Self::Chain, Self::Files, Self::Links];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Records => "a digest per record",
            Self::Chain => "published chain",
            Self::Files => "ours, chunks alone",
            Self::Links => "ours, with links",
        }
    }
}

/// What a verification found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Exactly these chunks are bad.
    Named(Bad),
    /// So many at the beginning are good; of the others nothing is known.
    Beginning(u64),
}

impl Found {
    /// Holds it against what was changed.
    ///
    /// # Errors
    /// `Damaged` when it is not that.
    pub fn check(&self, chunks: u64, bad: &Bad) -> Outcome<()> {
        let right = match self {
            Self::Named(named) => named == bad,
            Self::Beginning(good) => *good == bad.first().copied().unwrap_or(chunks),
        };
        if right {
            return Ok(());
        }
        Err(Failure::damaged(format!(
            "of {chunks} chunks {bad:?} were changed, and {self:?} was found"
        )))
    }
}

/// The stream of so many chunks as a scheme anchors it.
pub fn did(scheme: Scheme, chunks: u64) -> Did {
    // Both of ours read the same stream.
    let of = match scheme {
        Scheme::Records => 1,
        Scheme::Chain => 2,
        Scheme::Files | Scheme::Links => 3,
    };
    super::numbered(of, chunks)
}

/// The links of a stream of ours.
pub fn links(did: Did, files: &[Digest]) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    for (index, file_root) in (0..).zip(files) {
        let slot_start_ns = i64::try_from(index).unwrap_or(0) * SLOT_NS;
        links.push(Link {
            did,
            index,
            slot_start_ns,
            slot_len_ns: SLOT_NS,
            first_ns: slot_start_ns,
            end_ns: slot_start_ns + SLOT_NS,
            rows: ROWS,
            file_root: *file_root,
            // For readers of windows; whoever has the whole file needs none.
            pages_root: Digest([0; 32]),
            prev: links
                .last()
                .map_or_else(|| link::genesis(&did), Link::digest),
        });
    }
    links
}

/// The entries of a stream for each scheme, those of one chunk beside each other, and its directory.
///
/// # Errors
/// Those of sealing and signing.
pub fn anchor(house: &House, chunks: u64, digests: &Digests) -> Outcome<Vec<Vec<u8>>> {
    let files = (0..chunks).zip(&digests.files).map(|(_, root)| *root);
    let links = links(did(Scheme::Files, chunks), &files.collect::<Vec<_>>());
    let (of_records, of_chain) = (did(Scheme::Records, chunks), did(Scheme::Chain, chunks));
    let (mut entries, mut records) = (Vec::new(), Vec::new());
    let mut last: Option<[u8; 32]> = None;
    for ((link, record), chain) in links.iter().zip(&digests.records).zip(&digests.chain) {
        let index = link.index;
        let record = house.add_data((of_records, index), Digest(*record), None)?;
        records.extend_from_slice(&chordae_chain::event::leaf_hash(&record));
        let chain = house.add_data((of_chain, index), Digest(*chain), last.as_ref())?;
        last = Some(chordae_chain::event::leaf_hash(&chain));
        let ours = house.add_data((link.did, index), link.digest(), None)?;
        entries.extend([record, chain, ours]);
    }
    let newest = links.last().ok_or_else(|| Failure::bad_input("no chunk"))?;
    house.newest(newest.did, newest.index);
    house.keep(name(Scheme::Records, chunks), records);
    house.keep(
        name(Scheme::Chain, chunks),
        last.unwrap_or_default().to_vec(),
    );
    let encoded: Vec<u8> = links.iter().flat_map(Link::encode).collect();
    house.keep(name(Scheme::Links, chunks), encoded);
    Ok(entries)
}

fn name(scheme: Scheme, chunks: u64) -> String {
    format!("{scheme:?}-{chunks}")
}

/// References of the records of a stream.
///
/// # Errors
/// Those of the directory.
pub fn references(reader: &mut Reader, records: u64) -> Outcome<Vec<[u8; 32]>> {
    let kept = reader.directory(&name(Scheme::Records, records))?;
    let whole = kept.chunks_exact(REFERENCE).map(<[u8; 32]>::try_from);
    let whole: Result<Vec<_>, _> = whole.collect();
    whole.map_err(|e| Failure::internal(e.to_string()))
}

/// A digest per record.
///
/// # Errors
/// Those of ledger and directory.
pub fn by_records(reader: &mut Reader, digests: &[[u8; 32]]) -> Outcome<Found> {
    let references = references(reader, digests.len() as u64)?;
    let anchored = reader.events(&references)?;
    if anchored.len() != digests.len() {
        return Err(Failure::damaged("other records than chunks"));
    }
    let pairs = (0..).zip(anchored.iter().zip(digests));
    let bad = pairs.filter(|(_, (anchored, digest))| anchored.0 != **digest);
    Ok(Found::Named(bad.map(|(index, _)| index).collect()))
}

/// The published chain: from its end, until a digest fits.
///
/// # Errors
/// Those of ledger and directory; `Damaged` when a reference is missing.
pub fn by_chain(reader: &mut Reader, digests: &[[u8; 32]]) -> Outcome<Found> {
    let kept = reader.directory(&name(Scheme::Chain, digests.len() as u64))?;
    let mut reference = kept.to_vec();
    for (index, digest) in digests.iter().enumerate().rev() {
        let leaf = reference.as_slice().try_into();
        let leaf = leaf.map_err(|_| Failure::damaged("an event without its reference"))?;
        let event = reader.event(&leaf)?;
        if event.digest.0 == *digest {
            return Ok(Found::Beginning(index as u64 + 1));
        }
        // It stands in clear behind the sealed content, save in the first event.
        let at = event.content.len().saturating_sub(REFERENCE);
        reference = event.content.get(at..).unwrap_or_default().to_vec();
    }
    Ok(Found::Beginning(0))
}

/// Ours, from what each chunk says of itself: its own digest, and the one before it that it names.
///
/// # Errors
/// Those of the ledger.
pub fn by_files(reader: &mut Reader, links: &[Link], files: &[Digest]) -> Outcome<Found> {
    let claim = |(link, file_root): (&Link, &Digest)| ChunkClaim {
        index: link.index,
        link: Some(Link {
            file_root: *file_root,
            ..link.clone()
        }),
    };
    let claims: Vec<ChunkClaim> = links.iter().zip(files).map(claim).collect();
    let did = did(Scheme::Files, files.len() as u64);
    let verdict = verify_stream(did, &claims, &mut reader.heads(did))?;
    if !verdict.unproven.is_empty() || !verdict.missing.is_empty() {
        return Err(Failure::damaged("a chunk that is anchored was not proven"));
    }
    let all = verdict.bad.iter().flat_map(|(first, last)| first..=last);
    Ok(Found::Named(all.collect()))
}

/// Ours, with links: they are proven as a whole, and then each file is held against its own.
///
/// # Errors
/// Those of ledger and directory; `Damaged` when the links are not those that were anchored.
pub fn by_links(reader: &mut Reader, files: &[Digest]) -> Outcome<Found> {
    let kept = reader.directory(&name(Scheme::Links, files.len() as u64))?;
    let links = kept.chunks(Link::BYTES).map(Link::decode);
    let links = links.collect::<Outcome<Vec<_>>>()?;
    let claim = |link: &Link| ChunkClaim {
        index: link.index,
        link: Some(link.clone()),
    };
    let claims: Vec<ChunkClaim> = links.iter().map(claim).collect();
    let did = did(Scheme::Links, files.len() as u64);
    let verdict = verify_stream(did, &claims, &mut reader.heads(did))?;
    if !verdict.is_proven() || links.len() != files.len() {
        return Err(Failure::damaged("the links are not those on the ledger"));
    }
    let pairs = links.iter().zip(files);
    let bad = pairs.filter(|(link, file_root)| link.file_root != **file_root);
    Ok(Found::Named(bad.map(|(link, _)| link.index).collect()))
}
