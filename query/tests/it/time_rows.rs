//! Rows T02, T04 and T05 of the list of bad inputs, as readers meet them: clocks that jump, windows at their
//! edges, and a clock that is set while somebody asks for everything until now.

use axum::http::StatusCode;
use chordae_base::time::SECOND_NS as S;

use crate::world::{ANNS, NOW, SLOT, T0, World, window};

/// Times and codes of a CSV answer, line by line.
async fn lines(w: &World, from: i64, until: i64) -> Vec<String> {
    let got = w
        .get(
            &w.ann,
            None,
            &window(ANNS, from, until, "&format=csv&leads=I"),
        )
        .await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.text());
    got.text().lines().skip(1).map(str::to_owned).collect()
}

fn time(line: &str) -> i64 {
    line.split(',').next().unwrap().parse().unwrap()
}

/// T02: after a jump back no token that had expired is good again; after a jump ahead none is good for ever.
#[tokio::test]
async fn t02_a_token_that_has_expired_stays_expired_when_the_clock_goes_back() {
    let w = World::new();
    let target = window(ANNS, T0, T0 + S, "&format=csv");
    let now_s = NOW / S;
    let mut claims = w.claims(None, &target);
    (claims.iat, claims.exp) = (now_s, now_s + 60);
    let token = chordae_chain::token::sign(&claims, &w.ann).unwrap();
    // An hour ahead, told by a request that is answered; then back to the hour of the token.
    w.clock.set_wall(NOW + 3600 * S);
    let later = w.get(&w.ann, None, &target).await;
    assert_eq!(later.status, StatusCode::OK);
    w.clock.set_wall(NOW + S);
    assert_eq!(
        w.get_with(&target, &token).await.status,
        StatusCode::UNAUTHORIZED
    );
    // The control: the same token, had the clock not jumped.
    let w = World::new();
    let token = chordae_chain::token::sign(&claims, &w.ann).unwrap();
    assert_eq!(w.get_with(&target, &token).await.status, StatusCode::OK);
}

/// T04: half-open to the nanosecond: no time holds nothing, one nanosecond holds the sample that begins it, and
/// two windows that meet on a sample share none and lose none.
#[tokio::test]
async fn t04_windows_are_half_open_to_the_nanosecond() {
    let w = World::new();
    assert_eq!(lines(&w, T0, T0).await.len(), 0, "no time, no row");
    let target = window(ANNS, T0, T0 - 1, "&format=csv");
    let got = w.get(&w.ann, None, &target).await;
    assert_eq!(got.status, StatusCode::BAD_REQUEST, "{}", got.text());
    let edge = T0 + SLOT;
    assert_eq!(
        lines(&w, edge, edge + 1).await.len(),
        1,
        "on the sample and on the slot"
    );
    assert_eq!(lines(&w, edge + 1, edge + 2).await.len(), 0);
    assert_eq!(lines(&w, edge - 1, edge).await.len(), 0);
    let whole = lines(&w, T0 + 50 * S, T0 + 70 * S).await;
    for cut in [edge - 1, edge, edge + 1, edge + 20_000_000] {
        let mut parts = lines(&w, T0 + 50 * S, cut).await;
        parts.extend(lines(&w, cut, T0 + 70 * S).await);
        assert_eq!(parts, whole, "cut at {cut}");
    }
}

/// T05: whatever the clock does while somebody asks for everything until now, each answer is the beginning of
/// the final one, and nothing in it is later than the clock said.
#[tokio::test]
async fn t05_until_now_under_a_stepping_clock_is_a_beginning_of_the_final_answer() {
    let w = World::new();
    let all = T0 + 3 * SLOT;
    let mut answers = Vec::new();
    for step in [0, 5, -10, 20, -1, 40] {
        let wall = NOW + step * S;
        w.clock.set_wall(wall);
        let got = lines(&w, T0 + SLOT, all).await;
        assert!(
            got.iter().all(|l| time(l) <= wall),
            "a row of the future at {step}"
        );
        answers.push(got);
    }
    let longest = answers.iter().max_by_key(|a| a.len()).unwrap();
    assert_eq!(
        time(longest.last().unwrap()),
        all - S / 50,
        "all of it, once it is past"
    );
    for answer in &answers {
        assert!(longest.starts_with(answer), "{} rows", answer.len());
    }
    let lens: std::collections::BTreeSet<usize> = answers.iter().map(Vec::len).collect();
    assert!(lens.len() > 3, "the steps were seen: {lens:?}");
}
