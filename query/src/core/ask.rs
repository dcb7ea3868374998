//! What a query string asks for, read strictly: one meaning or `BadInput`, never a guess.
//!
//! Unknown and repeated parameters, empty values, times that are neither RFC 3339 nor integer
//! nanoseconds (or lie before 1970) and windows that end before they begin are refused. In `leads` a comma parts two names; a
//! comma or backslash inside a name is written with a backslash before it.

use std::collections::BTreeMap;

use chordae_base::{Failure, Outcome, Span, limits, time};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::access::Leads;

/// Everything that is not unreserved in a URI.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b',');

/// The parameters of one request, each at most once.
#[derive(Debug)]
pub struct Params(BTreeMap<&'static str, String>);

impl Params {
    /// Reads the part of a URI after `?`.
    ///
    /// # Errors
    /// `BadInput` for a name that is not in `known`, twice the same name, a missing `=`, or text that
    /// is not UTF-8.
    pub fn parse(query: Option<&str>, known: &[&'static str]) -> Outcome<Self> {
        let mut found = BTreeMap::new();
        let query = query.unwrap_or_default();
        if query.len() > limits::QUERY_BYTES_MAX {
            return Err(Failure::bad_input("the query is too long"));
        }
        for pair in query.split('&').filter(|_| !query.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            let name = known
                .iter()
                .find(|k| **k == name)
                .ok_or_else(|| Failure::bad_input(format!("unknown parameter {}", shown(&name))))?;
            if value.is_empty() {
                return Err(Failure::bad_input(format!("parameter {name} is empty")));
            }
            if found.insert(*name, value).is_some() {
                return Err(Failure::bad_input(format!(
                    "parameter {name} is given twice"
                )));
            }
        }
        Ok(Self(found))
    }

    /// A parameter's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// `from` and `until`, both required.
    ///
    /// # Errors
    /// `BadInput` when one is missing or no time, or `from > until`.
    pub fn window(&self) -> Outcome<Span> {
        let time = |name: &str| {
            let text = self.get(name);
            let text = text.ok_or_else(|| Failure::bad_input(format!("{name} is missing")))?;
            let ns = time::parse(text).map_err(|_| {
                let why = "is neither RFC 3339 nor integer nanoseconds (a + is written %2B)";
                Failure::bad_input(format!("{name} {why}"))
            })?;
            if ns < 0 {
                return Err(Failure::bad_input(format!("{name} lies before 1970")));
            }
            Ok(ns)
        };
        let span = Span {
            from_ns: time("from")?,
            until_ns: time("until")?,
        };
        if span.from_ns > span.until_ns {
            return Err(Failure::bad_input("from is later than until"));
        }
        Ok(span)
    }

    /// `leads`; absent means all.
    ///
    /// # Errors
    /// `BadInput` for an empty, overlong or repeated name, or too many.
    pub fn leads(&self) -> Outcome<Leads> {
        let Some(text) = self.get("leads") else {
            return Ok(Leads::All);
        };
        let mut names = vec![String::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let taken = match c {
                ',' => {
                    names.push(String::new());
                    continue;
                }
                '\\' => chars
                    .next()
                    .ok_or_else(|| Failure::bad_input("leads ends in a \\"))?,
                c => c,
            };
            if let Some(name) = names.last_mut() {
                name.push(taken);
            }
        }
        if names.len() > limits::LEADS_MAX {
            return Err(Failure::bad_input("more leads than a stream can have"));
        }
        for (i, name) in names.iter().enumerate() {
            let fits = (1..=limits::LEAD_NAME_BYTES_MAX).contains(&name.len());
            if !fits || names.iter().take(i).any(|n| n == name) {
                return Err(Failure::bad_input(
                    "leads holds an empty, overlong or repeated name",
                ));
            }
        }
        Ok(Leads::Named(names))
    }

    /// A flag: `true`, `false` or absent.
    ///
    /// # Errors
    /// `BadInput` for any other value.
    pub fn flag(&self, name: &str) -> Outcome<bool> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Failure::bad_input(format!("{name} is true or false"))),
        }
    }

    /// A decimal number.
    ///
    /// # Errors
    /// `BadInput` for anything but digits that fit.
    pub fn number(&self, name: &str) -> Outcome<Option<u64>> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let plain = text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|_| plain);
        number
            .map(Some)
            .ok_or_else(|| Failure::bad_input(format!("{name} is not a number")))
    }
}

/// The text of `leads` that [`Params::leads`] reads back, escaped for a URI.
pub fn leads_text(names: &[String]) -> String {
    let escape = |n: &String| n.replace('\\', "\\\\").replace(',', "\\,");
    let text: Vec<String> = names.iter().map(escape).collect();
    utf8_percent_encode(&text.join(","), ESCAPED).to_string()
}

fn decoded(text: &str) -> Outcome<String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into)
        .map_err(|_| Failure::bad_input("the query is not UTF-8"))
}

/// A name from outside, short and without control characters.
fn shown(name: &str) -> String {
    let short: String = name.chars().take(32).collect();
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["from", "until", "leads", "clip", "upto"];

    fn read(query: &str) -> Outcome<(Span, Leads)> {
        let params = Params::parse(Some(query), KNOWN)?;
        params.flag("clip")?;
        params.number("upto")?;
        Ok((params.window()?, params.leads()?))
    }

    #[test]
    fn both_spellings_of_a_time_mean_the_same() {
        let want = Span {
            from_ns: 1_700_000_000_000_000_001,
            until_ns: 1_700_000_010_000_000_000,
        };
        for query in [
            "from=1700000000000000001&until=1700000010000000000",
            "until=2023-11-14T22:13:30Z&from=2023-11-14T22:13:20.000000001Z",
            "from=2023-11-14T22%3A13%3A20.000000001%2B00:00&until=2023-11-14T22:13:30Z",
        ] {
            assert_eq!(read(query), Ok((want, Leads::All)), "{query}");
        }
    }

    #[test]
    fn one_meaning_or_none() {
        let many = vec!["from=1"; 10_000].join("&");
        for query in [
            "",
            "from=1",
            "until=1",
            "from=2&until=1",
            "from=1.5&until=2",
            "from=1e30&until=2",
            "from=-1&until=2",
            "from=&until=2",
            "from=1&until=2&from=1",
            "from=1&%66rom=1&until=2",
            "from=1&until=2&extra=1",
            "from=1&until=99999999999999999999",
            "from=1&until=2&clip=yes",
            "from=1&until=2&upto=-1",
            "from=1&until=2&upto=+1",
            "from=1&until=2&leads=I,,II",
            "from=1&until=2&leads=I,I",
            "from=1&until=2&leads=I\\",
            "from=1&until=2&leads=%ff",
            "from=1&until=2&",
            "from=yesterday&until=2",
            many.as_str(),
        ] {
            assert!(read(query).is_err(), "{query:.80} was taken");
        }
    }

    #[test]
    fn lead_names_come_back_whatever_they_hold() {
        let names: Vec<String> = ["I", "V5", "a,b", "x\\", "=1+2", "a&b", "%41", "a b"]
            .map(str::to_owned)
            .into();
        let query = format!("from=1&until=2&leads={}", leads_text(&names));
        assert_eq!(read(&query).map(|r| r.1), Ok(Leads::Named(names)));
    }
}
