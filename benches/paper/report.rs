//! What is told: the tables, what is compared and what is not, the plots.

use std::{fmt::Write as _, path::Path};

use chordae_base::Outcome;

use super::{
    Extent, Figures, Row, Told, features::FEATURES, ops, published_reads, schemes::Scheme, storage,
};
use crate::{
    peers::{
        ingest::write as put,
        plot::{self, Line},
    },
    table::{Table, grouped, short},
};

const COMPARED: &str = "\
**Compared.** Three schemes by which a reader verifies a stream of files against a ledger, done by one program: (i) *a \
digest per record*, as the paper draws its predecessors; (ii) *the published chain*, `H(Chunk(i) || Digest(i-1))` with the \
reference to the event before inside each event, read from its end until a digest fits; (iii) *ours*, in its two forms: \
*chunks alone*, where a chunk names the link before it and runs are halved, and *with links*, where the links (168 bytes \
each) come along, as in a proof bundle. One ledger (the product's own, each block synced before it counts), one HTTP/1.1 \
door, connections that are there before anything is timed; an answer is an entry with its receipt, and each is verified \
under the log's key by all. (i) has 30 questions open at one time, the concurrency of the paper's Table 3, since its \
references are all known; (ii) cannot, since each reference is in the event before; ours asks one after the other. SHA-256 \
for (i) and (ii), as published; BLAKE3 for ours: so the digests of what arrived are told apart from the ledger. What a \
scheme found out was held against the bits that were flipped, each time: (i) and both of ours named exactly the bad chunks, \
(ii) found the good beginning, which is all that it can. Which chunks are changed is drawn by an even chance, the same ones \
as a stream grows.

**Not compared.** The paper's milliseconds: its figures are pictures, its machine and its ledger others. Its BFT ledger and \
its Chord directory: here is one ledger and a directory of one place. Fetching the chunks, which is the same for all: they \
are made in memory, and no disk is read. A reader who bundles many look-ups into one: the tiles of our ledger allow it to \
anybody. In ours a chunk's own metadata (its `prev`) stands beside its bytes and is not counted, since it would come with \
the file; *links* count their bytes. In Table 2 the paper counts one encryption for what is added, its inventory's, and one \
for each section of a session; so does this, of ours for what is added the event's content. Opening an inventory is counted \
for nobody.

**Storage.** Each datum of Figure 10 is a record with an event of its own. Of a session ours keeps more on the ledger than the \
published scheme: all that was granted, sealed to the patient, so that it is not lost with the directory; and its end. A \
stream needs fewer events than records do: the published chain one for each chunk, ours one for all chunks of an anchor \
interval (10 s); in Figures 8 and 9 every chunk has its own in all schemes.";

/// Writes the files; the text without its head.
pub(super) fn write(results: &Path, about: &str, extent: &Extent, told: &Told) -> Outcome<String> {
    let delay = extent.delay.as_millis();
    let mut text = format!(
        "{} entries entered the ledger at {} a second, all of them offered at once, every block synced\n",
        grouped(told.entries as f64),
        grouped(told.entries as f64 / told.entered_s),
    );
    text.push_str(&figure_8(told, delay));
    text.push_str(&figure_9(told, delay));
    text.push_str(&figure_10(told));
    text.push_str(&table_2(told));
    let head = format!(
        "# The published evaluation, done again\n\nB. Shen, J. Guo, Y. Yang: *MedChain: Efficient Healthcare Data Sharing \
         via Blockchain*, Appl. Sci. 2019, 9, 1207: Figures 8, 9, 10, Tables 2 and 4. Written by `cargo run --release -p \
         chordae-benches -- paper`. Chunks: {}, {} bytes each, as in its data set. Streams of up to {} of them. A distance \
         of {delay} ms is added by a proxy of ours to what goes to the ledger and not to what comes back: {delay} ms a \
         round trip. Streams of up to {} chunks were verified {} times, the medians are told; longer ones once.\n\n\
         {COMPARED}\n\n```\n{about}{text}```\n\n",
        told.signals,
        grouped(extent.chunk_bytes as f64),
        grouped(extent.longest as f64),
        super::SHORT,
        extent.repeats,
    );
    let plots = "![ledger reads](paper-reads.svg)\n\n![time](paper-time.svg)\n\n![bytes](paper-bytes.svg)\n\n\
                 ![storage](paper-storage.svg)\n";
    put(results, "paper.md", &format!("{head}{}{plots}", table_4()))?;
    put(results, "paper-reads.svg", &reads(&told.rows))?;
    put(results, "paper-time.svg", &times(&told.rows, delay))?;
    put(results, "paper-bytes.svg", &bytes(&told.rows))?;
    put(results, "paper-storage.svg", &stored(told))?;
    Ok(text)
}

fn chance(one_in: u64) -> String {
    match one_in {
        0 => "none changed".to_owned(),
        n => format!("1 in {} changed", grouped(n as f64)),
    }
}

fn figure_8(told: &Told, delay: u128) -> String {
    let mut table = costs_table(&["chunks", "chance", "bad"], delay);
    for row in &told.rows {
        for (number, figures) in row.figures.iter().enumerate() {
            let once = |text: String| if number == 0 { text } else { String::new() };
            let mut cells = vec![
                once(grouped(row.chunks as f64)),
                once(chance(row.one_in)),
                once(row.bad.to_string()),
            ];
            cells.extend(costs(figures));
            table.row(cells);
        }
        if row.one_in > 0 {
            let expected = published_reads(row.chunks, 1.0 / row.one_in as f64);
            let name = "(the paper's C(n): expected reads of its chain)".to_owned();
            let none = String::new;
            table.row([none(), none(), none(), name, short(expected)]);
        }
    }
    format!(
        "\nFigure 8: a stream alone. Time to verify = digests + ledger (directory included), one after the other\n{table}"
    )
}

/// A table whose rows end with [`costs`].
fn costs_table(first: &[&str], delay: u128) -> Table {
    let far = format!("+{delay} ms: s");
    let costs = [
        "",
        "ledger reads",
        "KB",
        "digests: s",
        "loopback: s",
        far.as_str(),
    ];
    Table::new(&[first, &costs].concat())
}

/// Scheme, reads, kilobytes, and seconds.
fn costs(figures: &Figures) -> [String; 6] {
    let seconds = |ms: f64| format!("{:.3}", ms / 1e3);
    let [near, far] = figures.ledger_ms;
    [
        figures.scheme.name().to_owned(),
        grouped(figures.cost.ledger as f64),
        grouped(figures.cost.bytes as f64 / 1e3),
        seconds(figures.local_ms),
        seconds(near),
        seconds(far),
    ]
}

fn figure_9(told: &Told, delay: u128) -> String {
    let mut table = costs_table(&["records", "chunks"], delay);
    for mixed in &told.mixed {
        for (number, figures) in mixed.figures.iter().enumerate() {
            let once = |n: u64| match number {
                0 => grouped(n as f64),
                _ => String::new(),
            };
            let mut cells = vec![once(mixed.records), once(mixed.chunks)];
            cells.extend(costs(figures));
            table.row(cells);
        }
    }
    format!(
        "\nFigure 9: records and a stream in one session, none changed; each record is one read in every scheme\n{table}"
    )
}

fn figure_10(told: &Told) -> String {
    let titles = [
        format!(
            "Figure 10a: {} sessions, each over records of its own",
            storage::FIXED
        ),
        format!(
            "Figure 10b: sessions over the same {} records",
            storage::FIXED
        ),
    ];
    let mut text = String::new();
    for (title, grown) in titles.iter().zip(&told.grown) {
        let mut table = Table::new(&[
            "",
            "records",
            "sessions",
            "live: ledger",
            "directory",
            "revoked: ledger",
            "directory",
            "sum",
        ]);
        for (arm, grown) in grown {
            let bytes = |n: u64| grouped(n as f64);
            table.row([
                arm.name().to_owned(),
                bytes(grown.data),
                bytes(grown.sessions),
                bytes(grown.live.ledger),
                bytes(grown.live.directory),
                bytes(grown.revoked.ledger),
                bytes(grown.revoked.directory),
                bytes(grown.revoked.ledger + grown.revoked.directory),
            ]);
        }
        // Its size does not change where nobody reports a session's end.
        write!(
            text,
            "\n{title}: bytes (of all on the ledger, \"live\" is also what is left where no end is reported)\n{table}"
        )
        .ok();
    }
    text
}

fn table_2(told: &Told) -> String {
    let mut table = Table::new(&[
        "", "action", "formula", "Qb", "Qd", "E", "E'", "D", "B", "ms",
    ]);
    let mut last = None;
    for action in &told.counted {
        let kind = (action.who, action.what);
        // The same action again counted the same.
        if last == Some(kind) {
            continue;
        }
        last = Some(kind);
        let ops::Ops {
            ledger,
            directory,
            encrypted,
            decrypted,
            digests,
            entered,
        } = action.done;
        let counts = [ledger, directory, encrypted, decrypted, digests, entered];
        let mut cells = vec![
            action.who.to_owned(),
            action.what.to_owned(),
            action.formula.to_owned(),
        ];
        cells.extend(counts.map(|count| count.to_string()));
        cells.push(short(action.ms));
        table.row(cells);
    }
    let (k, n) = super::SECTIONS;
    format!(
        "\nTable 2: operations, counted where they are done, {k} sections of {n} entries; each equals its formula. Loopback\n{table}"
    )
}

fn table_4() -> String {
    let mut text = String::from(
        "## Table 4\n\nThe paper gives its own scheme every mark; how many of the seven before it have one, stands beside. \
         That each test is there is a test (`benches/tests/it/paper.rs`).\n\n| feature | of seven | published | ours | here | \
         tests |\n|---|---|---|---|---|---|\n",
    );
    for feature in FEATURES {
        let tests: Vec<String> = feature
            .tests
            .iter()
            .map(|(file, name)| format!("`{file}::{name}`"))
            .collect();
        writeln!(
            text,
            "| {} | {} | Y | Y | {} | {} |",
            feature.name,
            feature.predecessors,
            feature.here,
            tests.join("<br>")
        )
        .ok();
    }
    text.push('\n');
    text
}

type Take = fn(&Figures) -> f64;

/// A panel for each chance, a line for each scheme.
fn by_length(rows: &[Row], title: &str, take: Take) -> Vec<(String, &'static str, Vec<Line>)> {
    let chances = super::ONE_IN.into_iter().map(|one_in| {
        let of: Vec<&Row> = rows.iter().filter(|row| row.one_in == one_in).collect();
        let line = |(ink, scheme): (usize, Scheme)| Line {
            name: scheme.name().to_owned(),
            ink,
            dashed: scheme == Scheme::Links,
            points: of
                .iter()
                .flat_map(|row| row.figures.iter().map(|figures| (row.chunks, figures)))
                .filter(|(_, figures)| figures.scheme == scheme)
                .map(|(chunks, figures)| (chunks as f64, take(figures)))
                .collect(),
        };
        let lines = Scheme::ALL.into_iter().enumerate().map(line).collect();
        (format!("{title}, {}", chance(one_in)), "chunks", lines)
    });
    chances.collect()
}

fn reads(rows: &[Row]) -> String {
    let panels = by_length(rows, "ledger reads", |f| f.cost.ledger as f64);
    plot::lines("Ledger reads to verify a stream (Figure 8)", &panels)
}

fn bytes(rows: &[Row]) -> String {
    let panels = by_length(rows, "KB", |f| f.cost.bytes as f64 / 1e3);
    plot::lines(
        "KB between reader, ledger and directory (Figure 8b)",
        &panels,
    )
}

fn times(rows: &[Row], delay: u128) -> String {
    let mut panels = by_length(rows, "ms with the ledger, loopback", |f| f.ledger_ms[0]);
    let far = format!("ms with the ledger, {delay} ms added");
    panels.extend(by_length(rows, &far, |f| f.ledger_ms[1]));
    panels.extend(by_length(rows, "ms in all, loopback", |f| {
        f.local_ms + f.ledger_ms[0]
    }));
    plot::lines("Time to verify a stream (Figure 8a)", &panels)
}

fn stored(told: &Told) -> String {
    let across = ["records of each of ten sessions", "sessions"];
    let titles = ["Figure 10a: bytes in all", "Figure 10b: bytes in all"];
    let mut panels = Vec::new();
    for ((grown, across), title) in told.grown.iter().zip(across).zip(titles) {
        let line = |(ink, arm, revoked): (usize, storage::Arm, bool)| Line {
            name: format!(
                "{}, {}",
                arm.name(),
                if revoked { "revoked" } else { "live" }
            ),
            ink,
            dashed: revoked,
            points: grown
                .iter()
                .filter(|(of, _)| *of == arm)
                .zip(storage::SIZES)
                .map(|((_, grown), size)| {
                    let at = if revoked { grown.revoked } else { grown.live };
                    (size as f64, (at.ledger + at.directory) as f64)
                })
                .collect(),
        };
        let arms = storage::Arm::ALL.into_iter().enumerate();
        let lines = arms.flat_map(|(ink, arm)| [(ink, arm, false), (ink, arm, true)]);
        let lines = lines.map(line);
        panels.push((title.to_owned(), across, lines.collect()));
    }
    plot::lines("Ledger and directory together (Figure 10)", &panels)
}
