//! One device floods, the others must not feel it: their slowest acknowledgements with and without it, in
//! turn, on the same connections.

use std::{sync::Arc, time::Duration};

use chordae_base::Outcome;

use super::ingest::Place;
use crate::{
    load::{
        frames::{Frames, LARGE, MIDDLE, Stock},
        mqtt::Mqtt,
        paced::{Crowd, Pace},
        pipe::Dial,
    },
    server::{Kind, Server},
    table::{Rounds, fine, grouped},
};

/// Devices that behave: a frame of 1 KB ten times a second each.
const GOOD: usize = 50;
const PERIOD: Duration = Duration::from_millis(100);
/// Frames of 4 KB that the flood keeps open: as many as the server allows.
const FLOOD: usize = 256;
/// Rounds, unless told otherwise.
pub const ROUNDS: usize = 5;

/// Measures and reports.
///
/// # Errors
/// `Io` when a connection breaks.
pub fn run(place: &Place<'_>, rounds: usize, seconds: u64) -> Outcome<String> {
    let dir = tempfile::Builder::new()
        .prefix("flood-")
        .tempdir_in(place.dir);
    let dir = dir.map_err(|e| chordae_base::Failure::os("make a folder", &e))?;
    let server = Server::start(place.program, Kind::Chordae, GOOD + 1, dir.path())?;
    let (middle, large) = (Stock::of(MIDDLE)?, Stock::of(LARGE)?);
    let now_ns = place.clock.wall_ns();
    let device = |n: usize| {
        let (stock, pace) = match n {
            GOOD => (&large, Pace::Flood(FLOOD)),
            _ => (&middle, Pace::Every(PERIOD)),
        };
        let frames = Frames::new(Arc::clone(stock), n as u64 + 1, now_ns);
        (Mqtt::new(n), frames, Dial::Plain, pace)
    };
    let mut crowd = Crowd::gather(server.address(), (0..=GOOD).map(device), place.clock)?;
    let (warm, measure) = (Duration::from_millis(500), Duration::from_secs(seconds));
    let (mut quiet, mut flooded) = (
        [Rounds::default(), Rounds::default()],
        [Rounds::default(), Rounds::default()],
    );
    let mut rate = Rounds::default();
    for _ in 0..rounds {
        for (flood, figures) in [(false, &mut quiet), (true, &mut flooded)] {
            let paced = crowd.run(warm, measure, flood, &mut || server.cpu())?;
            for (part, rounds) in [0.5, 0.99].into_iter().zip(figures.iter_mut()) {
                rounds
                    .0
                    .push(paced.latency_ns.value_at_quantile(part) as f64 / 1e6);
            }
            if flood {
                rate.0.push(paced.flooded as f64 / measure.as_secs_f64());
            }
        }
    }
    drop(crowd);
    server.stop()?;
    let ([quiet50, quiet99], [flood50, flood99]) = (&quiet, &flooded);
    let times = flood99.over(quiet99).median();
    Ok(format!(
        "flood: {GOOD} good devices, 1 KB ten times a second each; one more keeps {FLOOD} frames of 4 KB open\n        \
         {rounds} rounds of {seconds} s, quiet and flooded in turn, medians\n  \
         quiet:   p50 {} ms, p99 {} ms\n  flooded: p50 {} ms, p99 {} ms, beside {} frames/s of the flood\n\
         goal: p99 at most twice the quiet one, is {times:.2} x: {}\n",
        fine(quiet50.median()),
        fine(quiet99.median()),
        fine(flood50.median()),
        fine(flood99.median()),
        grouped(rate.median()),
        if times <= 2.0 {
            "reached"
        } else {
            "NOT REACHED"
        }
    ))
}
