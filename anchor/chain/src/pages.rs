//! Page digests: what lets an answer be verified in any format, lead by lead (formats.md 4).
//!
//! ```text
//! times ── salt ─▶ col_0 ┐
//! lead 1 ─ salt ─▶ col_1 ├─▶ leaf_p ┐
//! lead 2 ─ salt ─▶ col_2 ┘          ├─▶ pages_root
//!                   metadata JSON ──┘
//! ```
//!
//! A page is ten seconds of a slot; empty pages count too, so a leaf's place alone says when. Each
//! column of each page has its own salt: a reader who may see one lead gets that column's salt and
//! the other columns' digests, and can guess neither the hidden lead nor a neighbour page.

use chordae_base::{Digest, Failure, Outcome, limits};

/// Digests of all pages of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageDigests {
    /// Page, then column: column 0 is the times, column `i + 1` is lead `i`.
    pub cols: Vec<Vec<Digest>>,
    /// One per page.
    pub leaves: Vec<Digest>,
}

/// `salt_{p,c}`: first 16 bytes of BLAKE3 keyed with the chunk's salt over page and column.
pub fn page_salt(salt: &[u8; 32], p: u32, c: u32) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(salt);
    hasher.update(&p.to_le_bytes()).update(&c.to_le_bytes());
    let mut out = [0; 16];
    hasher.finalize_xof().fill(&mut out);
    out
}

/// `col_{p,0} = DK("chordae v1 times", salt || n || times)`; times in nanoseconds.
pub fn col_times(salt: &[u8; 16], times: &[i64]) -> Digest {
    column("chordae v1 times", salt, times, i64::to_le_bytes)
}

/// `col_{p,c} = DK("chordae v1 lead", salt || n || codes)`; no value is `i32::MIN`.
pub fn col_lead(salt: &[u8; 16], codes: &[i32]) -> Digest {
    column("chordae v1 lead", salt, codes, i32::to_le_bytes)
}

/// What the hasher is fed at once. BLAKE3 is fast only on large pieces that begin at multiples of
/// their own length, so salt and `n` go into the first piece and not before it.
const PIECE: usize = 64 * 1024;

fn column<T: Copy, const N: usize>(
    context: &str,
    salt: &[u8; 16],
    values: &[T],
    bytes_of: impl Fn(T) -> [u8; N],
) -> Digest {
    // A page holds at most 10 s at 10 kHz; a chunk at most CHUNK_ROWS_HARD rows: n fits.
    let n = u32::try_from(values.len()).unwrap_or(u32::MAX);
    let mut hasher = blake3::Hasher::new_derive_key(context);
    let head = salt.len() + size_of_val(&n);
    let mut buf = Vec::with_capacity(head + PIECE.min(size_of_val(values)));
    buf.extend_from_slice(salt);
    buf.extend_from_slice(&n.to_le_bytes());
    for part in values.chunks(PIECE / N) {
        let at = buf.len();
        buf.resize(at + N * part.len(), 0);
        let (to, _) = buf.get_mut(at..).unwrap_or_default().as_chunks_mut();
        for (to, v) in to.iter_mut().zip(part) {
            *to = bytes_of(*v);
        }
        if let Some((piece, _)) = buf.split_at_checked(PIECE) {
            hasher.update(piece);
            buf.drain(..PIECE);
        }
    }
    hasher.update(&buf);
    Digest(*hasher.finalize().as_bytes())
}

/// `leaf_p = DK("chordae v1 page", col_{p,0} || col_{p,1} || ...)`.
pub fn leaf(cols: &[Digest]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("chordae v1 page");
    for col in cols {
        hasher.update(&col.0);
    }
    Digest(*hasher.finalize().as_bytes())
}

/// `DK("chordae v1 pages", DK("chordae v1 meta", JSON bytes) || leaf_0 || ...)`. The JSON is hashed
/// as stored.
pub fn pages_root(meta_json: &str, leaves: &[Digest]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("chordae v1 pages");
    hasher.update(&blake3::derive_key("chordae v1 meta", meta_json.as_bytes()));
    for leaf in leaves {
        hasher.update(&leaf.0);
    }
    Digest(*hasher.finalize().as_bytes())
}

/// Pages of a slot of `slot_len_ns`.
///
/// # Errors
/// `BadInput` for a length that is not a multiple of a page up to an hour.
pub fn page_count(slot_len_ns: i64) -> Outcome<u32> {
    let fits = (limits::PAGE_NS..=limits::SLOT_NS_MAX).contains(&slot_len_ns)
        && slot_len_ns % limits::PAGE_NS == 0;
    u32::try_from(slot_len_ns / limits::PAGE_NS)
        .ok()
        .filter(|_| fits)
        .ok_or_else(|| Failure::bad_input(format!("slot of {slot_len_ns} ns is not whole pages")))
}

/// Digests of all pages of a chunk. `times` (nanoseconds, strictly increasing, inside the slot) and
/// every lead have one entry per row.
///
/// # Errors
/// `BadInput` for rows that are not so, no lead, or more leads than a stream has.
pub fn page_digests(
    salt: &[u8; 32],
    slot_start_ns: i64,
    slot_len_ns: i64,
    times: &[i64],
    leads: &[Vec<i32>],
) -> Outcome<PageDigests> {
    let pages = page_count(slot_len_ns)?;
    if !(1..=limits::LEADS_MAX).contains(&leads.len())
        || leads.iter().any(|lead| lead.len() != times.len())
    {
        return Err(Failure::bad_input(
            "leads and times do not have the same number of rows",
        ));
    }
    let mut cols = Vec::new();
    let mut leaves = Vec::new();
    let mut at = 0;
    for p in 0..pages {
        let until = slot_start_ns
            .checked_add((i64::from(p) + 1) * limits::PAGE_NS)
            .ok_or_else(|| Failure::bad_input("the slot ends outside 64 bits"))?;
        let rest = times.get(at..).unwrap_or_default();
        let end = at + rest.partition_point(|t| *t < until);
        let mut page = Vec::with_capacity(leads.len() + 1);
        page.push(col_times(
            &page_salt(salt, p, 0),
            times.get(at..end).unwrap_or_default(),
        ));
        for (c, lead) in (1u32..).zip(leads) {
            let codes = lead.get(at..end).unwrap_or_default();
            page.push(col_lead(&page_salt(salt, p, c), codes));
        }
        leaves.push(leaf(&page));
        cols.push(page);
        at = end;
    }
    let rising = times.windows(2).all(|w| matches!(w, [a, b] if a < b));
    if !rising || at != times.len() || times.first().is_some_and(|t| *t < slot_start_ns) {
        return Err(Failure::bad_input(
            "row times do not rise strictly inside their slot",
        ));
    }
    Ok(PageDigests { cols, leaves })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    #[test]
    fn rows_outside_the_slot_or_out_of_order_are_refused() {
        let salt = [7; 32];
        let run = |times: &[i64]| page_digests(&salt, 0, 20 * S, times, &[vec![1; times.len()]]);
        assert_eq!(
            run(&[0, 10 * S - 1, 10 * S, 20 * S - 1])
                .unwrap()
                .leaves
                .len(),
            2
        );
        for bad in [
            &[-1, 0][..],
            &[0, 20 * S],
            &[5, 5],
            &[6, 5],
            &[11 * S, 9 * S],
        ] {
            assert!(run(bad).is_err(), "{bad:?}");
        }
        assert!(
            page_digests(&salt, 0, 20 * S, &[0], &[]).is_err(),
            "no lead"
        );
        assert!(
            page_digests(&salt, 0, 20 * S, &[0], &[vec![]]).is_err(),
            "a short lead"
        );
        assert!(
            page_digests(&salt, 0, 15 * S, &[0], &[vec![1]]).is_err(),
            "half a page"
        );
        assert!(
            page_digests(&salt, i64::MAX - S, 20 * S, &[], &[vec![]]).is_err(),
            "overflow"
        );
    }

    #[test]
    fn a_row_on_a_page_boundary_belongs_to_the_page_that_begins_there() {
        let salt = [7; 32];
        let both = page_digests(&salt, 0, 20 * S, &[10 * S], &[vec![5]]).unwrap();
        assert_eq!(both.cols[0][0], col_times(&page_salt(&salt, 0, 0), &[]));
        assert_eq!(
            both.cols[1][0],
            col_times(&page_salt(&salt, 1, 0), &[10 * S])
        );
        assert_eq!(both.cols[1][1], col_lead(&page_salt(&salt, 1, 1), &[5]));
    }

    #[test]
    fn a_column_is_salt_count_and_values_however_many_pieces_it_takes() {
        let salt = [7; 16];
        let plain = |context: &str, n: usize, values: Vec<u8>| {
            let head = [&salt[..], &u32::try_from(n).unwrap().to_le_bytes()].concat();
            Digest(blake3::derive_key(context, &[head, values].concat()))
        };
        let i32s = PIECE / 4;
        for n in [0, 1, i32s / 2, i32s - 5, i32s - 1, i32s, i32s + 1, 3 * i32s] {
            let codes: Vec<i32> = (-9..).step_by(1_001).take(n).collect();
            let times: Vec<i64> = (-9..).step_by(2_000_003).take(n).collect();
            let bytes = codes.iter().flat_map(|c| c.to_le_bytes()).collect();
            assert_eq!(col_lead(&salt, &codes), plain("chordae v1 lead", n, bytes));
            let bytes = times.iter().flat_map(|t| t.to_le_bytes()).collect();
            assert_eq!(
                col_times(&salt, &times),
                plain("chordae v1 times", n, bytes)
            );
        }
    }

    #[test]
    fn equal_columns_under_other_salts_look_unrelated() {
        let salt = [7; 32];
        let seen: std::collections::BTreeSet<Digest> = (0..4)
            .flat_map(|p| (1..4).map(move |c| (p, c)))
            .map(|(p, c)| col_lead(&page_salt(&salt, p, c), &[1, 2, 3]))
            .collect();
        assert_eq!(seen.len(), 12);
    }
}
