//! `chordae rebuild`: links made anew from chunk files and ledger, and what is lost for good (decision 0041).
//!
//! ```text
//! ledger/ ─▶ heads ══ must be ══▶ chunks/ ─▶ links.rebuilt/ ─▶ links/       all streams, or nothing
//!         └▶ sessions in force ─┐
//! trail/  ─▶ inventories put  ──┴─ without a record in directory/ ─▶ named: only their patients can bring them back
//! ```
//!
//! The catalogue needs no rebuilding: every start folds it from links and chunks. Nothing is decided
//! here about a chunk; the checker reads the chains, and trusts no word of the folder but the ledger's.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use chordae_base::{
    Did, Digest, Failure, FailureKind, KeyId, Outcome, journal, limits,
    seams::{Disk, real},
};
use chordae_chain::{finding::Finding, trust::TrustFile};
use chordae_checker::{Chains, ReadChain, read_chains};
use chordae_query::trail::TrailRecord;
use chordae_storage::{directory::Directory, rebuild::Rebuild, registry::Registry};
use serde::Serialize;

use super::{key::read_trust, say, verify::watched};
use crate::{Verdict, cli::RebuildArgs, folder::Folder};

/// What was done; its JSON is interface.
#[derive(Debug, Default, Serialize)]
struct Told {
    /// Version, 1.
    v: u32,
    /// `made`, `left` (they were there), or `none` (there are findings).
    links: &'static str,
    /// Streams and chunks in the links.
    streams: u64,
    chunks: u64,
    /// Chunks that no anchor covers yet, linked on the word of their files.
    unproven: Vec<Unproven>,
    /// Public identities of parties written anew into `registry/keys/`, from the registry's own log.
    identities: usize,
    /// Everything wrong; then no links were made.
    findings: Vec<Finding>,
    /// What is nowhere else.
    lost: Vec<Lost>,
}

#[derive(Debug, Serialize)]
struct Unproven {
    did: Did,
    first: u64,
    last: u64,
}

#[derive(Debug, Serialize)]
struct Lost {
    what: &'static str,
    id: String,
    why: String,
}

pub(super) fn run(args: &RebuildArgs) -> Outcome<Verdict> {
    let home = Folder::new(&args.data);
    let default = home.key("trust.json");
    let trust = own_word(&read_trust(args.trust.as_deref().unwrap_or(&default))?)?;
    // Nobody serves, seals or anchors meanwhile.
    let _held = home.hold()?;
    let disk: Arc<dyn Disk> = Arc::new(real::OsDisk);
    let (told, notes) = rebuild(&disk, &home, &trust)?;
    if args.json {
        say(serde_json::to_string(&told).unwrap_or_default());
    } else {
        print(&told, &notes, &args.data);
    }
    Ok(match (told.findings.is_empty(), told.unproven.is_empty()) {
        (false, _) => Verdict::Tampered,
        (true, false) => Verdict::Unproven,
        (true, true) => Verdict::Done,
    })
}

/// The trust file without its witnesses: a checkpoint of this folder that they have not seen yet is
/// still this folder's, and without links no server runs that could ask them.
fn own_word(trust: &TrustFile) -> Outcome<TrustFile> {
    trust.policy()?;
    let is_log = |line: &&str| line.split_whitespace().next() == Some("log");
    let logs = trust.policy.lines().filter(is_log);
    let mut policy: String = logs.map(|line| format!("{line}\n")).collect();
    policy.push_str("quorum none\n");
    Ok(TrustFile {
        policy,
        ..trust.clone()
    })
}

fn rebuild(disk: &Arc<dyn Disk>, home: &Folder, trust: &TrustFile) -> Outcome<(Told, Vec<String>)> {
    let (registry, identities) = registry(disk, home)?;
    let mut making = match Rebuild::needed(&**disk, home.root())? {
        true => Some(Rebuild::begin(Arc::clone(disk), home.root())?),
        false => None,
    };
    let mut told = Told {
        v: 1,
        identities,
        ..Told::default()
    };
    let mut dids = Vec::new();
    let read = watched(|show| {
        read_chains(&**disk, home.root(), trust, show, &mut |chain| {
            dids.push(chain.did);
            take(&mut making, chain, &mut told)
        })
    });
    let read = match read {
        Ok(read) => read,
        Err(e) => {
            making.map(Rebuild::withdraw).transpose()?;
            return Err(e);
        }
    };
    let Chains {
        report,
        proven,
        sessions,
    } = read;
    told.findings = report.findings;
    told.links = match making {
        None => "left",
        Some(making) if !told.findings.is_empty() => {
            making.withdraw()?;
            "none"
        }
        Some(making) if !proven => {
            making.withdraw()?;
            let why = "there is no ledger/ to hold the chunks against; bring it back first";
            return Err(Failure::not_found(why));
        }
        Some(making) => {
            making.put_in_place()?;
            "made"
        }
    };
    told.lost = lost(disk, home, registry.as_ref(), &dids, &sessions)?;
    Ok((told, report.notes))
}

fn take(making: &mut Option<Rebuild>, chain: &ReadChain, told: &mut Told) -> Outcome<()> {
    told.streams += 1;
    told.chunks += chain.links.len() as u64;
    let first = chain.proven_to.map_or(0, |n| n.saturating_add(1));
    if let Some(last) = chain.links.last().map(|l| l.index).filter(|n| *n >= first) {
        let did = chain.did;
        told.unproven.push(Unproven { did, first, last });
    }
    match making {
        Some(making) => making.take(&chain.links, first),
        None => Ok(()),
    }
}

/// The registry, if its log is there, and how many identities it had to write anew. Opened before the
/// ledger is read, whose grants are held against them.
fn registry(disk: &Arc<dyn Disk>, home: &Folder) -> Outcome<(Option<Registry>, usize)> {
    let dir = home.registry();
    let names = |dir: &Path| disk.list(dir).map_or(0, |entries| entries.len());
    if names(&dir.join("log")) == 0 {
        return Ok((None, 0));
    }
    let before = names(&dir.join("keys"));
    // How new streams are cut does not matter here: none is opened.
    let entropy = Arc::new(real::OsEntropy);
    let registry = Registry::open(Arc::clone(disk), &dir, entropy, limits::PAGE_NS)?;
    let made = names(&dir.join("keys")).saturating_sub(before);
    Ok((Some(registry), made))
}

/// What the folder refers to and does not hold any more.
fn lost(
    disk: &Arc<dyn Disk>,
    home: &Folder,
    registry: Option<&Registry>,
    dids: &[Did],
    sessions: &[([u8; 32], KeyId)],
) -> Outcome<Vec<Lost>> {
    let directory = Directory::open(Arc::clone(disk), &home.directory())?;
    let mut lost = Vec::new();
    let held = directory.list();
    for (sid, patient) in sessions.iter().filter(|(sid, _)| !held.contains(sid)) {
        lost.push(Lost {
            what: "session",
            id: Digest(*sid).to_string(),
            why: format!(
                "its record is not here (lost, or removed 30 days after it expired) and its keys are nowhere else; \
                 patient {patient} reads what she granted in its ledger entry (session show) and grants anew"
            ),
        });
    }
    for (patient, time_ms) in inventories(&**disk, &home.trail())? {
        if directory.inventories().of(&patient).is_empty() {
            lost.push(Lost {
                what: "inventories",
                id: patient.to_string(),
                why: format!(
                    "the trail knows of a change at {time_ms} ms, no record of hers is here; only she can put them anew"
                ),
            });
        }
    }
    let Some(registry) = registry else {
        lost.push(Lost {
            what: "registry",
            id: "registry/log".into(),
            why: "devices, parties, names of streams and whose they are stand nowhere else".into(),
        });
        return Ok(lost);
    };
    for did in dids.iter().filter(|did| registry.stream_of(did).is_none()) {
        lost.push(Lost {
            what: "stream",
            id: did.to_string(),
            why: "the registry does not know it: its device, name and patient stand nowhere else"
                .into(),
        });
    }
    Ok(lost)
}

/// Patients who put inventories here, each with the time of the newest change, ms since 1970.
fn inventories(disk: &dyn Disk, trail: &Path) -> Outcome<BTreeMap<KeyId, u64>> {
    let mut found = BTreeMap::new();
    let scanned = journal::scan_dir(disk, trail, limits::RECORD_BYTES_MAX, &mut |_, record| {
        let deed = TrailRecord::decode(&record)?.deed;
        if deed.format == "inventory-put" && deed.outcome == "answered" {
            found.insert(deed.kid, deed.time_ms);
        }
        Ok(())
    });
    match scanned {
        Err(e) if e.kind != FailureKind::NotFound => Err(e.during("trail")),
        _ => Ok(found),
    }
}

fn print(told: &Told, notes: &[String], data: &Path) {
    for note in notes {
        say(format!("note: {note}"));
    }
    for Finding {
        object,
        code,
        detail,
    } in &told.findings
    {
        say(format!("{object}  {code}: {detail}"));
    }
    for Unproven { did, first, last } in &told.unproven {
        say(format!(
            "not anchored yet  {did}: chunks {first} to {last} are linked on the word of their files alone"
        ));
    }
    for Lost { what, id, why } in &told.lost {
        say(format!("not rebuilt  {what} {id}: {why}"));
    }
    if told.identities > 0 {
        say(format!(
            "registry/keys: {} identities written anew from the registry's log",
            told.identities
        ));
    }
    let (streams, chunks) = (told.streams, told.chunks);
    say(match told.links {
        "made" => {
            format!("links/ made anew: {streams} streams, {chunks} chunks; next: chordae serve")
        }
        "left" => format!(
            "links/ is there and was left as it is; whether it is right: chordae verify {}",
            data.display()
        ),
        _ => "nothing was made: bring back what is named above, and rebuild again".into(),
    });
}
