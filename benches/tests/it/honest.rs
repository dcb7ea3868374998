//! Real server processes, real sockets, a real disk; short and few.

use std::{path::Path, sync::Arc, time::Duration};

use chordae_base::{
    journal::scan_dir,
    limits,
    record::WalRecord,
    seams::{
        Clock,
        real::{OsClock, OsDisk},
    },
    wire::Frame,
};
use chordae_benches::{
    audit,
    load::{
        Load, Tally,
        counted::Counted,
        drive,
        frames::{Frames, Stock},
        mqtt::Mqtt,
        pipe::Dial,
    },
    material::Material,
    server::{BARE_FILE, Kind, Server, WAL_DIR},
    stages::{ingest::Place, seal, window},
};

const DEVICES: usize = 4;
const LOAD: Load = Load {
    window: 3,
    warm: Duration::from_millis(50),
    measure: Duration::from_secs(1),
};

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_chordae-benches"))
}

struct Run {
    dir: tempfile::TempDir,
    stock: Arc<Stock>,
    now_ns: i64,
    tally: Tally,
}

impl Run {
    /// Drives a server of this kind and stops it.
    fn of(kind: Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (stock, now_ns) = (Stock::new().unwrap(), OsClock.wall_ns());
        let frames = |n| Frames::new(Arc::clone(&stock), n as u64 + 1, now_ns);
        let server = Server::start(program(), kind, DEVICES, dir.path()).unwrap();
        let mut cpu = || server.cpu();
        let address = server.address();
        let tally = match kind {
            Kind::Bare => {
                let devices = (0..DEVICES).map(|n| (Counted::default(), frames(n), Dial::Plain));
                drive(address, devices, LOAD, &OsClock, &mut cpu).unwrap()
            }
            _ => {
                let devices = (0..DEVICES).map(|n| (Mqtt::new(n), frames(n), Dial::Plain));
                drive(address, devices, LOAD, &OsClock, &mut cpu).unwrap()
            }
        };
        server.stop().unwrap();
        Self {
            dir,
            stock,
            now_ns,
            tally,
        }
    }

    fn frames(&self) -> Vec<Frames> {
        let frames = |n| Frames::new(Arc::clone(&self.stock), n as u64 + 1, self.now_ns);
        (0..DEVICES).map(frames).collect()
    }

    fn audit(&self, kind: Kind, acknowledged: &[u64]) -> bool {
        audit::check(kind, self.dir.path(), self.frames(), acknowledged).is_ok()
    }

    /// The audit passes, and does not if the client had counted one more or one fewer.
    fn audit_holds(&self, kind: Kind) {
        let counted = &self.tally.acknowledged;
        assert_eq!(counted.len(), DEVICES);
        assert!(counted.iter().all(|n| *n > 0), "{counted:?}");
        assert!(self.tally.measured > 0);
        assert!(
            self.tally.measured < counted.iter().sum(),
            "the warm-up does not count"
        );
        assert_eq!(self.tally.latency_ns.len(), self.tally.measured);
        assert!(self.audit(kind, counted));
        for change in [-1, 1] {
            let mut wrong = counted.clone();
            wrong[1] = wrong[1].checked_add_signed(change).unwrap();
            assert!(!self.audit(kind, &wrong), "off by {change} was not seen");
        }
    }
}

#[test]
fn the_bare_file_holds_exactly_the_acknowledged_bytes() {
    let run = Run::of(Kind::Bare);
    run.audit_holds(Kind::Bare);
    let path = run.dir.path().join(BARE_FILE);
    let bytes = std::fs::read(&path).unwrap();
    let acknowledged: u64 = run.tally.acknowledged.iter().sum();
    let mut sent = 0;
    for (mut frames, count) in run.frames().into_iter().zip(&run.tally.acknowledged) {
        sent += (0..*count)
            .map(|_| 4 + frames.next().unwrap().len())
            .sum::<usize>();
    }
    assert_eq!(
        bytes.len(),
        sent,
        "{acknowledged} messages and their lengths, nothing else"
    );
    let mean = (sent as u64 / acknowledged - 4) as f64;
    assert!(
        (run.tally.frame_bytes - mean).abs() < 1.0,
        "{}",
        run.tally.frame_bytes
    );
    // Control: one flipped bit in a stored sample.
    let mut bent = bytes.clone();
    let at = bent.len() - 8;
    bent[at] ^= 1;
    std::fs::write(&path, bent).unwrap();
    assert!(!run.audit(Kind::Bare, &run.tally.acknowledged));
}

#[test]
fn the_log_holds_each_acknowledged_frame() {
    let run = Run::of(Kind::Chordae);
    run.audit_holds(Kind::Chordae);
    // Without the audit's own eyes: every frame decodes, belongs to its device, and none is there twice.
    let mut next = vec![0; DEVICES];
    let wal = run.dir.path().join(WAL_DIR);
    scan_dir(&OsDisk, &wal, limits::RECORD_BYTES_MAX, &mut |_, bytes| {
        if let WalRecord::Frame(record) = WalRecord::decode(bytes)? {
            let frame = Frame::decode(&record.payload).unwrap();
            let n = usize::try_from(frame.boot).unwrap() - 1;
            assert_eq!(record.stream.device.as_str(), Mqtt::device(n));
            assert_eq!((record.seq, frame.seq), (next[n], next[n]));
            next[n] += 1;
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(next, run.tally.acknowledged);
}

#[test]
fn a_server_that_refuses_gives_no_figure() {
    let dir = tempfile::tempdir().unwrap();
    let (stock, now_ns) = (Stock::new().unwrap(), OsClock.wall_ns());
    let server = Server::start(program(), Kind::Chordae, 1, dir.path()).unwrap();
    // The server knows one device; the second is refused.
    let devices = (0..2).map(|n| {
        (
            Mqtt::new(n),
            Frames::new(Arc::clone(&stock), n as u64 + 1, now_ns),
            Dial::Plain,
        )
    });
    let driven = drive(server.address(), devices, LOAD, &OsClock, &mut || {
        server.cpu()
    });
    assert!(driven.is_err(), "{driven:?}");
}

#[test]
fn seal_and_window_check_what_they_measure() {
    let material = Material::synthetic().unwrap();
    assert_eq!(material.slots.len(), 6);
    assert_eq!(material.samples(), 6 * 300 * 360 * 2);
    assert!(
        seal::run(&material, 1, &OsClock)
            .unwrap()
            .contains("SYNTHETIC")
    );
    let dir = tempfile::tempdir().unwrap();
    let place = Place {
        program: program(),
        dir: dir.path(),
        clock: &OsClock,
    };
    let report = window::run(&material, 1, &place).unwrap();
    assert!(report.contains("3,600 rows of 2 leads"), "{report}");
}
