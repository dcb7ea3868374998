//! Window services of others: one script (`peer.py`), run by Python in an environment that is made here from
//! pinned packages.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use chordae_base::{
    Failure, Outcome,
    seams::{Clock as _, real::OsClock},
    time::SECOND_NS,
};

use super::client::{Ask, Site, Tongue};
use crate::certs::Authority;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/serve/peer.py");
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/serve/requirements.txt");

/// Who is measured beside us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Other {
    /// DuckDB over our chunk files.
    DuckDb,
    /// AtriumDB over its own data set.
    AtriumDb,
}

impl Other {
    fn word(self) -> &'static str {
        match self {
            Self::DuckDb => "duckdb",
            Self::AtriumDb => "atriumdb",
        }
    }
}

struct Plain {
    start_ns: i64,
}

impl Tongue for Plain {
    fn window(&self, ask: Ask, _: usize) -> Outcome<(String, Option<String>)> {
        let from_ns = self.start_ns + ask.from_s * SECOND_NS;
        let until_ns = from_ns + ask.seconds * SECOND_NS;
        Ok((format!("/window?from={from_ns}&until={until_ns}"), None))
    }
}

/// A running one.
pub(super) struct Foreign {
    child: Child,
    /// How it is reached.
    pub(super) site: Site,
}

impl Foreign {
    /// Starts it over these chunk files of the first stream, which begins at `start_ns`; it may take a while to
    /// write its own data first. `program` is the Python of [`python`].
    ///
    /// # Errors
    /// `Io` when it does not start; it has said why on stderr.
    pub(super) fn start(
        python: &Path,
        other: Other,
        dir: &Path,
        files: &[PathBuf],
        start_ns: i64,
    ) -> Outcome<Self> {
        let os = |e: std::io::Error| Failure::os("start a Python service", &e);
        let home = dir.join(other.word());
        fs::create_dir_all(&home).map_err(os)?;
        Authority::make(&home, OsClock.wall_ns())?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut child = Command::new(python)
            .args([SCRIPT, "serve", other.word()])
            .arg(&home)
            .args([home.join("server.crt"), home.join("server.key")])
            .arg(cores.to_string())
            .args(files)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(os)?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out.take(64))
                .read_line(&mut line)
                .map_err(os)?;
        }
        let address: SocketAddr = line
            .trim()
            .parse()
            .map_err(|_| Failure::io(format!("{} did not start", other.word())))?;
        let ca = fs::read_to_string(home.join("ca.crt")).map_err(os)?;
        let site = Site::new(address, &ca, Arc::new(Plain { start_ns }))?;
        Ok(Self { child, site })
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It ends when its stdin does; if it had ended before, there is nothing to wait for.
        self.child.wait().ok();
    }
}

/// The Python that has the packages, in an environment at `home` that is made if it is not there.
///
/// # Errors
/// `NotFound` saying why the others cannot be measured here.
pub(super) fn python(home: &Path) -> Outcome<PathBuf> {
    let python = home.join("bin/python");
    let has = home.join("requirements.txt");
    let same = || Some(fs::read(&has).ok()? == fs::read(PACKAGES).ok()?);
    if same() == Some(true) {
        return Ok(python);
    }
    let run = |command: &mut Command| {
        let done = command.stdout(Stdio::null()).status();
        let done = done.is_ok_and(|status| status.success());
        let why = "their Python packages could not be installed";
        if done {
            Ok(())
        } else {
            Err(Failure::not_found(why))
        }
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(home))?;
    let pip = [
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "install",
        "-r",
        PACKAGES,
    ];
    run(Command::new(&python).args(pip))?;
    fs::copy(PACKAGES, &has).map_err(|e| Failure::os("note the packages", &e))?;
    Ok(python)
}
