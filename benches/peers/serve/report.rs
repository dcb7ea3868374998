//! What is told: the table, the goals, the plot.

use std::path::Path;

use chordae_base::Outcome;

use super::{Figures, Own, STREAMERS};
use crate::{
    peers::{
        ingest::write as put,
        plot::{self, Bar},
    },
    table::{Rounds, Table, fine, grouped, short},
};

pub(super) const OURS: &str = "chordae";
pub(super) const DUCKDB: &str = "FastAPI + DuckDB";
pub(super) const ATRIUMDB: &str = "FastAPI + AtriumDB";

const HEAD: &[&str] = &[
    "",
    "1 client: p50 ms",
    "p99 ms",
    "64 clients: windows/s",
    "(min-max)",
    "p50 ms",
    "p99 ms",
    "1 h: MB/s",
    "(min-max)",
    "signed, granted, recorded, provable",
];

fn goal(what: &str, is: String, reached: bool) -> String {
    let reached = if reached { "reached" } else { "NOT REACHED" };
    format!("goal: {what}, is {is}: {reached}\n")
}

pub(super) fn write(
    results: &Path,
    about: &str,
    rounds: usize,
    seconds: u64,
    missing: &[String],
    named: &[(&'static str, Figures)],
    own: &Own,
) -> Outcome<String> {
    let mut text = String::new();
    for why in missing {
        text.push_str(&format!("NOT MEASURED: {why}\n"));
    }
    let mut table = Table::new(HEAD);
    for (name, f) in named {
        let ours = *name == OURS;
        table.row([
            (*name).to_owned(),
            fine(f.alone_p50.median()),
            fine(f.alone_p99.median()),
            grouped(f.rate.median()),
            f.rate.spread(grouped),
            short(f.p50.median()),
            short(f.p99.median()),
            grouped(f.hour_mb_s.median()),
            f.hour_mb_s.spread(grouped),
            if ours { "yes" } else { "no" }.to_owned(),
        ]);
    }
    text.push_str(&format!("\n{table}\n"));
    let Some((_, ours)) = named.first() else {
        return Ok(text);
    };
    text.push_str(&alone(ours, own));
    text.push_str(&goals(named, ours, own));
    let head = format!(
        "# Windows over HTTP and TLS, side by side\n\n{rounds} interleaved rounds of {seconds} s, medians; all on one \
         machine, clients included. A window is 10 s of 12 leads at 500 Hz (5,000 rows), as Arrow, somewhere in an \
         hour of one stream; an hour is 1,800,000 rows. Sampled answers of every round, and one whole hour, equalled \
         what was sent; a request unsigned, repeated or beyond its grant was refused, and a changed code was found. \
         Both others run behind the same FastAPI shell (`benches/peers/serve/peer.py`), a worker per core: DuckDB over \
         our Parquet files, AtriumDB through its local SDK over its own copy.\n\n```\n{about}"
    );
    put(
        results,
        "peers-serve.md",
        &format!("{head}{text}```\n\n![plot](peers-serve.svg)\n"),
    )?;
    put(results, "peers-serve.svg", &picture(named))?;
    Ok(text)
}

fn alone(ours: &Figures, own: &Own) -> String {
    let mut text = format!(
        "chordae: {} ms of its processor time per window at 64 clients; {} windows/s over eight streams of an hour\n",
        fine(ours.server_ms.median()),
        grouped(own.wide.median()),
    );
    if let Some(first) = &own.first {
        text.push_str(&format!(
            "first touch of each of {} chunks after a start, one client: p50 {} ms, p99 {} ms\n",
            first.took_ns.len(),
            fine(first.ms(0.5)),
            fine(first.ms(0.99)),
        ));
    }
    text.push_str(&format!(
        "verified pull (window, proof, verification against the trust file), one client: p50 {} ms to fetch both, {} ms \
         to read and verify\n",
        fine(own.fetch_ms.median()),
        fine(own.verify_ms.median()),
    ));
    if let Some(streamed) = &own.streamed {
        text.push_str(&format!(
            "{STREAMERS} clients, an hour each: {} MB/s in all; memory of the server {}\n",
            grouped(streamed.mb_s()),
            told(own),
        ));
    }
    text
}

/// The memory before, and the medians of the first, second, third and last quarter of the streaming.
fn told(own: &Own) -> String {
    let mb = |bytes: f64| grouped(bytes / 1e6);
    let quarters: Vec<String> = own
        .memory
        .chunks(own.memory.len().div_ceil(4).max(1))
        .map(|part| mb(Rounds(part.to_vec()).median()))
        .collect();
    format!(
        "{} MB before, {} MB by quarters, {} MB at most",
        mb(own.idle),
        quarters.join(", "),
        mb(Rounds(own.memory.clone()).quantile(1.0)),
    )
}

fn goals(named: &[(&'static str, Figures)], ours: &Figures, own: &Own) -> String {
    let mut text = String::from("\n");
    let mut say = |what: &str, is: String, reached: bool| text.push_str(&goal(what, is, reached));
    let p50 = ours.alone_p50.median();
    say("one client: p50 at most 3 ms", fine(p50), p50 <= 3.0);
    let rate = ours.rate.median();
    say("64 clients: 800 windows/s", grouped(rate), rate >= 800.0);
    let p99 = ours.p99.median();
    say("64 clients: p99 under 150 ms", short(p99), p99 < 150.0);
    let hour = ours.hour_mb_s.median();
    say("1 h as Arrow: 300 MB/s", grouped(hour), hour >= 300.0);
    let half = own.memory.len() / 2;
    let (early, late) = own.memory.split_at(half);
    let [early, late] = [early, late].map(|part| Rounds(part.to_vec()).median());
    let grown = late / early.max(1.0);
    let what = format!(
        "memory flat while {STREAMERS} clients stream: second half at most 1.1 x the first"
    );
    say(&what, fine(grown), grown <= 1.1);
    let proof = own.proof_share.median() * 100.0;
    say(
        "proof at most 10 % of its window",
        format!("{proof:.1} %"),
        proof <= 10.0,
    );
    let verify = own.verify_share.median() * 100.0;
    say(
        "verification at most 20 % of a pull",
        format!("{verify:.1} %"),
        verify <= 20.0,
    );
    for (name, other) in named.iter().skip(1) {
        let ratios = [
            other.alone_p50.over(&ours.alone_p50).median(),
            ours.rate.over(&other.rate).median(),
            ours.hour_mb_s.over(&other.hour_mb_s).median(),
        ];
        let is = ratios.map(|r| format!("{r:.2} x")).join(", ");
        let what = format!("ahead of {name} (latency alone, rate of 64, hour)");
        say(&what, is, ratios.iter().all(|r| *r >= 1.0));
    }
    text
}

fn picture(named: &[(&'static str, Figures)]) -> String {
    type Take = fn(&Figures) -> (f64, String);
    let panels: [(&str, Take); 3] = [
        ("windows/s, 64 clients", |f| {
            let told = format!(
                "{}/s, p99 {} ms",
                grouped(f.rate.median()),
                short(f.p99.median())
            );
            (f.rate.median(), told)
        }),
        ("windows/s, one client", |f| {
            let p50 = f.alone_p50.median();
            (1e3 / p50.max(1e-3), format!("p50 {} ms", fine(p50)))
        }),
        ("MB/s of an hour, one client", |f| {
            (
                f.hour_mb_s.median(),
                format!("{} MB/s", grouped(f.hour_mb_s.median())),
            )
        }),
    ];
    let bars = |take: Take| {
        let bar = |(name, f): &(&'static str, Figures)| {
            let (value, told) = take(f);
            let dark = *name == OURS;
            Bar {
                name,
                value,
                told,
                dark,
            }
        };
        named.iter().map(bar).collect::<Vec<_>>()
    };
    let panels: Vec<(&str, Vec<Bar>)> = panels.iter().map(|(n, take)| (*n, bars(*take))).collect();
    plot::bars(
        "10 s of 12 leads x 500 Hz over TLS (dark: signed, granted, recorded, provable)",
        &panels,
    )
}
