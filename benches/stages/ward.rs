//! A ward at work: many monitors, each with a frame a second of 12 leads at 500 Hz, into all of chordae with
//! slots of ten seconds, so that it seals, links and anchors while it acknowledges.

use std::{sync::Arc, time::Duration};

use chordae_base::{Failure, Outcome};

use super::ingest::Place;
use crate::{
    load::{
        frames::{Frames, SECOND, Stock},
        mqtt::Mqtt,
        paced::{Crowd, Pace},
        pipe::Dial,
    },
    server::{Kind, Server},
    table::{fine, grouped},
};

/// Devices, unless told otherwise.
pub const DEVICES: usize = 2000;
/// Milliseconds that 99 of 100 acknowledgements may take.
const GOAL_MS: f64 = 100.0;
/// Two slots pass before anything counts: sealing is at its usual work then.
const WARM: Duration = Duration::from_secs(25);

/// Measures and reports.
///
/// # Errors
/// `Io` when a connection breaks; `Damaged` when the server cannot stop in order.
pub fn run(place: &Place<'_>, devices: usize, seconds: u64) -> Outcome<String> {
    let dir = tempfile::Builder::new()
        .prefix("ward-")
        .tempdir_in(place.dir);
    let dir = dir.map_err(|e| Failure::os("make a folder", &e))?;
    let server = Server::start(place.program, Kind::Product, devices, dir.path())?;
    let stock = Stock::of(SECOND)?;
    let now_ns = place.clock.wall_ns();
    let device = |n: usize| {
        let frames = Frames::live(Arc::clone(&stock), n as u64 + 1, now_ns);
        let pace = Pace::Every(Duration::from_secs(1));
        (Mqtt::new(n), frames, Dial::Plain, pace)
    };
    let mut crowd = Crowd::gather(server.address(), (0..devices).map(device), place.clock)?;
    let measure = Duration::from_secs(seconds);
    let paced = crowd.run(WARM, measure, false, &mut || server.cpu())?;
    let acknowledged: u64 = crowd.acknowledged().iter().sum();
    let chunks = dir.path().join("data").join("chunks");
    let sealed = count(&chunks);
    let memory = server.memory()?;
    drop(crowd);
    server.stop()?;
    if sealed < devices {
        return Err(Failure::io(format!(
            "only {sealed} chunks were sealed in {}: nothing was measured",
            chunks.display()
        )));
    }
    let ms = |part| paced.latency_ns.value_at_quantile(part) as f64 / 1e6;
    let reached = ms(0.99) <= GOAL_MS;
    Ok(format!(
        "ward: {} devices, a frame a second each, 12 leads x 500 Hz, slots of 10 s; {seconds} s after {} s\n  \
         {} frames measured of {} acknowledged, {} chunks sealed meanwhile; server {:.2} cores, {} MB\n  \
         acknowledged after: p50 {} ms, p99 {} ms, longest {} ms (from when a frame was due)\n\
         goal: p99 at most {GOAL_MS:.0} ms, is {}: {}\n",
        grouped(devices as f64),
        WARM.as_secs(),
        grouped(paced.latency_ns.len() as f64),
        grouped(acknowledged as f64),
        grouped(sealed as f64),
        paced.server_cpu_s / measure.as_secs_f64(),
        memory / 1_000_000,
        fine(ms(0.5)),
        fine(ms(0.99)),
        fine(paced.latency_ns.max() as f64 / 1e6),
        fine(ms(0.99)),
        if reached { "reached" } else { "NOT REACHED" }
    ))
}

/// Files below a folder.
fn count(dir: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let one = |entry: std::fs::DirEntry| match entry.path() {
        path if path.is_dir() => count(&path),
        _ => 1,
    };
    entries.flatten().map(one).sum()
}
