"""Rows that Rust programs run: R04 the world, R09 to R12 damage at rest. Each prints `SCORE {json}` lines."""

import os
import pathlib
import subprocess

from rig import ROOT, TARGET
from score import Score, from_line

WORLD, DAMAGE = (pathlib.Path(os.environ.get(f"{name.upper()}_BIN", TARGET / f"chordae-{name}")) for name in ("world", "damage"))


def ran(rows, command, seed):
    """The scores that a command prints; those of `rows` that it does not are failures."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=ROOT)
    scores = []
    for line in (done.stdout + done.stderr).splitlines():
        at = line.find("SCORE {")
        if at >= 0:
            scores.append(from_line(line[at:]))
    for row in sorted(set(rows) - {s.row for s in scores}):
        missing = Score(row, "no word of it", seed)
        missing.demand(False, f"{command[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-300:]}")
        scores.append(missing)
    for score in scores:
        score.demand(done.returncode == 0, f"{command[0]} ended with {done.returncode}")
    return scores


def r04(seed, short):
    """The world; and its controls, which it must catch: a disk that lies about its syncs, streams that move late."""
    first = str(seed % 1_000_000_000)
    scores = ran(["R04"], [WORLD, "--seeds", 200 if short else 20000, "--from", first, "--json"], seed)
    controls = (("a disk that lies", "--lies", 5), ("streams that move late", "--late", 40))
    said = []
    for what, how, seeds in controls:
        [control] = ran(["R04"], [WORLD, "--seeds", seeds, "--from", first, how, "--json"], seed)
        caught = control.figures.get("violations", 0)
        said.append(f"{what}: caught in {caught} of {control.cycles} seeds")
        for score in scores:
            score.demand(caught, f"the control, {what}, must be caught within {seeds} seeds")
    for score in scores:
        score.control = "; ".join(said)
    return scores


def damage(row):
    """One row of chordae-damage."""
    return lambda seed, short: ran([row], [DAMAGE, *["--short"][:short], "--seed", seed, row], seed)


ROWS = {"R04": r04, **{row: damage(row) for row in ("R09", "R10", "R11", "R12")}}
