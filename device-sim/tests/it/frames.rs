//! Times of frames: exact, without drift, within the limits of a payload.

use chordae_base::{Rate, time::SECOND_NS, wire::ClockKind};
use chordae_device_sim::timetable::{DeviceClock, Pace, Timetable};

fn table(rate: (u32, u32), frame_ns: i64, pace: Pace) -> Timetable {
    Timetable::new(
        Rate::new(rate.0, rate.1).unwrap(),
        frame_ns,
        12,
        1_000,
        pace,
    )
    .unwrap()
}

#[test]
fn a_day_of_an_awkward_rate_has_not_drifted() {
    // 360 Hz: no sample but every ninth lies on a whole microsecond.
    let t = table((360, 1), SECOND_NS, Pace::Speed(1.0));
    assert_eq!(t.per_frame(), 360);
    assert_eq!(t.t0_ns(86_400), Ok(1_000 + 86_400 * SECOND_NS));
    // Frames of 100 ms hold 36 samples exactly.
    let t = table((360, 1), SECOND_NS / 10, Pace::Speed(1.0));
    assert_eq!(t.t0_ns(864_000), Ok(1_000 + 86_400 * SECOND_NS));
    // 1001/3 Hz: the n-th frame of 333 samples begins at floor(n * 333 * 3e9 / 1001).
    let t = table((1001, 3), SECOND_NS, Pace::Speed(1.0));
    assert_eq!(t.per_frame(), 333);
    for seq in [0_i64, 1, 2, 999, 86_400, 10_000_000] {
        let exact = i128::from(seq) * 333 * 3_000_000_000 / 1001;
        assert_eq!(t.t0_ns(seq as u64), Ok(1_000 + exact as i64), "{seq}");
    }
    assert!(t.t0_ns(u64::MAX).is_err());
}

#[test]
fn frames_are_due_when_their_last_sample_is_there() {
    let t = table((500, 1), SECOND_NS, Pace::Speed(1.0));
    assert_eq!(
        (t.due_ns(0), t.due_ns(59)),
        (Ok(1_000_000_000), Ok(60_000_000_000))
    );
    let t = table((500, 1), SECOND_NS, Pace::Speed(4.0));
    assert_eq!(
        (t.due_ns(0), t.due_ns(59)),
        (Ok(250_000_000), Ok(15_000_000_000))
    );
    assert_eq!(
        table((500, 1), SECOND_NS, Pace::Max).due_ns(1_000_000),
        Ok(0)
    );
    assert!(Pace::Speed(1.0).is_live() && !Pace::Speed(2.0).is_live() && !Pace::Max.is_live());
}

#[test]
fn a_frame_fits_a_payload_whatever_it_holds() {
    let rate = Rate::new(500, 1).unwrap();
    let fits = |ns, leads| Timetable::new(rate, ns, leads, 0, Pace::Max).is_ok();
    assert!(fits(8 * SECOND_NS, 12) && !fits(9 * SECOND_NS, 12));
    assert!(fits(60 * SECOND_NS, 1) && !fits(61 * SECOND_NS, 1));
    assert!(!fits(0, 1) && !fits(-1, 1));
    // Shorter than a sample: one sample.
    assert_eq!(table((500, 1), 1, Pace::Max).per_frame(), 1);
    let fast = Rate::new(10_000, 1).unwrap();
    assert!(Timetable::new(fast, 7 * SECOND_NS, 1, 0, Pace::Max).is_err());
}

#[test]
fn each_kind_of_clock_tells_its_own_time() {
    let start = 1_700_000_000 * SECOND_NS;
    let later = start + 20_000 * SECOND_NS;
    let says = |kind| DeviceClock::new(kind, start).says(later);
    assert_eq!(says(ClockKind::Synced), later);
    assert_eq!(says(ClockKind::Unknown), 20_000 * SECOND_NS);
    assert_eq!(
        says(ClockKind::FreeRunning),
        later - 3599 * SECOND_NS,
        "50 ppm of 20,000 s is 1 s"
    );
    let mut clock = DeviceClock::new(ClockKind::Synced, start);
    clock.jump(-2 * SECOND_NS);
    assert_eq!(
        (clock.says(later), clock.jumped_ns()),
        (later - 2 * SECOND_NS, -2 * SECOND_NS)
    );
}
