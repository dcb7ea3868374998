//! Whose the streams are: patients change, at a time that is past, now or to come, and no row of one may ever lie
//! in a did of another.
//!
//! What was answered holds after every death. What died before its answer holds or does not: the registry says which
//! at the next start, and then that holds.

use std::{collections::BTreeMap, sync::Arc};

use chordae::control;
use chordae_base::{Did, Failure, FailureKind, KeyId, Outcome, plan::Tenure, time::SECOND_NS};
use chordae_storage::registry::Registry;

use crate::{
    dice::Dice,
    drive::{Life, died},
    fleet::Fleet,
    trace::Trace,
};

/// Tenures that a stream gets at most: one changes hands a few times, not at every turn.
const TENURES_MAX: usize = 6;

/// A stream, as those know it who assigned it.
#[derive(Default)]
struct Ward {
    /// From the beginning of time; none before the stream is known.
    first: Option<Did>,
    tenures: Vec<Tenure>,
    patients: BTreeMap<Did, KeyId>,
    /// Asked for, and no word of it.
    asked: Option<(Tenure, KeyId)>,
}

/// See the module.
pub(crate) struct Wards {
    /// Of its own, so that what else a seed does stays as it is.
    dice: Dice,
    /// Whether streams change hands under this seed.
    moves: bool,
    /// The negative control: those who assigned it meant so much earlier, as if the house changed over late.
    meant_ns: i64,
    streams: Vec<Ward>,
    /// How often one did.
    pub(crate) changes: u64,
}

impl Wards {
    /// Of so many streams, under this seed; `late`: the negative control.
    pub(crate) fn new(seed: u64, streams: usize, late: bool) -> Self {
        let mut dice = Dice::new(seed ^ 0x7761_7264);
        Self {
            moves: dice.one_in(2),
            dice,
            meant_ns: if late { 3 * SECOND_NS } else { 0 },
            streams: (0..streams).map(|_| Ward::default()).collect(),
            changes: 0,
        }
    }

    /// At a start: what was answered is there, and nothing else but what was asked for.
    ///
    /// # Errors
    /// `Internal` when it is not so; those of the registry.
    pub(crate) fn introduce(
        &mut self,
        registry: &Registry,
        fleet: &Fleet,
        ann: KeyId,
    ) -> Outcome<()> {
        for (ward, stream) in self.streams.iter_mut().zip(&fleet.streams) {
            let plan = registry.open_stream(&stream.key)?;
            let wrong = |what: &str| Failure::internal(format!("{}: {what}: {plan:?}", stream.key));
            if ward.first.is_some_and(|first| first != plan.first) {
                return Err(wrong("it was given another did"));
            }
            ward.first = Some(plan.first);
            let known = plan.tenures.get(..ward.tenures.len());
            if known != Some(ward.tenures.as_slice()) {
                return Err(wrong("an assignment that was answered is gone"));
            }
            let asked = ward.asked.take();
            match (plan.tenures.get(ward.tenures.len()..), asked) {
                (Some([]), _) => {}
                (Some([one]), Some((tenure, patient))) if *one == tenure => {
                    ward.tenures.push(tenure);
                    ward.patients.insert(tenure.did, patient);
                }
                _ => return Err(wrong("nobody assigned it so")),
            }
            if registry.patient_of(&plan.first).is_none() {
                registry.set_patient(plan.first, ann)?;
            }
            ward.patients.insert(plan.first, ann);
            for (did, patient) in &ward.patients {
                if registry.patient_of(did) != Some(*patient) {
                    return Err(wrong("a patient that was answered is not that of the did"));
                }
            }
        }
        Ok(())
    }

    /// Whether somebody wishes to assign a stream in this turn.
    pub(crate) fn wishes(&mut self) -> bool {
        self.moves && self.dice.one_in(4)
    }

    /// A stream is given to one of the patients, from some time on.
    ///
    /// # Errors
    /// What the house failed with.
    pub(crate) fn assign(
        &mut self,
        life: &Life,
        fleet: &Fleet,
        patients: [KeyId; 2],
        now_ns: i64,
        trace: &Trace,
    ) -> Outcome<()> {
        let n = usize::try_from(self.dice.below(self.streams.len() as u64)).unwrap_or(0);
        let patient = self.dice.pick(&patients);
        let from_ns = match self.dice.below(5) {
            0 => now_ns,
            1 => now_ns.saturating_add(self.dice.below(90) as i64 * SECOND_NS),
            2 => now_ns.saturating_sub(self.dice.below(600) as i64 * SECOND_NS),
            _ => now_ns.saturating_sub(self.dice.below(20_000) as i64 * 1_000_000),
        };
        let (Some(ward), Some(stream), Some(patient)) =
            (self.streams.get_mut(n), fleet.streams.get(n), patient)
        else {
            return Ok(());
        };
        if ward.asked.is_some() || ward.tenures.len() >= TENURES_MAX {
            return Ok(());
        }
        let registry = &life.house.registry;
        let tenure = Tenure {
            from_ns,
            did: registry.fresh_did(),
        };
        ward.asked = Some((tenure, patient));
        let (key, feed) = (&stream.key, &life.house.feed);
        let given = life.baton.attempt(|| {
            control::give(
                &Arc::clone(registry),
                feed,
                key,
                patient,
                tenure.did,
                || Ok(from_ns),
            )
        });
        let (_, did) = match given.unwrap_or_else(|| Err(died())) {
            // Sealed rows, or a tenure that begins later, stand in the way: it has not happened.
            Err(failure) if failure.kind == FailureKind::Refused => {
                ward.asked = None;
                return Ok(());
            }
            given => given?,
        };
        ward.asked = None;
        if did == tenure.did {
            ward.tenures.push(tenure);
            ward.patients.insert(did, patient);
            self.changes += 1;
        }
        trace.note(
            "assigned",
            &did.to_string(),
            n as u64,
            from_ns.cast_unsigned(),
        );
        Ok(())
    }

    /// Whether a row of this stream at this time may lie in this did.
    pub(crate) fn holds(&self, did: &Did, stream: usize, time: i64) -> bool {
        let Some(ward) = self.streams.get(stream) else {
            return false;
        };
        let said = ward
            .tenures
            .iter()
            .rev()
            .find(|t| t.from_ns.saturating_sub(self.meant_ns) <= time)
            .map(|t| t.did)
            .or(ward.first);
        let asked = ward
            .asked
            .is_some_and(|(t, _)| t.did == *did && t.from_ns <= time);
        said == Some(*did) || asked
    }
}
