//! Rows changed by somebody who knows the format: the file is written anew, with the metadata, times and salt that it
//! had. It is a flawless chunk; only who computes its digests and holds them against the link sees anything.

use bytes::Bytes;
use chordae_base::{Outcome, limits, wire::NO_VALUE};
use chordae_chunk::{ChunkRows, OpenChunk};

use super::{Copy, nothing};

/// Flips the lowest bit of one sample: of the first lead, in the middle of the chunk in the middle.
pub(super) fn change_sample(copy: &Copy<'_>) -> Outcome<String> {
    let name = copy.middle_chunk()?;
    let chunk = open(copy, &name)?;
    let mut rows = chunk.rows().clone();
    let lead = rows.leads.first_mut().ok_or_else(|| nothing("lead"))?;
    let middle = lead.len() / 2;
    let mut after = lead.iter_mut().enumerate().skip(middle);
    let (at, code) = after
        .find(|(_, code)| **code != NO_VALUE)
        .ok_or_else(|| nothing("sample"))?;
    let before = *code;
    *code ^= 1;
    let (after, lead) = (*code, lead_name(&chunk));
    write(copy, &name, &chunk, &rows)?;
    Ok(format!(
        "changed one sample of {name}: row {at} of lead {lead} from {before} to {after}"
    ))
}

/// Gives two neighbours of equal shape each the other's values; each keeps its times.
pub(super) fn swap(copy: &Copy<'_>) -> Outcome<String> {
    let names = copy.chunks()?;
    // From the middle on, then those before: what is shown is rarely the very beginning.
    let (early, late) = names.split_at(names.len() / 2);
    let pairs = late
        .windows(2)
        .chain(early.windows(2))
        .chain(names.windows(2));
    for pair in pairs {
        let [(did, _, a), (other, _, b)] = pair else {
            continue;
        };
        if did != other {
            continue;
        }
        let (first, second) = (open(copy, a)?, open(copy, b)?);
        let same =
            first.rows().len() == second.rows().len() && first.meta.leads == second.meta.leads;
        if !same || first.rows().leads == second.rows().leads {
            continue;
        }
        let with = |own: &OpenChunk, values: &OpenChunk| ChunkRows {
            times: own.rows().times.clone(),
            leads: values.rows().leads.clone(),
        };
        write(copy, a, &first, &with(&first, &second))?;
        write(copy, b, &second, &with(&second, &first))?;
        return Ok(format!(
            "swapped the values of all {} rows of {a} and {b}",
            first.rows().len()
        ));
    }
    Err(nothing("two neighbouring chunks with as many rows"))
}

fn open(copy: &Copy<'_>, name: &str) -> Outcome<OpenChunk> {
    chordae_chunk::open(Bytes::from(copy.read(name, limits::CHUNK_BYTES_MAX)?))
}

fn write(copy: &Copy<'_>, name: &str, was: &OpenChunk, rows: &ChunkRows) -> Outcome<()> {
    let chunk = chordae_chunk::seal(was.meta.clone(), was.salt, rows)?;
    copy.write(name, chunk.bytes())
}

fn lead_name(chunk: &OpenChunk) -> &str {
    chunk.meta.leads.first().map_or("", |lead| &lead.name)
}
