//! The access rule against a model so plain that it can be read at a glance: who may see which
//! (instant, lead) is written out cell by cell.

use chordae_base::{Did, KeyId, Span};
use chordae_chain::keys::Role;
use chordae_query::core::{
    access::{Allowed, Asker, Denied, Grant, Ground, Leads, Session, Terms, Want, decide},
    high_water::Now,
};
use proptest::{prelude::*, strategy::ValueTree};

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

/// Every instant of a little world, [-10, 50), as bits; one row of them per lead. "*" stands for leads
/// that nobody named.
type Cells = [u64; 4];
const ROWS: [&str; 4] = ["I", "II", "V1", "*"];
const NONE: Cells = [0; 4];

fn cells(from: i64, until: i64, leads: impl Fn(&str) -> bool) -> Cells {
    let mut bits = 0;
    for t in from.max(-10)..until.min(50) {
        bits |= 1 << (t + 10);
    }
    ROWS.map(|lead| if leads(lead) { bits } else { 0 })
}

fn both(a: &Cells, b: &Cells) -> Cells {
    std::array::from_fn(|k| a[k] & b[k])
}

/// How many instants of it are shown, of whichever lead.
fn width(cells: &Cells) -> u32 {
    cells.iter().fold(0, |all, row| all | row).count_ones()
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

/// A request, and all that the rule knows when it decides.
#[derive(Debug, Clone)]
struct Case {
    session: Session,
    patient: Option<KeyId>,
    want: Want,
    now: Now,
}

/// Mostly what holds, now and then what does not.
fn mostly<T: Clone + std::fmt::Debug + 'static>(good: T, bad: T) -> impl Strategy<Value = T> {
    prop::bool::weighted(0.95).prop_map(move |b| if b { good.clone() } else { bad.clone() })
}

fn arb_terms() -> impl Strategy<Value = Terms> {
    (
        mostly(PATIENT, OTHER),
        prop::bool::weighted(0.8),
        prop::option::weighted(0.5, -2i64..60),
        prop::collection::vec(arb_grant(), 1..4),
    )
        .prop_map(|(patient, hers, expires_ns, grants)| Terms {
            patient,
            requester: if hers { READER } else { OTHER },
            expires_ns,
            grants,
        })
}

fn arb_case() -> impl Strategy<Value = Case> {
    let session = (
        mostly(Some(PATIENT), None),
        mostly(true, false),
        mostly(false, true),
        prop::collection::vec(arb_terms(), 1..4),
    )
        .prop_map(|(signer, matches, revoked, terms)| Session {
            signer,
            matches,
            revoked,
            terms,
        });
    let patient = mostly(Some(PATIENT), Some(OTHER));
    // The wall clock may have gone back behind the newest time seen.
    let now = (-2i64..60, prop::option::weighted(0.3, 0i64..40)).prop_map(|(high, back)| Now {
        wall_ns: high - back.unwrap_or(0),
        high_ns: high,
    });
    (session, patient, arb_want(), now).prop_map(|(session, patient, want, now)| Case {
        session,
        patient,
        want,
        now,
    })
}

/// The grants of live sections that are made out to the reader; `None`: the session does not hold.
fn model_grants(case: &Case) -> Option<Vec<&Grant>> {
    let session = &case.session;
    if session.signer.is_none() || !session.matches || session.revoked {
        return None;
    }
    let mut live = false;
    let mut grants = Vec::new();
    for terms in &session.terms {
        let expired = terms.expires_ns.is_some_and(|end| end <= case.now.high_ns);
        if terms.requester == READER && terms.patient == PATIENT && !expired {
            live = true;
            grants.extend(terms.grants.iter().filter(|g| g.did == D));
        }
    }
    live.then_some(grants)
}

/// Whether the decision is the model's: not a cell too many, and none missing.
fn judge(case: &Case, decision: &Result<Allowed, Denied>) -> Result<(), &'static str> {
    let check = |good: bool, why| if good { Ok(()) } else { Err(why) };
    let Some(grants) = model_grants(case) else {
        return check(
            decision == &Err(Denied::SessionNotLive),
            "the session does not hold",
        );
    };
    if case.patient != Some(PATIENT) || grants.is_empty() {
        return check(
            decision == &Err(Denied::Hidden),
            "the stream is not for her to know of",
        );
    }
    let asked = cells_of(case.want.window, &case.want.leads);
    let past = cells(-10, case.now.wall_ns + 1, |_| true);
    let mine: Vec<Cells> = grants.iter().map(|g| cells_of_grant(g)).collect();
    let whole = mine.iter().any(|g| both(&asked, g) == asked);
    let parts: Vec<Cells> = mine.iter().map(|g| both(g, &asked)).collect();
    match decision {
        Ok(allowed) if whole => check(
            cells_shown(allowed) == both(&asked, &past),
            "not what was asked for",
        ),
        Ok(allowed) => {
            check(case.want.clip, "a window that no grant covers was answered")?;
            let shown = cells_of(allowed.window(), allowed.leads());
            check(parts.contains(&shown), "not what one grant allows of it")?;
            check(
                cells_shown(allowed) == both(&shown, &past),
                "later than now",
            )?;
            let longest = parts.iter().map(width).max();
            check(longest == Some(width(&shown)), "a longer part was allowed")
        }
        Err(Denied::Exceeds(named)) => {
            let named: Vec<&Grant> = named.iter().collect();
            check(
                !whole && named == grants,
                "refused, or told, what it must not be",
            )?;
            let nothing = parts.iter().all(|p| *p == NONE);
            check(!case.want.clip || nothing, "a part was allowed")
        }
        Err(_) => Err("refused although a grant names the stream"),
    }
}

fn decision(case: &Case) -> Result<Allowed, Denied> {
    let asker = asker(case.session.clone());
    decide(&asker, case.patient, &case.want, case.now)
}

/// The control: rules that are wrong in one place each are found out by the model, within a few cases.
#[test]
fn a_rule_that_is_wrong_in_one_place_is_found_out() {
    type Wrong = fn(&mut Case);
    fn grants(case: &mut Case, change: fn(&mut Grant)) {
        let terms = case.session.terms.iter_mut();
        terms.flat_map(|t| &mut t.grants).for_each(change);
    }
    let wrong: [(&str, Wrong); 10] = [
        ("revocation ignored", |c| c.session.revoked = false),
        ("alteration ignored", |c| c.session.matches = true),
        ("expiry by a clock that goes back", |c| {
            c.now.high_ns = c.now.wall_ns
        }),
        ("rows later than now", |c| c.now.wall_ns += 1),
        ("whose stream it is ignored", |c| c.patient = Some(PATIENT)),
        ("made out to anybody", |c| {
            c.session
                .terms
                .iter_mut()
                .for_each(|t| t.requester = READER);
        }),
        ("one instant more", |c| {
            grants(c, |g| g.until_ns = g.until_ns.map(|t| t + 1));
        }),
        ("one instant earlier", |c| {
            grants(c, |g| g.from_ns = g.from_ns.map(|t| t - 1));
        }),
        ("all leads", |c| grants(c, |g| g.leads = None)),
        ("another stream's grant", |c| grants(c, |g| g.did = D)),
    ];
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut found = [0; 10];
    for _ in 0..4000 {
        let case = arb_case().new_tree(&mut runner).unwrap().current();
        assert_eq!(judge(&case, &decision(&case)), Ok(()));
        for ((_, change), found) in wrong.iter().zip(&mut found) {
            let mut twisted = case.clone();
            change(&mut twisted);
            *found += u32::from(judge(&case, &decision(&twisted)).is_err());
        }
    }
    for ((what, _), found) in wrong.iter().zip(found) {
        assert!(found > 0, "{what}: not found in 4000 cases");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn h08_never_a_cell_too_many_and_none_missing(case in arb_case()) {
        prop_assert_eq!(judge(&case, &decision(&case)), Ok(()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30_000))]

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
