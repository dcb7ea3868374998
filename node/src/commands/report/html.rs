//! The page of a report: one file, nothing to fetch, its picture drawn as SVG.
//!
//! Every text from outside (leads, units, names) is escaped. The signed JSON stands in the page as well,
//! without its evidence.

use std::fmt::Write as _;

use chordae_base::{Failure, Outcome, time};
use chordae_chain::report::{Cause, Figures, Kind, Place, SignedReport, SpanReport};
use serde_json::json;

/// Gaps that the page lists; the JSON has all of them.
const GAPS_SHOWN: usize = 200;
/// Width of the picture in its own units.
const WIDTH: f64 = 1000.0;
/// Nothing is drawn narrower.
const NARROWEST: f64 = 0.6;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;\
color:#1b1f24;background:#fff}h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2rem .8rem .2rem 0;\
border-bottom:1px solid #e3e6ea;vertical-align:top}code{font-size:.85em;word-break:break-all}\
.big{font-size:2rem;font-weight:600}.ok{color:#116329}.not{color:#9a6700}svg{width:100%;height:56px}\
.key span{display:inline-block;width:.9em;height:.9em;margin:0 .3em 0 1em;vertical-align:-.1em}\
@media print{body{margin:0}}";

/// `98.6 %`, or `98.1 to 98.6 %` where only bounds are known.
pub(super) fn share(figures: &Figures) -> String {
    let percent = |ppm: u32| format!("{:.3}", f64::from(ppm) / 10_000.0);
    match figures.present_ppm {
        (least, most) if least == most => format!("{} %", percent(least)),
        (least, most) => format!("{} to {} %", percent(least), percent(most)),
    }
}

/// The page.
///
/// # Errors
/// `Internal` when it cannot be written.
pub(super) fn page(signed: &SignedReport) -> Outcome<String> {
    let mut page = String::with_capacity(64 * 1024);
    fill(&mut page, signed).map_err(|_| Failure::internal("write a page"))?;
    Ok(page)
}

fn fill(page: &mut String, signed: &SignedReport) -> std::fmt::Result {
    let (report, figures) = (&signed.report, &signed.report.figures);
    writeln!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>Stream {did}: what is there</title><style>{STYLE}</style></head><body>\n\
         <h1>Stream <code>{did}</code></h1>\n<p>{} to {}</p>\n\
         <p class=\"big\">{} present</p>",
        time::show(report.from_ns),
        time::show(report.until_ns),
        share(figures),
        did = report.did,
    )?;
    if report.known_until_ns < report.until_ns {
        let until = time::show(report.known_until_ns);
        writeln!(
            page,
            "<p>Counted up to {until}: later rows could not be there yet.</p>"
        )?;
    }
    verdict(page, report)?;
    picture(page, report)?;
    gaps(page, figures)?;
    set_aside(page, report)?;
    numbers(page, figures)?;
    proof(page, signed)?;
    let embedded =
        json!({"kind": signed.kind, "report": signed.report, "signature": signed.signature});
    let embedded = embedded.to_string().replace('<', "\\u003c");
    writeln!(
        page,
        "<script type=\"application/json\" id=\"report\">{embedded}</script>\n</body></html>"
    )
}

fn verdict(page: &mut String, report: &SpanReport) -> std::fmt::Result {
    if report.proof.anchored {
        return writeln!(
            page,
            "<p class=\"ok\">Every figure on this page comes out of links and metadata that lead to the ledger \
             {}, checked against a trust file when it was made.</p>",
            escaped(&report.origin)
        );
    }
    writeln!(
        page,
        "<p class=\"not\">Not proven: nothing leads to a trusted ledger yet, or it was made without a trust \
         file.</p>"
    )
}

fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Present => "#2da44e",
        Kind::Late => "#bf8700",
        Kind::Holed => "#94c973",
    }
}

fn picture(page: &mut String, report: &SpanReport) -> std::fmt::Result {
    let from = report.from_ns;
    let length = report.until_ns.saturating_sub(from).max(1) as f64;
    let x = |ns: i64| ns.saturating_sub(from) as f64 / length * WIDTH;
    writeln!(
        page,
        "<svg viewBox=\"0 0 {WIDTH} 56\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"what is present, late and missing\">\
         <rect x=\"0\" y=\"8\" width=\"{WIDTH}\" height=\"40\" fill=\"#f1d4d4\"/>"
    )?;
    let mut bar = |from_ns: i64, until_ns: i64, fill: &str, title: &str| {
        let (a, b) = (x(from_ns), x(until_ns));
        let width = (b - a).max(NARROWEST);
        writeln!(
            page,
            "<rect x=\"{a:.2}\" y=\"8\" width=\"{width:.2}\" height=\"40\" fill=\"{fill}\"><title>{title}</title></rect>"
        )
    };
    for piece in &report.figures.band {
        let word = match piece.kind {
            Kind::Present => "present",
            Kind::Late => "came late",
            Kind::Holed => "present, with frames missing among it",
        };
        bar(piece.from_ns, piece.until_ns, colour(piece.kind), word)?;
    }
    let placed = |g: &&chordae_chain::report::Gap| g.place != Place::Inside;
    for gap in report.figures.gaps.iter().filter(placed) {
        bar(gap.from_ns, gap.until_ns, "#cf222e", gap.cause.words())?;
    }
    if report.known_until_ns < report.until_ns {
        bar(report.known_until_ns, report.until_ns, "#d0d7de", "not yet")?;
    }
    writeln!(
        page,
        "</svg>\n<p class=\"key\"><span style=\"background:#2da44e\"></span>present\
         <span style=\"background:#bf8700\"></span>late\
         <span style=\"background:#94c973\"></span>present with missing frames\
         <span style=\"background:#cf222e\"></span>missing\
         <span style=\"background:#d0d7de\"></span>not yet</p>"
    )
}

fn gaps(page: &mut String, figures: &Figures) -> std::fmt::Result {
    writeln!(page, "<h2>What is missing</h2>")?;
    if figures.gaps.is_empty() {
        return writeln!(page, "<p>Nothing.</p>");
    }
    writeln!(page, "<table><tr><th>Cause</th><th>Time in all</th></tr>")?;
    for cause in Cause::ALL {
        if let Some(lost) = figures.lost_ns.get(&cause) {
            writeln!(
                page,
                "<tr><td>{}</td><td>{}</td></tr>",
                cause.words(),
                seconds(*lost)
            )?;
        }
    }
    writeln!(
        page,
        "</table>\n<table><tr><th>From</th><th>To</th><th>Missing</th><th>Cause</th><th>Frames</th></tr>"
    )?;
    for gap in figures.gaps.iter().take(GAPS_SHOWN) {
        let place = match gap.place {
            Place::Exact => "",
            Place::Estimated => " (place estimated)",
            Place::Inside => " (somewhere inside)",
        };
        let frames = gap
            .seq
            .zip(gap.boot)
            .map_or_else(String::new, |((a, b), boot)| {
                format!("{a} to {b} of boot {boot}")
            });
        writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}{place}</td><td>{}</td><td>{frames}</td></tr>",
            time::show(gap.from_ns),
            time::show(gap.until_ns),
            seconds(gap.lost_ns),
            gap.cause.words()
        )?;
    }
    writeln!(page, "</table>")?;
    let more = figures.gaps.len().saturating_sub(GAPS_SHOWN) as u64 + figures.gaps_more;
    if more > 0 {
        writeln!(page, "<p>And {more} more.</p>")?;
    }
    Ok(())
}

/// What contradicted what is stored, or could not be stored: it explains gaps, and proves nothing.
fn set_aside(page: &mut String, report: &SpanReport) -> std::fmt::Result {
    let Some(counts) = &report.set_aside else {
        return Ok(());
    };
    writeln!(page, "<h2>What was received and set aside</h2>")?;
    if counts.is_empty() {
        return writeln!(page, "<p>Nothing, says the node.</p>");
    }
    writeln!(
        page,
        "<table><tr><th>Reason</th><th>Frames, says the node</th></tr>"
    )?;
    for (reason, count) in counts {
        writeln!(
            page,
            "<tr><td>{}</td><td>{count}</td></tr>",
            escaped(reason)
        )?;
    }
    writeln!(page, "</table>")
}

fn numbers(page: &mut String, figures: &Figures) -> std::fmt::Result {
    let counts = &figures.counts;
    writeln!(
        page,
        "<h2>What there is</h2>\n<table>\
         <tr><td>Chunks</td><td>{} ({} of them late)</td></tr>\
         <tr><td>Rows in them</td><td>{} ({} of them late)</td></tr>\
         <tr><td>Frames</td><td>{} there, {} missing between others</td></tr>\
         <tr><td>Boots of the device</td><td>{}</td></tr>",
        counts.chunks,
        counts.late_chunks,
        counts.rows,
        counts.late_rows,
        counts.frames,
        counts.missing_frames,
        counts.boots
    )?;
    for (num, den) in &figures.rates {
        let rate = f64::from(*num) / f64::from((*den).max(1));
        writeln!(
            page,
            "<tr><td>Rate</td><td>{rate} Hz ({num}/{den})</td></tr>"
        )?;
    }
    for lead in &figures.leads {
        writeln!(
            page,
            "<tr><td>Lead {}</td><td>{} codes per {}, baseline {}, {} bits, MDC {}</td></tr>",
            escaped(&lead.name),
            escaped(&lead.gain),
            escaped(&lead.unit),
            lead.baseline,
            lead.bits,
            lead.mdc
        )?;
    }
    writeln!(page, "</table>\n<h2>Time</h2>\n<table>")?;
    if let Some((least, most)) = figures.jitter_ns {
        writeln!(
            page,
            "<tr><td>Jitter of frames</td><td>{} to {}</td></tr>",
            seconds(least),
            seconds(most)
        )?;
    }
    if let Some((least, most)) = figures.offset_ns {
        writeln!(
            page,
            "<tr><td>Offsets added to the device's times</td><td>{} to {}</td></tr>",
            seconds(least),
            seconds(most)
        )?;
    }
    if let Some(behind) = figures.behind_at_most_ns {
        writeln!(
            page,
            "<tr><td>Times used, against the receiver's clock</td><td>behind by at most {}, ahead by at most \
             300 s (later ones are quarantined)</td></tr>",
            seconds(behind)
        )?;
    }
    for clock in &figures.clocks {
        let quality = serde_json::to_value(clock.quality).unwrap_or_default();
        writeln!(
            page,
            "<tr><td>Boot {}</td><td>clock {}, offset {}, {} rows from {} to {}</td></tr>",
            clock.boot,
            quality.as_str().unwrap_or_default(),
            seconds(clock.offset_ns),
            clock.rows,
            time::show(clock.from_ns),
            time::show(clock.until_ns)
        )?;
    }
    writeln!(page, "</table>")
}

fn proof(page: &mut String, signed: &SignedReport) -> std::fmt::Result {
    let report = &signed.report;
    let proof = &report.proof;
    let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let digest =
        |d: Option<chordae_base::Digest>| d.map_or_else(|| "-".to_owned(), |d| d.to_string());
    writeln!(
        page,
        "<h2>Proof</h2>\n<table>\
         <tr><td>Ledger</td><td><code>{}</code></td></tr>\
         <tr><td>Head of the chain</td><td>chunk {}: <code>{}</code></td></tr>\
         <tr><td>Entry</td><td>leaf {} of {}</td></tr>\
         <tr><td>Root</td><td><code>{}</code></td></tr>\
         <tr><td>Made</td><td>{}</td></tr>\
         <tr><td>Signed by key</td><td><code>{}</code></td></tr>\
         <tr><td>Signature</td><td><code>{}</code></td></tr>\
         <tr><td>Evidence</td><td>SHA-256 <code>{}</code></td></tr></table>",
        escaped(&report.origin),
        number(proof.anchored_to),
        digest(proof.head),
        number(proof.leaf_index),
        number(proof.tree_size),
        digest(proof.root),
        time::show(report.made_ns),
        chordae_chain::keys::key_id(&report.signer.0),
        escaped(&signed.signature),
        report.evidence
    )?;
    for remark in &report.remarks {
        writeln!(page, "<p>{}</p>", escaped(remark))?;
    }
    writeln!(
        page,
        "<p>To check: <code>chordae verify REPORT.json --trust trust.json</code> verifies the signature, leads \
         the evidence to the ledger and computes every figure again. To cite: stream, span, head, ledger and \
         leaf as above.</p>"
    )
}

/// Nanoseconds as seconds, or longer.
fn seconds(ns: i64) -> String {
    let s = ns as f64 / 1e9;
    match s.abs() {
        s_ if s_ >= 3600.0 => format!("{:.2} h", s / 3600.0),
        s_ if s_ >= 1.0 => format!("{s:.3} s"),
        _ => format!("{:.3} ms", s * 1000.0),
    }
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_cannot_become_markup() {
        assert_eq!(
            escaped("<b a='\"&\">"),
            "&lt;b a=&#39;&quot;&amp;&quot;&gt;"
        );
    }
}
