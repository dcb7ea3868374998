//! The access rule against a model so plain that it can be read at a glance: who may see which
//! (instant, lead) is written out cell by cell.

use std::collections::BTreeSet;

use chordae_base::{Did, KeyId, Span};
use chordae_chain::keys::Role;
use chordae_query::core::{
    access::{Allowed, Asker, Denied, Grant, Ground, Leads, Session, Terms, Want, decide},
    high_water::Now,
};
use proptest::prelude::*;

const PATIENT: KeyId = KeyId([1; 32]);
const OTHER: KeyId = KeyId([2; 32]);
const READER: KeyId = KeyId([3; 32]);
const D: Did = Did([7; 16]);
const E: Did = Did([8; 16]);
const LEADS: [&str; 3] = ["I", "II", "V1"];
const LATE: Now = Now {
    wall_ns: 1000,
    high_ns: 1000,
};

fn session(terms: Vec<Terms>) -> Session {
    Session {
        signer: Some(PATIENT),
        matches: true,
        revoked: false,
        terms,
    }
}

fn terms(grants: Vec<Grant>) -> Terms {
    Terms {
        patient: PATIENT,
        requester: READER,
        expires_ns: None,
        grants,
    }
}

fn asker(session: Session) -> Asker {
    Asker {
        kid: READER,
        role: Role::Requester,
        ground: Ground::Session(Some(session)),
    }
}

fn grant(from_ns: Option<i64>, until_ns: Option<i64>) -> Grant {
    Grant {
        did: D,
        from_ns,
        until_ns,
        leads: None,
    }
}

fn want(from_ns: i64, until_ns: i64) -> Want {
    Want {
        did: D,
        window: Span { from_ns, until_ns },
        leads: Leads::All,
        clip: false,
    }
}

type Cells = BTreeSet<(i64, &'static str)>;

/// Every instant of a little world, and every lead; "*" stands for leads nobody named.
fn cells(from: i64, until: i64, leads: impl Fn(&str) -> bool) -> Cells {
    let mut cells = Cells::new();
    for t in from.max(-10)..until.min(50) {
        for lead in ["I", "II", "V1", "*"] {
            if leads(lead) {
                cells.insert((t, lead));
            }
        }
    }
    cells
}

fn cells_of_grant(g: &Grant) -> Cells {
    let leads = |l: &str| {
        g.leads
            .as_ref()
            .is_none_or(|all| all.iter().any(|n| n == l))
    };
    cells(g.from_ns.unwrap_or(-10), g.until_ns.unwrap_or(50), leads)
}

fn cells_of(span: Span, leads: &Leads) -> Cells {
    let named = |l: &str| match leads {
        Leads::All => true,
        Leads::Named(names) => names.iter().any(|n| n == l),
    };
    cells(span.from_ns, span.until_ns, named)
}

fn cells_shown(allowed: &Allowed) -> Cells {
    cells_of(allowed.rows(), allowed.leads())
}

fn arb_grant() -> impl Strategy<Value = Grant> {
    let bound = || prop::option::weighted(0.8, -3i64..30);
    let leads = prop::option::of(prop::sample::subsequence(LEADS.to_vec(), 1..=3));
    (prop::bool::weighted(0.8), bound(), bound(), leads).prop_map(|(mine, from, until, leads)| {
        let leads = leads.map(|l| l.into_iter().map(str::to_owned).collect());
        Grant {
            did: if mine { D } else { E },
            from_ns: from,
            until_ns: until,
            leads,
        }
    })
}

fn arb_want() -> impl Strategy<Value = Want> {
    let leads = prop::option::weighted(0.7, prop::sample::subsequence(LEADS.to_vec(), 1..=3));
    (0i64..28, 1i64..12, leads, any::<bool>()).prop_map(|(from, len, leads, clip)| Want {
        leads: leads.map_or(Leads::All, |l| {
            Leads::Named(l.into_iter().map(str::to_owned).collect())
        }),
        clip,
        ..want(from, from + len)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30_000))]

    #[test]
    fn h08_never_a_cell_too_many_and_none_missing(
        grants in prop::collection::vec(arb_grant(), 0..4),
        want in arb_want(),
        now in -2i64..40,
    ) {
        let now = Now { wall_ns: now, high_ns: now };
        let asked = cells_of(want.window, &want.leads);
        let past = |cells: &Cells| -> Cells {
            cells.iter().filter(|(t, _)| *t <= now.wall_ns).copied().collect()
        };
        let mine: Vec<Cells> =
            grants.iter().filter(|g| g.did == D).map(cells_of_grant).collect();
        let whole = mine.iter().any(|g| asked.is_subset(g));
        let parts: Vec<Cells> =
            mine.iter().map(|g| g.intersection(&asked).copied().collect()).collect();
        match decide(&asker(session(vec![terms(grants)])), Some(PATIENT), &want, now) {
            Ok(allowed) if whole => prop_assert_eq!(cells_shown(&allowed), past(&asked)),
            Ok(allowed) => {
                prop_assert!(want.clip, "a window that no grant covers was answered");
                let shown = cells_of(allowed.window(), allowed.leads());
                prop_assert!(parts.contains(&shown), "not what one grant allows of it");
                prop_assert_eq!(cells_shown(&allowed), past(&shown));
                let span = |cells: &Cells| cells.iter().map(|c| c.0).collect::<BTreeSet<_>>().len();
                let longest = parts.iter().map(span).max();
                prop_assert_eq!(Some(span(&shown)), longest, "a longer part was allowed");
            }
            Err(Denied::Hidden) => prop_assert!(mine.is_empty()),
            Err(Denied::Exceeds(_)) => {
                prop_assert!(!mine.is_empty() && !whole);
                prop_assert!(!want.clip || parts.iter().all(BTreeSet::is_empty));
            }
            Err(Denied::SessionNotLive) => prop_assert!(false, "the session is live"),
        }
    }

    #[test]
    fn whole_pages_only_inside_the_grant(
        grant in arb_grant().prop_map(|g| Grant { did: D, leads: None, ..g }),
        want in arb_want(),
    ) {
        let want = Want { leads: Leads::All, clip: false, ..want };
        let asker = asker(session(vec![terms(vec![grant.clone()])]));
        if let Ok(allowed) = decide(&asker, Some(PATIENT), &want, LATE) {
            let wide = allowed.clone().snapped(5).window();
            let inside = |t: i64| grant.from_ns.is_none_or(|st| st <= t)
                && grant.until_ns.is_none_or(|et| t < et);
            prop_assert!((wide.from_ns..wide.until_ns).all(inside));
            prop_assert!(wide.from_ns <= want.window.from_ns);
            prop_assert!(want.window.until_ns <= wide.until_ns);
            for end in [(wide.from_ns, want.window.from_ns), (wide.until_ns, want.window.until_ns)] {
                prop_assert!(end.0 == end.1 || end.0.rem_euclid(5) == 0);
                prop_assert!((end.0 - end.1).abs() < 5);
            }
            let floor = want.window.from_ns.div_euclid(5) * 5;
            prop_assert!(!inside(floor) || wide.from_ns == floor, "a whole page was left out");
        }
    }
}

#[test]
fn one_nanosecond_outside_is_outside() {
    let asker = asker(session(vec![terms(vec![grant(Some(10), Some(20))])]));
    let ask = |from, until| decide(&asker, Some(PATIENT), &want(from, until), LATE);
    assert!(ask(10, 20).is_ok());
    assert!(
        ask(10, 10).is_ok(),
        "an empty window inside is answered, with nothing"
    );
    assert!(matches!(ask(9, 20), Err(Denied::Exceeds(_))));
    assert!(matches!(ask(10, 21), Err(Denied::Exceeds(_))));
    assert!(matches!(ask(20, 21), Err(Denied::Exceeds(_))));
}

#[test]
fn grants_do_not_add_up() {
    for until in [15, 14] {
        let grants = vec![grant(Some(10), Some(until)), grant(Some(15), Some(20))];
        let asker = asker(session(vec![terms(grants)]));
        let denied = decide(&asker, Some(PATIENT), &want(12, 18), LATE);
        assert!(matches!(denied, Err(Denied::Exceeds(g)) if g.len() == 2));
    }
}

#[test]
fn no_bound_is_no_bound() {
    let asker = asker(session(vec![terms(vec![grant(None, None)])]));
    let all = decide(&asker, Some(PATIENT), &want(i64::MIN, i64::MAX), LATE);
    let all = all.map(|a| (a.rows(), a.snapped(10).window()));
    let rows = Span {
        from_ns: i64::MIN,
        until_ns: 1001,
    };
    assert_eq!(
        all,
        Ok((
            rows,
            Span {
                from_ns: i64::MIN,
                until_ns: i64::MAX
            }
        ))
    );
}

#[test]
fn every_condition_of_the_session_counts() {
    let good = session(vec![terms(vec![grant(None, None)])]);
    let ask = |asker: &Asker, patient, now| decide(asker, patient, &want(10, 20), now);
    let fine = |session: &Session| ask(&asker(session.clone()), Some(PATIENT), LATE);
    assert!(fine(&good).is_ok(), "the positive control");

    let dead: [(&str, Session); 6] = [
        (
            "not in the log",
            Session {
                signer: None,
                ..good.clone()
            },
        ),
        (
            "altered record",
            Session {
                matches: false,
                ..good.clone()
            },
        ),
        (
            "revoked",
            Session {
                revoked: true,
                ..good.clone()
            },
        ),
        ("another requester", with(&good, |t| t.requester = OTHER)),
        (
            "another patient in the section",
            with(&good, |t| t.patient = OTHER),
        ),
        ("expired", with(&good, |t| t.expires_ns = Some(1000))),
    ];
    for (what, session) in dead {
        assert_eq!(fine(&session), Err(Denied::SessionNotLive), "{what}");
    }
    let none = Asker {
        ground: Ground::Session(None),
        ..asker(good.clone())
    };
    assert_eq!(ask(&none, Some(PATIENT), LATE), Err(Denied::SessionNotLive));

    // Whose stream it is, is asked now: an unknown stream, nobody's and another patient's look alike.
    for patient in [None, Some(OTHER)] {
        assert_eq!(
            ask(&asker(good.clone()), patient, LATE),
            Err(Denied::Hidden)
        );
    }
    // Expiry goes by the clock that never goes back.
    let expires = with(&good, |t| t.expires_ns = Some(900));
    let back = Now {
        wall_ns: 800,
        high_ns: 900,
    };
    assert_eq!(
        ask(&asker(expires), Some(PATIENT), back),
        Err(Denied::SessionNotLive)
    );
}

fn with(session: &Session, change: impl Fn(&mut Terms)) -> Session {
    let mut session = session.clone();
    session.terms.iter_mut().for_each(change);
    session
}

#[test]
fn a_patient_reads_her_own_and_an_operator_reads_nothing() {
    let own = |kid, role| Asker {
        kid,
        role,
        ground: Ground::Own,
    };
    let ask = |asker: &Asker| decide(asker, Some(PATIENT), &want(0, 2000), LATE);
    let rows = ask(&own(PATIENT, Role::Patient)).map(|a| a.rows());
    assert_eq!(
        rows,
        Ok(Span {
            from_ns: 0,
            until_ns: 1001
        }),
        "none later than now"
    );
    assert_eq!(ask(&own(OTHER, Role::Patient)), Err(Denied::Hidden));
    for role in [
        Role::Operator,
        Role::Requester,
        Role::Provider,
        Role::Auditor,
    ] {
        assert_eq!(ask(&own(PATIENT, role)), Err(Denied::Hidden), "{role:?}");
    }
}
