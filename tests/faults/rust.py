"""Rows that Rust programs run: R04 the world, R09 to R12 damage at rest. Each prints `SCORE {json}` lines."""

import os
import pathlib
import subprocess

from rig import ROOT, TARGET
from score import Score, from_line

WORLD = pathlib.Path(os.environ.get("WORLD_BIN", TARGET / "chordae-world"))


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
    return ran(["R04"], [WORLD, "--seeds", 300 if short else 20000, "--from", seed % 1_000_000, "--json"], seed)


def damage(seed, short):
    rows = ["R09", "R10", "R11", "R12"]
    command = ["cargo", "test", "--locked", "--quiet", "-p", "chordae-damage", "--", "--nocapture", "--test-threads=1"]
    return ran(rows, command, seed)


ROWS = {name: row for name, row, there in (
    ("R04", r04, ROOT / "device-sim/world/Cargo.toml"),
    ("R09-R12", damage, ROOT / "tests/damage/Cargo.toml"),
) if there.exists()}
