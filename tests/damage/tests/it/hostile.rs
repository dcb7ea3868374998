//! Files of strangers in a data folder: foreign, cut, bomb-like. Each is a clear finding or a refusal that
//! names it, within bounds of memory and time; none is served, none ends the process.
//!
//! Memory: the work is done once more in a child process that may not have more than a bound; the control is a
//! child that wants more, which must fail.

use std::{path::Path, process::Command, sync::Arc};

use bytes::Bytes;
use chordae::settings::Settings;
use chordae_base::{
    FailureKind,
    seams::{Disk, fake::FakeDisk},
};
use chordae_chain::{
    bundle::ProofBundle,
    cbor, checkpoint, event,
    finding::Code,
    keys::{PublicIdentity, SecretKeys},
    link,
    session::SessionRecord,
    trust::TrustFile,
};
use chordae_checker::{Verdict, check_folder};
use chordae_damage::{
    house::{House, ROOT, at},
    parts::Part,
};
use chordae_query::trail::TrailRecord;
use chordae_storage::Committer;
use parquet::{
    basic::Compression,
    data_type::Int64Type,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};

/// Address space of a child, KiB: the process itself, its threads, and no bomb.
const CHILD_KIB: u64 = 900_000;
/// Seconds of work of a child: no figure of speed, only that nothing runs away.
const CHILD_S: u64 = 120;
/// What makes a child of this test.
const CHILD: &str = "CHORDAE_HOSTILE";

/// A Parquet file of one column of zeros: a few KiB that unpack to gigabytes.
fn zeros(rows: usize) -> Vec<u8> {
    let schema = Arc::new(parse_message_type("message m { required int64 time; }").unwrap());
    let settings = WriterProperties::builder()
        .set_compression(Compression::ZSTD(
            parquet::basic::ZstdLevel::try_new(3).unwrap(),
        ))
        .set_dictionary_enabled(true)
        .build();
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(settings)).unwrap();
    let mut group = file.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let block = vec![0_i64; 1 << 16];
    for _ in 0..rows.div_ceil(block.len()) {
        column
            .typed::<Int64Type>()
            .write_batch(&block, None, None)
            .unwrap();
    }
    column.close().unwrap();
    group.close().unwrap();
    file.into_inner().unwrap()
}

/// A start over the links and chunks: which chunks it calls damaged.
fn damaged(disk: &FakeDisk) -> Vec<(u64, String)> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (_, catalogue) =
        Committer::open(disk, Path::new(ROOT), &mut |_, _| (), Box::new(|_| ())).unwrap();
    let all = catalogue.damaged();
    for (did, index, _) in &all {
        let failure = catalogue.chunk_bytes(did, *index).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Damaged, "never served");
    }
    all.into_iter()
        .map(|(_, index, why)| (index, why.to_string()))
        .collect()
}

fn codes(disk: &FakeDisk, house: &House, name: &str) -> Vec<Code> {
    let report = check_folder(disk, ROOT.as_ref(), Some(&house.trust), &mut |_| {}).unwrap();
    assert_eq!(report.verdict, Verdict::Damaged, "{name}");
    let about = report
        .findings
        .iter()
        .filter(|f| f.object.starts_with(name));
    about.map(|f| f.code).collect()
}

fn parquet_files() -> Vec<(&'static str, Vec<u8>)> {
    let bomb = zeros(64 << 20);
    assert!(bomb.len() < 1 << 20, "{} bytes are no bomb", bomb.len());
    let whole = zeros(1000);
    vec![
        ("of another program", whole.clone()),
        ("a bomb", bomb),
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("only magic", b"PAR1PAR1".to_vec()),
        (
            "a footer longer than the file",
            [b"PAR1".as_slice(), &[0xff; 4], b"PAR1"].concat(),
        ),
        ("no Parquet", b"%PDF-1.7 and so on".to_vec()),
        ("empty", Vec::new()),
    ]
}

/// Foreign Parquet where a chunk should be, and where the next one would be.
fn parquet_is_found() {
    let house = House::new(3).unwrap();
    let (did, last) = (house.links[0].did, 3);
    for (what, bytes) in parquet_files() {
        let disk = house.disk.copy();
        let name = link::object_name(&did, 1);
        disk.put(&at(&name), &bytes);
        assert_eq!(codes(&disk, &house, &name), [Code::FileDigest], "{what}");
        let found = damaged(&disk);
        assert!(
            matches!(found.as_slice(), [(1, why)] if why.contains("digest")),
            "{what}: {found:?}"
        );
        // Where the next chunk would be, and where none can be yet.
        let disk = house.disk.copy();
        disk.put(&at(&link::object_name(&did, last + 1)), &bytes);
        let report = check_folder(&disk, ROOT.as_ref(), Some(&house.trust), &mut |_| {}).unwrap();
        let told = !report.findings.is_empty() || !report.notes.is_empty();
        assert!(told, "{what}: neither found nor noted");
        assert!(damaged(&disk).is_empty(), "{what}");
        let disk = house.disk.copy();
        let far = link::object_name(&did, last + 7);
        disk.put(&at(&far), &bytes);
        assert_eq!(codes(&disk, &house, &far), [Code::ExtraFile], "{what}");
    }
}

#[test]
fn foreign_cut_and_bomb_like_parquet() {
    parquet_is_found();
}

/// Files with names that are not ours, in every folder that is a journal: refused by name, not read, not removed.
#[test]
fn foreign_names_in_journals() {
    let house = House::new(3).unwrap();
    for part in [
        Part::Wal,
        Part::Links,
        Part::Trail,
        Part::Quarantine,
        Part::Outbox,
        Part::Exchange,
    ] {
        for name in [
            "core.1234",
            "00000000000000000000.log.bak",
            ".hidden",
            "0.log",
        ] {
            let disk = house.disk.copy();
            let path = format!("{}/{name}", part.name());
            disk.put(&at(&path), b"not ours");
            let failure = part.read(&disk, &house).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Damaged, "{path}: {failure}");
            assert!(failure.why.contains(&path), "{failure}");
            assert!(disk.peek(&at(&path)).is_some(), "{path} was removed");
        }
    }
}

/// A segment of random bytes, of zeros, of a length that no memory holds.
#[test]
fn journals_of_garbage() {
    let house = House::new(3).unwrap();
    for part in [Part::Wal, Part::Links, Part::Trail, Part::Quarantine] {
        let file = house.files(part.name()).remove(0);
        let mut huge = house.disk.peek(&at(&file)).unwrap();
        huge.truncate(20);
        // The first record says that it is 4 GiB long.
        huge.extend([0xff; 16]);
        for (what, bytes) in [("text", b"hello".repeat(100)), ("huge", huge)] {
            let disk = house.disk.copy();
            disk.put(&at(&file), &bytes);
            let read = part.read(&disk, &house);
            let before = part.read(&house.disk.copy(), &house).unwrap();
            match read {
                Err(failure) => assert_eq!(
                    failure.kind,
                    FailureKind::Damaged,
                    "{what} {file}: {failure}"
                ),
                // The only segment of its journal: a tail that is cut, said, and found by the ledger.
                Ok(said) => {
                    assert!(said.torn && said.text != before.text, "{what} {file}");
                    if part != Part::Wal && part != Part::Quarantine {
                        let disk = house.disk.copy();
                        disk.put(&at(&file), &bytes);
                        assert!(
                            !codes(&disk, &house, part.name()).is_empty(),
                            "{what} {file}"
                        );
                    }
                }
            }
        }
    }
}

/// Lengths that promise more than there is, and nests without an end.
fn cbor_bombs() -> Vec<Vec<u8>> {
    let mut bombs: Vec<Vec<u8>> = [0x5b_u8, 0x7b, 0x9b, 0xbb]
        .into_iter()
        .map(|kind| {
            [
                &[kind][..],
                &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            ]
            .concat()
        })
        .collect();
    for nest in [0x81_u8, 0xa1, 0xd2, 0x9f, 0xbf, 0x5f] {
        bombs.push(vec![nest; 60_000]);
    }
    // Arrays of arrays: short to write, long to build.
    bombs.push([vec![0x9a, 0x00, 0xff, 0xff, 0xff], vec![0x80; 50_000]].concat());
    bombs
}

#[test]
fn cbor_bombs_are_refused() {
    for bomb in cbor_bombs() {
        assert!(cbor::decode(&bomb).is_err());
        assert!(SessionRecord::decode(&bomb).is_err());
        assert!(TrailRecord::decode(&bomb).is_err());
        assert!(event::decode(&bomb).is_err());
    }
    // In the folder: as a session record, and as a record of the trail whose checksum holds.
    let house = House::new(3).unwrap();
    let session = house.files("directory").remove(0);
    for bomb in cbor_bombs() {
        let disk = house.disk.copy();
        disk.put(&at(&session), &bomb);
        let failure = Part::Directory.read(&disk, &house).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Damaged, "{failure}");
    }
}

#[test]
fn json_and_pem_bombs_are_refused() {
    let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    let object = |n: usize| format!("{}1{}", "{\"v\":".repeat(n), "}".repeat(n));
    let long = format!("{{\"name\":\"{}\"}}", "x".repeat(4 << 20));
    for text in [
        deep(100_000),
        object(50_000),
        long,
        "{".repeat(1 << 20),
        String::new(),
    ] {
        assert!(TrustFile::parse(&text).is_err());
        assert!(ProofBundle::parse(&text).is_err());
        assert!(PublicIdentity::from_json(&text).is_err());
        assert!(Settings::parse(&format!("[wal]\nmax-bytes = {text}\n"), &[]).is_err());
        assert!(SecretKeys::from_pem(&text).is_err());
    }
    let block =
        |body: &str| format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    for text in [
        block(&"A".repeat(8 << 20)),
        block("").repeat(1000),
        block("!!!!"),
        "-----BEGIN PRIVATE KEY-----\nMC4".to_owned(),
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".to_owned(),
    ] {
        assert!(SecretKeys::from_pem(&text).is_err());
    }
    let house = House::new(3).unwrap();
    let log = house.trust.policy().unwrap().logs.remove(0);
    for text in [
        "x".repeat(8 << 20),
        "\u{2014} ".repeat(100_000),
        String::new(),
    ] {
        assert!(checkpoint::open(&text, &log).is_err());
        let disk = house.disk.copy();
        disk.put(&at("ledger/checkpoint"), text.as_bytes());
        assert!(!codes(&disk, &house, "ledger/checkpoint").is_empty());
        assert!(Part::Ledger.read(&disk, &house).is_err());
    }
}

/// Files larger than what they may hold are refused by their length, before they are read.
#[test]
fn files_without_an_end() {
    let house = House::new(3).unwrap();
    let big = vec![0x41; 96 << 20];
    let identity = house.files("registry/keys").remove(0);
    let tile = house.files("ledger/tile").remove(0);
    for (name, part) in [(identity, Part::Registry), (tile, Part::Ledger)] {
        let disk = house.disk.copy();
        disk.put(&at(&name), &big);
        if part == Part::Ledger {
            // An old tile is nobody's to read but the checker's; a start removes it.
            assert!(!codes(&disk, &house, "ledger").is_empty(), "{name}");
            continue;
        }
        let failure = part.read(&disk, &house).err();
        let named = failure.as_ref().is_some_and(|f| f.why.contains("over"));
        assert!(named, "{name}: {failure:?}");
    }
    let mut whole = Bytes::from(big);
    whole.truncate(64 << 20);
    assert!(chordae_chunk::open(whole).is_err());
}

#[test]
fn all_of_it_in_little_memory_and_time() {
    let me = "hostile::all_of_it_in_little_memory_and_time";
    match std::env::var(CHILD).as_deref() {
        Ok("work") => return parquet_is_found(),
        Ok("control") => {
            let more = vec![1_u8; CHILD_KIB as usize * 1024];
            assert_eq!(
                more.iter().map(|b| u64::from(*b)).sum::<u64>(),
                0,
                "it had the memory"
            );
            return;
        }
        _ => {}
    }
    let child = |what: &str| {
        let exe = std::env::current_exe().unwrap();
        let script =
            format!("ulimit -v {CHILD_KIB}; ulimit -t {CHILD_S}; exec \"$0\" --exact {me}");
        Command::new("sh")
            .args(["-c", &script])
            .arg(exe)
            .env(CHILD, what)
            .output()
            .unwrap()
    };
    let work = child("work");
    let text = String::from_utf8_lossy(&work.stderr);
    assert!(
        work.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&work.stdout)
    );
    let control = child("control");
    let text = String::from_utf8_lossy(&control.stderr);
    assert!(
        text.contains("memory allocation"),
        "the bound must bind: {text}"
    );
}
