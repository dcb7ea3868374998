//! Files that somebody made to hurt: whatever is done to the bytes, reading returns; it never panics,
//! never runs away, and says `Damaged` or gives what was sealed.

use bytes::Bytes;
use chordae_base::FailureKind;
use chordae_base::Span;
use chordae_chunk::{open, open_verified, read_meta, read_span, seal};
use proptest::prelude::*;

use crate::common::{SALT, meta, rows};

/// Opens hostile bytes every way there is; true if the rows and metadata are those that were sealed.
fn survive(bytes: Vec<u8>, sealed: &chordae_chunk::SealedChunk) -> bool {
    let bytes = Bytes::from(bytes);
    let span = Span {
        from_ns: i64::MIN,
        until_ns: i64::MAX,
    };
    let spanned = read_span(bytes.clone(), span, &[0, 1]);
    let footer = read_meta(bytes.clone());
    for failure in [spanned.as_ref().err(), footer.as_ref().err()]
        .into_iter()
        .flatten()
    {
        assert_eq!(failure.kind, FailureKind::Damaged, "{failure}");
    }
    assert!(
        open_verified(bytes.clone(), sealed.link()).is_err(),
        "the file digest is another"
    );
    match open(bytes) {
        Ok(chunk) => chunk.meta == *sealed.meta() && *chunk.rows() == sealed.rows().unwrap(),
        Err(failure) => {
            assert_eq!(failure.kind, FailureKind::Damaged, "{failure}");
            true
        }
    }
}

#[test]
fn every_byte_flipped_is_caught_by_the_digest_and_never_panics() {
    let rows = rows(60);
    let sealed = seal(meta(&rows), SALT, &rows).unwrap();
    let mut silent = 0_usize;
    for at in 0..sealed.bytes().len() {
        for bit in 0..8 {
            let mut bytes = sealed.bytes().to_vec();
            bytes[at] ^= 1 << bit;
            silent += usize::from(!survive(bytes, &sealed));
        }
    }
    // Parquet alone does not see flips inside page data: this is why the digest is checked first. If
    // this ever became zero, the negative control of this test would be gone.
    assert!(silent > 0, "flips were expected to read as other rows");
}

#[test]
fn every_truncation_and_an_appended_byte_are_damage() {
    let rows = rows(60);
    let sealed = seal(meta(&rows), SALT, &rows).unwrap();
    for len in 0..sealed.bytes().len() {
        let cut = sealed.bytes().slice(..len);
        assert_eq!(
            open(cut).unwrap_err().kind,
            FailureKind::Damaged,
            "cut at {len}"
        );
    }
    let mut longer = sealed.bytes().to_vec();
    longer.push(0);
    assert!(open(Bytes::from(longer)).is_err());
    let mut twice = sealed.bytes().to_vec();
    let tail = twice.len()
        - 8
        - u32::from_le_bytes(twice[twice.len() - 8..][..4].try_into().unwrap()) as usize;
    twice.extend_from_within(tail..);
    assert!(
        open_verified(Bytes::from(twice), sealed.link()).is_err(),
        "a second footer"
    );
}

#[test]
fn a_page_that_claims_gigabytes_is_refused_before_it_is_unpacked() {
    let rows = rows(60);
    let sealed = seal(meta(&rows), SALT, &rows).unwrap();
    // The first page header begins after the magic: 15 00, 15 <unpacked>, ... Its size is one or two
    // varint bytes; make it the greatest two-byte one, then put back a plain one as the control.
    let mut bytes = sealed.bytes().to_vec();
    assert_eq!(bytes[4..7], [0x15, 0x00, 0x15]);
    assert!(open(Bytes::from(bytes.clone())).is_ok());
    for at in [7, 8] {
        bytes[at] |= 0x7f;
    }
    let refused = open(Bytes::from(bytes)).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Damaged);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    /// Runs of random bytes laid over a chunk, mostly over its footer and page headers.
    #[test]
    fn overwritten_runs_never_panic(
        at in 0.0..1.0f64,
        run in prop::collection::vec(prop_oneof![any::<u8>(), Just(0xff), Just(0x80), Just(0)], 1..12),
    ) {
        static SEALED: std::sync::OnceLock<chordae_chunk::SealedChunk> = std::sync::OnceLock::new();
        let sealed = SEALED.get_or_init(|| { let rows = rows(60); seal(meta(&rows), SALT, &rows).unwrap() });
        let mut bytes = sealed.bytes().to_vec();
        let start = (at * bytes.len() as f64) as usize;
        for (to, from) in bytes.iter_mut().skip(start).zip(&run) {
            *to = *from;
        }
        if bytes != sealed.bytes()[..] {
            survive(bytes, sealed);
        }
    }
}
