//! `chordae-powerloss FOLDER SOCKET`: mounts the disk on FOLDER and obeys the lines that come over SOCKET, see
//! `chordae_powerloss::control`. Prints `ready`; ends at `quit`, and unmounts.

use std::{env, io, os::unix::net::UnixListener, path::PathBuf, process::ExitCode, sync::Arc};

use chordae_powerloss::{
    control::{self, Shared},
    fuse::Mounted,
};
use fuser::{Config, MountOption};

fn main() -> ExitCode {
    let paths: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [folder, socket] = paths.as_slice() else {
        eprintln!("usage: chordae-powerloss FOLDER SOCKET");
        return ExitCode::from(2);
    };
    match run(folder, socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("{}: {err} (it needs root and /dev/fuse)", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &PathBuf, socket: &PathBuf) -> io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    let shared = Arc::new(Shared::default());
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("powerloss".into())];
    let session = fuser::spawn_mount2(Mounted::new(Arc::clone(&shared)), folder, &config)?;
    println!("ready");
    let served = control::serve(&listener, &shared);
    drop(session);
    served
}
