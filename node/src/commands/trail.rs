//! `chordae trail`: the patient's view of who asked for her stream, as a table, JSON or FHIR.

use chordae_base::{Did, Outcome, limits, time};
use chordae_query::trail::{Shown, fhir};
use serde::Deserialize;

use super::{
    asking::Asking,
    say,
    session::far,
    table::{self, NOTHING},
};
use crate::{
    Verdict,
    cli::{TrailArgs, TrailFormat},
    keyfile,
};

/// Pages of [`limits::LISTED_MAX`] records that one call fetches.
const PAGES_MAX: usize = 100;

/// The server's answer.
#[derive(Deserialize)]
struct Page {
    records: Vec<Shown>,
    more: bool,
}

pub(super) async fn run(args: &TrailArgs) -> Outcome<Verdict> {
    let far = far(&args.server, args.trust.as_deref())?;
    let keys = keyfile::read(&args.key)?;
    let asking = Asking {
        far: &far,
        keys: &keys,
        session: None,
    };
    let (records, more) = fetch(&asking, args).await?;
    match args.format {
        TrailFormat::Table => table(&records)?,
        TrailFormat::Json => table::show(true, &records, &[], |_| Vec::new())?,
        TrailFormat::Fhir => say(fhir::bundle(&records, keys.key_id(), &far.trust.origin)),
    }
    if more && args.format == TrailFormat::Table {
        say("older records are not shown: ask for an earlier part with --to");
    }
    Ok(Verdict::Done)
}

/// All records asked for, oldest first, and whether there are older ones still.
async fn fetch(asking: &Asking<'_>, args: &TrailArgs) -> Outcome<(Vec<Shown>, bool)> {
    let did: Did = args.stream.parse()?;
    let mut target = format!("/v1/trail?did={did}");
    for (name, bound) in [("from", &args.from), ("until", &args.until)] {
        if let Some(text) = bound {
            target.push_str(&format!("&{name}={}", time::parse(text)?));
        }
    }
    let mut pages: Vec<Vec<Shown>> = Vec::new();
    let mut more = true;
    while more && pages.len() < PAGES_MAX {
        let oldest = pages.last().and_then(|page| page.first());
        let before = oldest.map_or_else(String::new, |r| format!("&before={}", r.record.n));
        let answer = asking
            .get(&format!("{target}{before}"), limits::ANSWER_BYTES_MAX)
            .await?;
        let page: Page = answer.json()?;
        more = page.more && !page.records.is_empty();
        pages.push(page.records);
    }
    Ok((pages.into_iter().rev().flatten().collect(), more))
}

fn table(records: &[Shown]) -> Outcome<()> {
    let head = [
        "ASKED", "WHO", "WHAT", "FROM", "UNTIL", "LEADS", "OUTCOME", "ROWS",
    ];
    table::show(false, records, &head, |shown| {
        let deed = &shown.record.deed;
        let asked = i64::try_from(deed.time_ms).ok();
        let asked = asked.and_then(|ms| ms.checked_mul(1_000_000));
        let name = shown.name.clone().filter(|name| !name.is_empty());
        let leads = deed
            .leads
            .clone()
            .map_or_else(|| "all".to_owned(), |leads| table::names(leads, NOTHING));
        vec![
            table::moment(asked),
            name.unwrap_or_else(|| deed.kid.to_string()),
            deed.format.clone(),
            table::moment(deed.from_ns),
            table::moment(deed.until_ns),
            leads,
            deed.outcome.clone(),
            deed.rows
                .map_or_else(|| NOTHING.to_owned(), |n| n.to_string()),
        ]
    })
}
