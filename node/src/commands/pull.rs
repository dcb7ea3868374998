//! `chordae pull`: fetches a window and its proof, verifies, and only then writes the file.

use std::{borrow::Cow, fs, path::Path};

use chordae_base::{
    Did, Failure, Outcome, Span,
    seams::{Clock, real},
    time,
    time::SECOND_NS,
    wire::Lead,
};
use chordae_chain::{
    bundle::{self, AnswerRows, Asked, BundleVerdict, ProofBundle},
    finding::{Code, Finding},
    keys::SecretKeys,
    meta::ChunkMeta,
};
use chordae_query::formats::{self, Format};
use hyper::header::LINK;

use super::{
    say,
    session::{Far, ask, far},
};
use crate::{Verdict, cli, client::Answer, keyfile};

mod strip;

/// How far the server's clock may lie behind ours before an answer up to its now counts as cut short.
const CLOCK_SKEW_NS: i64 = 60 * SECOND_NS;

/// What was pulled: the bytes, their proof, and the judgement.
pub(crate) struct Pulled {
    /// The answer as it came.
    pub(crate) answer: bytes::Bytes,
    /// Rows of the answer.
    pub(crate) rows: usize,
    /// And its leads.
    pub(crate) leads: usize,
    /// The window that it covers.
    pub(crate) window: Span,
    /// Its proof.
    pub(crate) bundle: ProofBundle,
    /// How far it is proven.
    pub(crate) judgement: BundleVerdict,
}

/// One pull.
pub(crate) struct Wanted<'a> {
    pub(crate) keys: &'a SecretKeys,
    pub(crate) session: Option<&'a str>,
    pub(crate) did: Did,
    pub(crate) window: Span,
    pub(crate) leads: Option<&'a [String]>,
    pub(crate) snap: bool,
    pub(crate) format: Format,
}

pub(super) async fn run(args: &cli::PullArgs) -> Outcome<Verdict> {
    let far = far(&args.server, args.trust.as_deref())?;
    let keys = keyfile::read(&args.key)?;
    let window = Span {
        from_ns: time::parse(&args.from)?,
        until_ns: time::parse(&args.until)?,
    };
    let wanted = Wanted {
        keys: &keys,
        session: args.session.as_deref(),
        did: args.stream.parse()?,
        window,
        leads: args.leads.as_deref(),
        snap: !args.no_snap,
        format: match args.format {
            // A strip carries its rows as the verifier in it reads them.
            cli::FormatArg::Arrow | cli::FormatArg::Html => Format::Arrow,
            cli::FormatArg::Parquet => Format::Parquet,
            cli::FormatArg::Csv => Format::Csv,
            cli::FormatArg::Json => Format::Json,
            cli::FormatArg::Fhir => Format::Fhir,
            cli::FormatArg::Wfdb => Format::Wfdb,
            cli::FormatArg::Edf => Format::Edf,
        },
    };
    let html = args.format == cli::FormatArg::Html;
    if html {
        strip::allowed(window)?;
    }
    // The trust file in a server's own folder names the origin for the token; it proves nothing.
    let pulled = fetch(&far, &wanted, args.trust.is_some()).await?;
    if args.trust.is_none() {
        say(
            "note: without --trust nothing is proven beyond the answer's agreement with its own proof",
        );
    }
    if let Some(path) = &args.proof {
        replace(path, pulled.bundle.to_json()?.as_bytes())?;
    }
    let file = match html {
        true => strip::page(&wanted, &pulled, &far.trust)?
            .into_bytes()
            .into(),
        false => Cow::from(&pulled.answer[..]),
    };
    report(&args.out, &file, &pulled)
}

/// Writes the file, unless something is wrong, and says what is proven.
fn report(out: &Path, file: &[u8], pulled: &Pulled) -> Outcome<Verdict> {
    let judgement = &pulled.judgement;
    if judgement.verdict == bundle::Verdict::Damaged {
        for finding in &judgement.findings {
            say(format!(
                "TAMPERED {} {}: {}",
                finding.object, finding.code, finding.detail
            ));
        }
        return Err(Failure::damaged(format!(
            "the answer does not match its proof ({} findings); nothing was written",
            judgement.findings.len()
        )));
    }
    replace(out, file)?;
    say(format!(
        "{}  {} rows  [{}, {})",
        out.display(),
        pulled.rows,
        time::show(pulled.window.from_ns),
        time::show(pulled.window.until_ns)
    ));
    for index in &judgement.newer {
        say(format!(
            "newer: chunk {index} of this window was linked after the answer; pull again"
        ));
    }
    if judgement.unproven_rows > 0 {
        say(format!(
            "unproven: {} rows lie in pages that the window cuts; leave out --no-snap, or ask for whole pages of 10 s",
            judgement.unproven_rows
        ));
    }
    match judgement.anchored_to {
        Some(index) if judgement.unproven_rows == 0 && judgement.newer.is_empty() => {
            say(format!(
                "verified: every row, anchored in the ledger up to chunk {index}"
            ));
            Ok(Verdict::Done)
        }
        Some(_) => Ok(Verdict::Unproven),
        None => {
            let why = match &judgement.lacks {
                Some(lacks) => format!("its checkpoint lacks the cosignature of {lacks}"),
                None => "not in a trusted ledger yet".to_owned(),
            };
            say(format!(
                "intact, but not anchored: {why}; pull again in a few seconds"
            ));
            Ok(Verdict::Unproven)
        }
    }
}

/// Writes beside the target and renames: a reader never sees half a file.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Outcome<()> {
    let mut tmp = path.as_os_str().to_owned();
    tmp.push(".part");
    let doing = || format!("write {}", path.display());
    fs::write(&tmp, bytes).map_err(|e| Failure::os(doing(), &e))?;
    fs::rename(&tmp, path).map_err(|e| Failure::os(doing(), &e))
}

/// The rows of an answer, read back out of its own bytes.
///
/// # Errors
/// Those of [`formats::read`] and of the checker's CSV.
pub(crate) fn rows_of(format: Format, answer: &bytes::Bytes) -> Outcome<AnswerRows> {
    match format {
        Format::Csv => chordae_checker::read_csv(answer),
        other => formats::read(other, answer),
    }
}

/// Whether an answer says of its codes what the metadata of its chunks says.
///
/// # Errors
/// Those of [`formats::check_scales`].
pub(crate) fn scales_of(
    format: Format,
    answer: &bytes::Bytes,
    bundle: &ProofBundle,
) -> Outcome<()> {
    let mut leads: Vec<Lead> = Vec::new();
    for chunk in &bundle.chunks {
        for lead in ChunkMeta::parse(&chunk.meta)?.leads {
            if leads.iter().all(|known| known.name != lead.name) {
                leads.push(lead);
            }
        }
    }
    formats::check_scales(format, answer, &leads)
}

/// Fetches and judges; writes nothing.
///
/// # Errors
/// The server's refusal, or an answer that cannot be read.
pub(crate) async fn fetch(far: &Far, wanted: &Wanted<'_>, trusted: bool) -> Outcome<Pulled> {
    let mut target = format!(
        "/v1/streams/{}/window?from={}&until={}&format={}",
        wanted.did,
        wanted.window.from_ns,
        wanted.window.until_ns,
        wanted.format.word()
    );
    if let Some(leads) = wanted.leads {
        target.push_str("&leads=");
        target.push_str(&escape(&leads.join(",")));
    }
    if wanted.snap {
        target.push_str("&snap=page");
    }
    let asked_ns = real::OsClock.wall_ns();
    let ask = async |target: &str| ask(far, wanted.keys, wanted.session, target).await;
    let answer = ask(&target).await?;
    let proof = proof_target(&answer)?;
    let text = ask(&proof).await?;
    let text =
        std::str::from_utf8(&text.body).map_err(|_| Failure::damaged("the proof is not text"))?;
    let bundle = ProofBundle::parse(text)?;
    let window = bundle.window();
    // The server may widen to whole pages, and answers nothing later than its now; it may not answer
    // something else. What it did answer is in the report and the bundle.
    let until_ns = wanted
        .window
        .until_ns
        .min(asked_ns.saturating_sub(CLOCK_SKEW_NS));
    if bundle.did != wanted.did
        || window.from_ns > wanted.window.from_ns
        || window.until_ns < until_ns
    {
        return Err(Failure::damaged(
            "the proof is not for the window that was asked for",
        ));
    }
    let rows = rows_of(wanted.format, &answer.body)?;
    let asked = Asked {
        did: Some(wanted.did),
        window: Some(window),
        leads: wanted.leads.map(<[String]>::to_vec),
    };
    let trust = trusted.then_some(&far.trust);
    let mut judgement = bundle::verify(&bundle, &rows, &asked, trust);
    if let Err(e) = scales_of(wanted.format, &answer.body, &bundle) {
        judgement.verdict = bundle::Verdict::Damaged;
        judgement.findings.push(Finding {
            object: "answer".into(),
            code: Code::Metadata,
            detail: e.why,
        });
    }
    Ok(Pulled {
        answer: answer.body,
        rows: rows.times.len(),
        leads: rows.leads.len(),
        window,
        bundle,
        judgement,
    })
}

/// The target of `Link: <...>; rel="proof"`.
fn proof_target(answer: &Answer) -> Outcome<String> {
    answer
        .headers
        .get_all(LINK)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .find(|v| v.contains("rel=\"proof\""))
        .and_then(|v| v.strip_prefix('<')?.split_once('>'))
        .map(|(target, _)| target.to_owned())
        .ok_or_else(|| Failure::damaged("the answer names no proof"))
}

/// Percent-encodes what may not stand in a query value.
fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~,".contains(&b);
    text.bytes()
        .map(|b| {
            if plain(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}
