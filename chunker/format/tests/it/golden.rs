//! The bytes themselves. A change here is a change of the format: old chunks must stay readable, and
//! `docs/FORMATS.md` says why.

use bytes::Bytes;
use chordae_base::Digest;
use chordae_chunk::{open, seal};

use crate::common::{SALT, meta, rows};

const GOLDEN: &[u8] = include_bytes!("../golden/small.parquet");
const FILE_ROOT: &str = "b3b5590c34b9bafa082a9da9197b7eef60bca45aab6ecd76c07131179ad6ef0f";
const PAGES_ROOT: &str = "4dc8784ad70ecbd2f4d13ccf063bafdc6d59c68c326d34b397932b91ceb6c9ff";

fn digest(text: &str) -> Digest {
    text.parse().unwrap()
}

#[test]
fn the_golden_chunk_opens_and_its_digests_are_pinned() {
    let chunk = open(Bytes::from_static(GOLDEN)).unwrap();
    assert_eq!(chunk.file_root, digest(FILE_ROOT));
    assert_eq!(chunk.pages_root().unwrap(), digest(PAGES_ROOT));
    assert_eq!(*chunk.rows(), rows(4320));
    assert_eq!(chunk.meta, meta(&rows(4320)));
}

#[test]
fn sealing_the_golden_rows_gives_the_golden_bytes() {
    let rows = rows(4320);
    let sealed = seal(meta(&rows), SALT, &rows).unwrap();
    if std::env::var_os("CHORDAE_WRITE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/small.parquet");
        std::fs::write(path, sealed.bytes()).unwrap();
        println!(
            "file_root {} pages_root {}",
            sealed.link().file_root,
            sealed.link().pages_root
        );
    }
    assert!(sealed.bytes() == GOLDEN, "the writer's bytes have changed");
    assert_eq!(sealed.link().file_root, digest(FILE_ROOT));
}
