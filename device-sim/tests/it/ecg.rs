//! The synthesis: plausible, consistent between leads, the same under the same seed.

use chordae_base::Rate;
use chordae_device_sim::ecgsyn::{Ecg, GAIN};

fn columns(leads: usize, hz: u32, seconds: usize, seed: u64) -> Vec<Vec<i32>> {
    let samples = hz as usize * seconds;
    let mut ecg = Ecg::new(leads, Rate::new(hz, 1).unwrap(), seed).unwrap();
    let codes = ecg.take(samples);
    assert_eq!(codes.len(), leads * samples);
    codes.chunks(samples).map(<[i32]>::to_vec).collect()
}

/// Places of the R waves of a lead: the greatest code of each run above half its maximum.
fn beats(codes: &[i32]) -> Vec<usize> {
    let high = codes.iter().max().unwrap() / 2;
    let mut found = Vec::new();
    let mut run: Option<usize> = None;
    for (i, code) in codes.iter().enumerate() {
        match run {
            _ if *code <= high => found.extend(run.take()),
            Some(best) if codes[best] >= *code => {}
            _ => run = Some(i),
        }
    }
    found
}

#[test]
fn the_heart_beats_once_a_second_and_never_evenly() {
    let columns = columns(2, 250, 120, 1);
    let beats = beats(&columns[1]);
    let rr: Vec<f64> = beats
        .windows(2)
        .map(|w| (w[1] - w[0]) as f64 / 250.0)
        .collect();
    let mean = rr.iter().sum::<f64>() / rr.len() as f64;
    let sd = (rr.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / rr.len() as f64).sqrt();
    assert!(
        (115..=125).contains(&beats.len()),
        "{} beats in 120 s",
        beats.len()
    );
    assert!((0.98..1.02).contains(&mean), "mean RR {mean}");
    // One beat per minute of standard deviation at 60: 1/60 s of RR.
    assert!((0.008..0.03).contains(&sd), "standard deviation of RR {sd}");
}

#[test]
fn waves_have_the_heights_of_the_table() {
    let columns = columns(12, 500, 20, 2);
    let mv = |lead: usize| {
        // After two seconds the first transient has died away.
        let settled = &columns[lead][1000..];
        let (low, high) = (settled.iter().min().unwrap(), settled.iter().max().unwrap());
        (f64::from(*low) / GAIN, f64::from(*high) / GAIN)
    };
    let (low, high) = mv(1);
    assert!(
        (0.9..1.5).contains(&high) && (-0.6..-0.05).contains(&low),
        "II {low}..{high}"
    );
    let (low, high) = mv(6);
    assert!(low < -0.6 && high < 0.6, "V1 is mostly S: {low}..{high}");
    let (low, high) = mv(3);
    assert!(low < -0.6 && high < 0.4, "aVR points down: {low}..{high}");
    let (_, high) = mv(10);
    assert!((1.1..1.9).contains(&high), "V5 {high}");
}

#[test]
fn limb_leads_obey_einthoven_and_goldberger() {
    for [i, ii, iii, avr, avl, avf] in {
        let c = columns(12, 500, 5, 3);
        (0..2500).map(move |k| [c[0][k], c[1][k], c[2][k], c[3][k], c[4][k], c[5][k]])
    } {
        assert_eq!(ii, i + iii);
        assert!((avr + avl + avf).abs() <= 2, "{avr} + {avl} + {avf}");
        assert!((2 * avr + i + ii).abs() <= 1 && (2 * avl - i + iii).abs() <= 1);
        assert!((2 * avf - ii - iii).abs() <= 1);
    }
}

#[test]
fn a_seed_is_a_signal() {
    let one = columns(12, 360, 3, 7);
    assert_eq!(one, columns(12, 360, 3, 7));
    assert_ne!(one, columns(12, 360, 3, 8));
    // Taken in pieces it is the same signal.
    let mut ecg = Ecg::new(12, Rate::new(360, 1).unwrap(), 7).unwrap();
    let (a, b) = (ecg.take(100), ecg.take(980));
    assert_eq!(a[..100], one[0][..100]);
    assert_eq!(b[..980], one[0][100..]);
    // Fewer leads are the same leads.
    assert_eq!(columns(1, 360, 3, 7)[0], one[1]);
    assert_eq!(columns(3, 360, 3, 7), one[..3]);
}

#[test]
fn only_known_sets_of_leads_are_made() {
    for leads in [0, 4, 8, 13] {
        assert!(
            Ecg::new(leads, Rate::new(500, 1).unwrap(), 0).is_err(),
            "{leads}"
        );
    }
}
