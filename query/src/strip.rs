//! The self-verifying strip: one page that holds an answer, its proof, a trust file and the verifier.
//!
//! ```text
//! web/dist/strip.html, with {blocks} in it     (made from query/web/viewer, committed)
//!        │    about    stream, window, leads, when it was made    JSON
//!        └──▶ trust    what it is checked by                      a trust file, without the authority for TLS
//!             proof    the proof bundle                           JSON
//!             answer   the rows                                   Arrow, base64
//! ```
//!
//! Whoever made a page may have changed all of it. [`Strip::open`] takes the blocks out again, and says whether
//! the page around them is the one that it would make.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use chordae_base::{Did, Failure, Outcome};
use serde::{Deserialize, Serialize};

const TEMPLATE: &str = include_str!("../web/dist/strip.html");
/// Where the blocks stand in the template.
const BLOCKS: &str = "{blocks}";
/// What begins the first of them.
const FIRST: &str = "<script type=\"application/json\" id=\"about\">";

/// What a strip says it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Version of the blocks: 1.
    pub v: u32,
    /// The stream.
    pub did: Did,
    /// The window that was answered.
    pub from_ns: i64,
    /// Its end.
    pub until_ns: i64,
    /// The leads that were asked for; `None` for all.
    pub leads: Option<Vec<String>>,
    /// When it was made.
    pub made_ns: i64,
}

/// What a strip carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strip {
    /// What it says of itself.
    pub about: About,
    /// Trust file, JSON.
    pub trust: String,
    /// Proof bundle, JSON.
    pub proof: String,
    /// Answer, an Arrow stream.
    pub answer: Bytes,
}

impl Strip {
    /// The whole page.
    ///
    /// # Errors
    /// `Internal` when it cannot be written.
    pub fn page(&self) -> Outcome<String> {
        let (before, after) = around()?;
        Ok([before, &self.blocks()?, after].concat())
    }

    fn blocks(&self) -> Outcome<String> {
        let about = serde_json::to_string(&self.about)
            .map_err(|e| Failure::internal(format!("write a strip: {e}")))?;
        let json = [
            ("about", about.as_str()),
            ("trust", &self.trust),
            ("proof", &self.proof),
        ];
        let mut blocks = String::new();
        for (id, text) in json {
            blocks += &block("application/json", id, &harmless(text));
        }
        let answer = BASE64_STANDARD.encode(&self.answer);
        Ok(blocks + &block("text/plain", "answer", &answer))
    }

    /// Takes the blocks out of a page; and whether the page around them is ours, of this version.
    ///
    /// # Errors
    /// `BadInput` for what has not these blocks in this order, each once.
    pub fn open(page: &str) -> Outcome<(Self, bool)> {
        let bad = |why: &str| Failure::bad_input(format!("not a strip: {why}"));
        let (before, rest) = page.split_once(FIRST).ok_or_else(|| bad("no blocks"))?;
        let (about, rest) = rest.split_once(END).ok_or_else(|| bad("about"))?;
        let mut rest = rest;
        let mut next = |media_type: &str, id: &str| {
            let (text, after) = rest.strip_prefix(&begin(media_type, id))?.split_once(END)?;
            rest = after;
            Some(text)
        };
        let trust = next("application/json", "trust").ok_or_else(|| bad("trust"))?;
        let proof = next("application/json", "proof").ok_or_else(|| bad("proof"))?;
        let answer = next("text/plain", "answer").ok_or_else(|| bad("answer"))?;
        let answer = BASE64_STANDARD.decode(answer);
        let about: About = serde_json::from_str(about).map_err(|e| bad(&format!("about: {e}")))?;
        if about.v != 1 {
            return Err(bad("of another version than 1"));
        }
        let ours = around()? == (before, rest);
        let strip = Self {
            about,
            trust: trust.to_owned(),
            proof: proof.to_owned(),
            answer: answer.map_err(|_| bad("the answer is not base64"))?.into(),
        };
        Ok((strip, ours))
    }
}

/// Whether a text may be a strip.
pub fn looks_like(text: &str) -> bool {
    text.contains(FIRST)
}

/// The template before and after its blocks.
fn around() -> Outcome<(&'static str, &'static str)> {
    let split = TEMPLATE.split_once(BLOCKS);
    split.ok_or_else(|| Failure::internal("the template of strips has no place for blocks"))
}

/// What ends a block.
const END: &str = "</script>\n";

fn begin(media_type: &str, id: &str) -> String {
    format!("<script type=\"{media_type}\" id=\"{id}\">")
}

fn block(media_type: &str, id: &str, text: &str) -> String {
    [&begin(media_type, id), text, END].concat()
}

/// JSON in which no markup can begin. In JSON, `<` stands in strings alone.
fn harmless(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;
    use sha2::{Digest, Sha256};

    use super::*;

    const EVIL: &str = "</script><!--<script>alert(1)</script>{blocks}";

    fn strip() -> Strip {
        Strip {
            about: About {
                v: 1,
                did: "81282454-5235-4f9e-9041-638cf6996e81".parse().unwrap(),
                from_ns: 1,
                until_ns: 10_000_000_001,
                leads: Some(vec!["II".into(), EVIL.into()]),
                made_ns: 2,
            },
            trust: format!("{{\"origin\":\"{EVIL}\"}}"),
            proof: "{\"v\":1}".into(),
            answer: Bytes::from_static(b"\xff\xff\xff\xff</script>"),
        }
    }

    #[test]
    fn what_is_put_in_comes_out_and_cannot_break_out() {
        let page = strip().page().unwrap();
        let (found, ours) = Strip::open(&page).unwrap();
        assert!(ours && looks_like(&page));
        assert_eq!(
            (&found.about, &found.answer),
            (&strip().about, &strip().answer)
        );
        let json: serde_json::Value = serde_json::from_str(&found.trust).unwrap();
        assert_eq!(json["origin"], EVIL);
        // The template's own, and four blocks.
        let count = |text: &str, what: &str| text.matches(what).count();
        for what in ["<script", "</script", "<!--"] {
            let blocks = if what == "<!--" { 0 } else { 4 };
            assert_eq!(count(&page, what), count(TEMPLATE, what) + blocks, "{what}");
        }
    }

    #[test]
    fn another_page_around_the_blocks_is_told_and_other_blocks_are_refused() {
        let page = strip().page().unwrap();
        let other = page.replace("Not for diagnosis", "For diagnosis");
        assert_eq!(
            Strip::open(&other).unwrap(),
            (Strip::open(&page).unwrap().0, false)
        );
        // A second block of a name, which a browser would take for the first, makes it another page.
        let twice = page.replacen("<body>", "<body><script id=\"proof\">{}</script>", 1);
        assert!(!Strip::open(&twice).unwrap().1);
        for (old, new) in [
            ("id=\"about\"", "id=\"abou\""),
            ("id=\"trust\"", "id=\"proof\""),
            ("\"v\":1,\"did\"", "\"v\":2,\"did\""),
            ("id=\"answer\">", "id=\"answer\">!"),
        ] {
            let changed = page.replacen(old, new, 1);
            assert_ne!(changed, page, "{old}");
            assert!(Strip::open(&changed).is_err(), "{old}");
        }
        assert!(Strip::open(TEMPLATE).is_err());
    }

    #[test]
    fn the_template_runs_one_script_and_loads_nothing() {
        let inside = |begin: &str, end: &str| {
            let (_, rest) = TEMPLATE.split_once(begin).unwrap();
            rest.split_once(end).unwrap().0
        };
        let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
        let policy = inside("Content-Security-Policy\" content=\"", "\"");
        let script = hash(inside("<script>", "</script>"));
        let style = hash(inside("<style>", "</style>"));
        assert_eq!(
            policy,
            format!(
                "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; \
                 base-uri 'none'; form-action 'none'"
            )
        );
        assert_eq!(TEMPLATE.matches(BLOCKS).count(), 1);
    }
}
