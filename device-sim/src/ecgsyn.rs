//! Synthetic ECG after ECGSYN: P. E. McSharry, G. D. Clifford, L. Tarassenko, L. A. Smith, "A
//! dynamical model for generating synthetic electrocardiogram signals", IEEE Transactions on
//! Biomedical Engineering 50(3):289-294, 2003.
//!
//! A point runs round the unit circle once per beat; each wave (P, Q, R, S, T) sits at an angle and
//! pushes the voltage as the point passes:
//!
//! ```text
//! x' = (1 - r) x - w y      y' = (1 - r) y + w x      r = sqrt(x^2 + y^2)      w = 2 pi / RR
//! z' = - sum_i a_i d_i exp(-d_i^2 / (2 b_i^2)) - (z - z0(t))     d_i = angle - angle_i
//! ```
//!
//! solved by fourth-order Runge-Kutta in steps of at most 2 ms. z0 is the respiratory baseline. What
//! is ours:
//!
//! - **Twelve leads.** I, II and V1 to V6 each have their own z on the common circle, with the wave
//!   heights of [`WAVES`]; a wave of height A mV needs a = A w / b^2. III, aVR, aVL and aVF are
//!   computed from the codes of I and II, as a cardiograph does, so III = II - I holds exactly.
//! - **A tachogram without end.** The paper's bimodal spectrum (Mayer waves at 0.1 Hz, breathing at
//!   0.25 Hz, power ratio 1/2) is drawn as cosines at stratified random frequencies with random
//!   phases, not by an inverse FFT of fixed length.
//!
//! One seed gives one signal: there is no clock in here.

use std::f64::consts::{PI, TAU};

use chordae_base::{Failure, Outcome, Rate, wire::Lead};

use crate::{dice::Dice, leads};

/// ADC codes per mV.
pub const GAIN: f64 = 1000.0;
/// Longest step of the integration, seconds.
const STEP_S: f64 = 0.002;
/// Mean heart rate and its standard deviation, beats per minute.
const BEATS: (f64, f64) = (60.0, 1.0);
/// Height of the respiratory baseline, mV, and its frequency, Hz.
const BREATH: (f64, f64) = (0.15, 0.25);
/// Peak of the converter's noise, codes.
const NOISE: f64 = 4.0;
/// Angles of P, Q, R, S, T (degrees) and their widths b (radians), as in the paper.
const ANGLES: [f64; 5] = [-70.0, -15.0, 0.0, 15.0, 100.0];
const WIDTHS: [f64; 5] = [0.25, 0.1, 0.1, 0.1, 0.4];
/// Cosines per band of the tachogram.
const COSINES: usize = 32;

/// Wave heights in mV (P, Q, R, S, T) of the eight independent leads: a healthy adult's, with the R
/// wave growing and the S wave shrinking from V1 to V6.
pub const WAVES: [(&str, [f64; 5]); 8] = [
    ("I", [0.08, -0.05, 0.70, -0.12, 0.20]),
    ("II", [0.12, -0.08, 1.20, -0.18, 0.30]),
    ("V1", [0.05, 0.00, 0.25, -0.90, -0.08]),
    ("V2", [0.06, 0.00, 0.45, -1.40, 0.35]),
    ("V3", [0.07, -0.02, 0.80, -0.90, 0.40]),
    ("V4", [0.08, -0.06, 1.40, -0.50, 0.38]),
    ("V5", [0.08, -0.09, 1.50, -0.25, 0.32]),
    ("V6", [0.08, -0.08, 1.20, -0.12, 0.24]),
];

/// A lead as it comes out: integrated, or computed from I and II.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    /// An index into [`WAVES`].
    Own(usize),
    Iii,
    Avr,
    Avl,
    Avf,
}

/// A generator of 1, 2, 3 or 12 leads.
pub struct Ecg {
    rate: Rate,
    outputs: Vec<(&'static str, Output)>,
    /// a_i of each integrated lead.
    forces: Vec<[f64; 5]>,
    heart: Heart,
    point: Point,
    t: f64,
    noise: Dice,
}

/// The state: the point on the circle and one voltage (mV) per integrated lead.
#[derive(Clone, Copy)]
struct Point {
    x: f64,
    y: f64,
    z: [f64; 8],
}

impl Ecg {
    /// A generator; `leads` is 1 (II), 2 (I, II), 3 (I, II, III) or 12.
    ///
    /// # Errors
    /// `BadInput` for another number of leads.
    pub fn new(leads: usize, rate: Rate, seed: u64) -> Outcome<Self> {
        let outputs = match leads {
            1 => vec![("II", Output::Own(1))],
            2 => vec![("I", Output::Own(0)), ("II", Output::Own(1))],
            3 => vec![
                ("I", Output::Own(0)),
                ("II", Output::Own(1)),
                ("III", Output::Iii),
            ],
            12 => twelve(),
            n => {
                return Err(Failure::bad_input(format!(
                    "{n} leads; 1, 2, 3 or 12 can be made"
                )));
            }
        };
        // Limb leads only need the first two voltages.
        let own = if leads == 12 { WAVES.len() } else { 2 };
        let w = TAU * BEATS.0 / 60.0;
        let force = |heights: &[f64; 5]| {
            let mut a = *heights;
            a.iter_mut()
                .zip(WIDTHS)
                .for_each(|(a, b)| *a *= w / (b * b));
            a
        };
        let forces = WAVES
            .iter()
            .take(own)
            .map(|(_, heights)| force(heights))
            .collect();
        Ok(Self {
            rate,
            outputs,
            forces,
            heart: Heart::new(Dice::new(seed, "tachogram")),
            // Half a turn before the R wave, where the voltage rests.
            point: Point {
                x: -1.0,
                y: 0.0,
                z: [0.0; 8],
            },
            t: 0.0,
            noise: Dice::new(seed, "noise"),
        })
    }

    /// What each lead is, in the order of the codes.
    pub fn leads(&self) -> Vec<Lead> {
        self.outputs
            .iter()
            .map(|(name, _)| Lead {
                name: (*name).to_owned(),
                mdc: leads::mdc(name),
                gain: GAIN,
                baseline: 0,
                unit: "mV".to_owned(),
                bits: 16,
            })
            .collect()
    }

    /// The next `samples` codes of every lead, lead after lead.
    pub fn take(&mut self, samples: usize) -> Vec<i32> {
        let mut columns = vec![Vec::with_capacity(samples); self.outputs.len()];
        for _ in 0..samples {
            let own = self.sample();
            for (column, (_, output)) in columns.iter_mut().zip(&self.outputs) {
                column.push(code(*output, &own));
            }
        }
        columns.concat()
    }

    /// Codes of the integrated leads now; then one sample on.
    fn sample(&mut self) -> [i32; 8] {
        let mut codes = [0; 8];
        // A byte of one throw for each lead, so that fewer leads are the same leads.
        for ((code, z), throw) in codes.iter_mut().zip(self.point.z).zip(self.noise.bytes()) {
            let noise = (f64::from(throw) / 127.5 - 1.0) * NOISE;
            *code = (z * GAIN + noise).round() as i32;
        }
        let dt = f64::from(self.rate.den()) / f64::from(self.rate.num());
        let steps = (dt / STEP_S).ceil().max(1.0);
        for _ in 0..steps as u32 {
            self.step(dt / steps);
        }
        codes
    }

    /// One step of fourth-order Runge-Kutta.
    fn step(&mut self, h: f64) {
        let w = self.heart.speed(self.t);
        let (p, t) = (self.point, self.t);
        let k1 = self.slope(&p, w, t);
        let k2 = self.slope(&p.plus(&k1, h / 2.0), w, t + h / 2.0);
        let k3 = self.slope(&p.plus(&k2, h / 2.0), w, t + h / 2.0);
        let k4 = self.slope(&p.plus(&k3, h), w, t + h);
        let sixth = h / 6.0;
        self.point = p
            .plus(&k1, sixth)
            .plus(&k2, 2.0 * sixth)
            .plus(&k3, 2.0 * sixth)
            .plus(&k4, sixth);
        self.t += h;
    }

    fn slope(&self, p: &Point, w: f64, t: f64) -> Point {
        let pull = 1.0 - p.x.hypot(p.y);
        let angle = p.y.atan2(p.x);
        let mut pushes = [0.0; 5];
        for ((push, at), b) in pushes.iter_mut().zip(ANGLES).zip(WIDTHS) {
            let d = (angle - at.to_radians() + PI).rem_euclid(TAU) - PI;
            *push = d * (-d * d / (2.0 * b * b)).exp();
        }
        let rest = BREATH.0 * (TAU * BREATH.1 * t).sin();
        let mut z = [0.0; 8];
        for ((dz, z), a) in z.iter_mut().zip(p.z).zip(&self.forces) {
            let force: f64 = a.iter().zip(pushes).map(|(a, push)| a * push).sum();
            *dz = -force - (z - rest);
        }
        Point {
            x: pull * p.x - w * p.y,
            y: pull * p.y + w * p.x,
            z,
        }
    }
}

impl Point {
    fn plus(&self, slope: &Self, h: f64) -> Self {
        let mut z = self.z;
        z.iter_mut().zip(slope.z).for_each(|(z, dz)| *z += h * dz);
        Self {
            x: self.x + h * slope.x,
            y: self.y + h * slope.y,
            z,
        }
    }
}

fn twelve() -> Vec<(&'static str, Output)> {
    let mut outputs = vec![
        ("I", Output::Own(0)),
        ("II", Output::Own(1)),
        ("III", Output::Iii),
        ("aVR", Output::Avr),
        ("aVL", Output::Avl),
        ("aVF", Output::Avf),
    ];
    outputs.extend(
        WAVES
            .iter()
            .enumerate()
            .skip(2)
            .map(|(i, (name, _))| (*name, Output::Own(i))),
    );
    outputs
}

fn code(output: Output, own: &[i32; 8]) -> i32 {
    let [one, two, ..] = *own;
    let half = |twice: i32| (f64::from(twice) / 2.0).round() as i32;
    match output {
        Output::Own(i) => own.get(i).copied().unwrap_or(0),
        Output::Iii => two - one,
        Output::Avr => half(-(one + two)),
        Output::Avl => half(2 * one - two),
        Output::Avf => half(2 * two - one),
    }
}

/// The RR intervals: beat after beat, each from the tachogram at its beginning.
struct Heart {
    /// Height (s), frequency (Hz) and phase of each cosine.
    waves: Vec<(f64, f64, f64)>,
    /// When the running beat ends, and its angular speed.
    ends: f64,
    speed: f64,
}

impl Heart {
    fn new(mut dice: Dice) -> Self {
        // A standard deviation s of the rate around m is one of 60 s / m^2 of the interval.
        let variance = (60.0 * BEATS.1 / (BEATS.0 * BEATS.0)).powi(2);
        let mut waves = Vec::with_capacity(2 * COSINES);
        for (centre, share) in [(0.1, 1.0 / 3.0), (0.25, 2.0 / 3.0)] {
            let width = 0.01;
            let density = |f: f64| (-((f - centre) / width).powi(2) / 2.0).exp();
            // One frequency in each of COSINES strata of +-3 widths.
            let band: Vec<f64> = (0..COSINES)
                .map(|i| (i as f64 + dice.unit()) / COSINES as f64)
                .map(|u| centre + (u * 6.0 - 3.0) * width)
                .collect();
            let total: f64 = band.iter().map(|f| density(*f)).sum();
            for f in band {
                // A cosine of height h has the power h^2 / 2.
                let height = (2.0 * variance * share * density(f) / total).sqrt();
                waves.push((height, f, TAU * dice.unit()));
            }
        }
        Self {
            waves,
            ends: 0.0,
            speed: TAU * BEATS.0 / 60.0,
        }
    }

    /// Angular speed at `t`, which never goes back.
    fn speed(&mut self, t: f64) -> f64 {
        if t >= self.ends {
            let swing: f64 = self
                .waves
                .iter()
                .map(|(h, f, p)| h * (TAU * f * t + p).cos())
                .sum();
            // No heart beats faster than 200 or slower than 20 to the minute in here.
            let interval = (60.0 / BEATS.0 + swing).clamp(0.3, 3.0);
            self.ends = t + interval;
            self.speed = TAU / interval;
        }
        self.speed
    }
}
