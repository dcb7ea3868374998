//! Random grants and windows over HTTP, to the row: what a requester receives are the rows of the chunks
//! that a grant covers, each once, and no other. The rule alone is in access.rs, a hundred thousand times.

use axum::http::StatusCode;
use chordae_base::{
    Digest, Span,
    seams::{Entropy, fake::FakeEntropy},
    time::SECOND_NS as S,
};
use chordae_chain::session::{self, Grant, NO_INVENTORY, SectionPlain};

use crate::world::*;

const LEADS: [&str; 3] = ["I", "II", "V1"];

struct Dice(FakeEntropy);

impl Dice {
    fn roll(&self, sides: i64) -> i64 {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        i64::from(u32::from_le_bytes(bytes)) % sides
    }

    /// An instant of Ann's first two minutes, to the nanosecond at the edges of samples.
    fn instant(&self) -> i64 {
        T0 + self.roll(12) * 10 * S + self.roll(3) * S / 50 + self.roll(3) - 1
    }

    fn leads(&self) -> Option<Vec<String>> {
        let bits = self.roll(12);
        let named = LEADS.iter().enumerate().filter(|(k, _)| bits >> k & 1 == 1);
        let named: Vec<String> = named.map(|(_, l)| (*l).to_owned()).collect();
        (bits < 8 && !named.is_empty()).then_some(named)
    }

    fn grant(&self) -> Grant {
        let bound = || (self.roll(5) > 0).then(|| self.instant());
        let (st_ns, et_ns) = match (bound(), bound()) {
            (Some(a), Some(b)) => (Some(a.min(b)), Some(a.max(b) + 1)),
            open => open,
        };
        Grant {
            leads: self.leads(),
            ..grant(if self.roll(6) == 0 { BIG } else { ANNS }, st_ns, et_ns)
        }
    }
}

fn covers(g: &Grant, window: Span, leads: Option<&[String]>) -> bool {
    let all = match (&g.leads, leads) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(granted), Some(asked)) => asked.iter().all(|a| granted.contains(a)),
    };
    let from = g.st_ns.is_none_or(|st| st <= window.from_ns);
    all && g.did == ANNS && from && g.et_ns.is_none_or(|et| window.until_ns <= et)
}

/// The lines of a window, from the chunks' own rows.
fn lines(w: &World, span: Span, columns: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for stored in w.chunks.of(ANNS) {
        let place = |name: &&str| stored.meta.leads.iter().position(|l| l.name == **name);
        let places: Vec<Option<usize>> = columns.iter().map(place).collect();
        for (k, t) in stored.rows.times.iter().enumerate() {
            if span.holds(*t) && *t <= NOW {
                let code = |p: &Option<usize>| p.map(|p| stored.rows.leads[p][k]);
                let cell = |p| match code(p) {
                    None | Some(i32::MIN) => String::new(),
                    Some(code) => code.to_string(),
                };
                let cells: Vec<String> = places.iter().map(cell).collect();
                all.push((*t, stored.link.index, format!("{t},{}", cells.join(","))));
            }
        }
    }
    all.sort();
    all.into_iter().map(|row| row.2).collect()
}

#[tokio::test]
async fn not_a_row_too_many_and_none_missing() {
    let w = World::new();
    let dice = Dice(FakeEntropy::new(11));
    let (mut whole, mut clipped, mut refused) = (0, 0, 0);
    for _ in 0..40 {
        let section = |grants| SectionPlain {
            patient: w.ann.sign_public(),
            requester: w.clinician.sign_public(),
            expires_ns: None,
            purpose: String::new(),
            grants,
        };
        let grants: Vec<Grant> = (0..1 + dice.roll(4)).map(|_| dice.grant()).collect();
        let plains: Vec<_> = grants.chunks(2).map(|g| section(g.to_vec())).collect();
        let sections: Vec<_> = plains.iter().map(|p| (NO_INVENTORY, p)).collect();
        let (provider, to) = (w.provider.seal_public(), w.clinician.seal_public());
        let made = session::make_of(
            &w.ann,
            &provider.unwrap(),
            &to.unwrap(),
            &sections,
            &w.entropy,
        );
        let made = made.unwrap();
        assert_eq!(w.post(&made).await.status, StatusCode::CREATED);
        for _ in 0..8 {
            let from_ns = dice.instant();
            let until_ns = from_ns + dice.roll(3) * 7 * S + dice.roll(40) * S / 50 + 1;
            let span = Span { from_ns, until_ns };
            let leads = dice.leads();
            let clip = dice.roll(2) == 0;
            let mut target = window(ANNS, from_ns, until_ns, "&format=csv");
            if let Some(leads) = &leads {
                target += &format!("&leads={}", leads.join(","));
            }
            if clip {
                target += "&clip=true";
            }
            let got = w.get(&w.clinician, Some(Digest(made.sid)), &target).await;
            let covered = grants.iter().any(|g| covers(g, span, leads.as_deref()));
            if !got.status.is_success() {
                assert!(!covered, "refused although granted: {target} {grants:?}");
                assert!(!got.text().contains("time_ns"));
                refused += 1;
                continue;
            }
            assert!(covered || clip, "{target} {grants:?}");
            let shown = shown(&got).unwrap_or(span);
            assert!(!covered || shown == span, "cut although granted: {target}");
            let mut text = got.text().lines();
            let columns: Vec<&str> = text.next().unwrap().split(',').skip(1).collect();
            let named: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
            if covered {
                assert!(leads.as_ref().is_none_or(|l| *l == named), "{target}");
                whole += 1;
            } else {
                let part = |g: &Grant| covers(g, shown, Some(&named));
                assert!(
                    grants.iter().any(part),
                    "{target} {grants:?}: {shown:?} {named:?}"
                );
                clipped += 1;
            }
            let text: Vec<&str> = text.collect();
            assert_eq!(text, lines(&w, shown, &columns), "{target} {grants:?}");
        }
    }
    // The control: all three kinds were met, so none of these checks was idle.
    assert!(
        whole > 40 && clipped > 10 && refused > 40,
        "{whole} {clipped} {refused}"
    );
}

/// The window that was answered, where it is another than the one asked for.
fn shown(got: &Answer) -> Option<Span> {
    let said = got.header("chordae-window");
    let (from, until) = said.split_once(", ")?;
    let number = |text: &str| text.split_once('=').unwrap().1.parse().unwrap();
    Some(Span {
        from_ns: number(from),
        until_ns: number(until),
    })
}
