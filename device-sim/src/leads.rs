//! What leads are called: names that fit a birth, ISO/IEEE 11073-10101 codes, UCUM units.

use std::collections::BTreeSet;

use chordae_base::limits::LEAD_NAME_BYTES_MAX;

/// Names handed out within one birth, unique ignoring case (formats.md 2).
#[derive(Debug, Default)]
pub(crate) struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// The given text made to fit; the `n`-th lead without a usable one is `lead n+1`.
    pub(crate) fn take(&mut self, text: &str, n: usize) -> String {
        let kept: String = text
            .chars()
            .filter(|c| (*c == ' ' || c.is_ascii_graphic()) && *c != '~')
            .take(LEAD_NAME_BYTES_MAX)
            .collect();
        let kept = kept.trim();
        let base = match kept {
            "" => format!("lead {}", n + 1),
            name if name.eq_ignore_ascii_case("time") => format!("lead {}", n + 1),
            name => name.to_owned(),
        };
        let mut name = base.clone();
        let mut nth = 2;
        while !self.taken.insert(name.to_ascii_lowercase()) {
            let suffix = format!(" {nth}");
            let room = LEAD_NAME_BYTES_MAX.saturating_sub(suffix.len());
            let stem: String = base.chars().take(room).collect();
            name = format!("{}{suffix}", stem.trim_end());
            nth += 1;
        }
        name
    }
}

/// The code of a lead's electric potential (`MDC_ECG_ELEC_POTL_*`: 2 * 65536 + 256 + lead), else 0.
pub(crate) fn mdc(name: &str) -> u32 {
    const POTENTIAL: u32 = 2 * 65_536 + 256;
    let lead = match name.to_ascii_lowercase().as_str() {
        "i" => 1,
        "ii" => 2,
        "v1" => 3,
        "v2" => 4,
        "v3" => 5,
        "v4" => 6,
        "v5" => 7,
        "v6" => 8,
        "iii" => 61,
        "avr" => 62,
        "avl" => 63,
        "avf" => 64,
        _ => return 0,
    };
    POTENTIAL + lead
}

/// The UCUM unit that a WFDB header means.
pub(crate) fn ucum(unit: &str) -> String {
    match unit {
        "NU" | "" => "1",
        "mmHg" => "mm[Hg]",
        "bpm" | "pm" => "/min",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_birth_and_never_repeat() {
        let mut names = Names::default();
        assert_eq!(names.take("ECG", 0), "ECG");
        assert_eq!(names.take("ecg", 1), "ecg 2");
        assert_eq!(names.take("", 2), "lead 3");
        assert_eq!(names.take("Time", 3), "lead 4");
        assert_eq!(names.take("a lead of a long name", 4), "a lead of a long");
        assert_eq!(names.take("a lead of a long one", 5), "a lead of a lo 2");
        assert_eq!(names.take(" \u{e9}~V5 ", 6), "V5");
    }

    #[test]
    fn codes_are_those_of_the_nomenclature() {
        assert_eq!(
            (mdc("I"), mdc("iii"), mdc("AVF"), mdc("V6")),
            (131_329, 131_389, 131_392, 131_336)
        );
        assert_eq!(mdc("MLII"), 0);
    }
}
