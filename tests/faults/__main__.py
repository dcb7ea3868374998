"""`./faults`: the campaign. Prints the seed first, then a line per row, then the scorecard."""

import argparse
import json
import os
import pathlib
import platform
import random
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import rig  # noqa: E402  (finds the tests' own modules)
import asked  # noqa: E402
import clock  # noqa: E402
import disk  # noqa: E402
import kill  # noqa: E402
import load  # noqa: E402
import net  # noqa: E402
import power  # noqa: E402
import rust  # noqa: E402
import soak  # noqa: E402
from score import Score, Watch, table  # noqa: E402

ROWS = {}
for part in (kill, power, rust, disk, net, clock, load, soak, asked):
    ROWS |= part.ROWS
# What the short form leaves out: a log of 1 GiB.
LONG = ("R01w",)
# Rows that run side by side, each lane in order: most of what they do is wait. Those that measure times, or memory and
# descriptors over a long time, run alone, after them.
LANES = (("R03", "R05"), ("R02", "R06", "R07"), ("R08", "R15", "R17", "R09q"), ("R04", "R09", "R10", "R11", "R12"))
SHORT_LANES = (("R03", "R05", "R16"), ("R02",), ("R08", "R15", "R17", "R09q", "R06"),
               ("R04", "R09", "R10", "R11", "R12", "R18", "R07"))


def run(row, args):
    """One row; whatever goes wrong with it is told in its score."""
    print(f"== {row} (repeat: ./faults {'--short ' if args.short else ''}--seed {args.seed} {row})", flush=True)
    watch = Watch()
    try:
        score = ROWS[row](args.seed, args.short)
        [score] = score if isinstance(score, list) else [score]
    except Exception as why:
        traceback.print_exc()
        score = Score(row, "broke off", args.seed)
        score.demand(False, f"{type(why).__name__}: {why}")
    score.seconds = watch()
    print(table([score]), flush=True)
    return score


def main():
    ask = argparse.ArgumentParser(prog="./faults", description="Breaks real servers, and counts what is lost.")
    ask.add_argument("--short", action="store_true", help="a few cycles of each, about three minutes")
    ask.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    ask.add_argument("--json", type=pathlib.Path, help="the scorecard, also as this file")
    ask.add_argument("rows", nargs="*", metavar="ROW", help=f"of {' '.join(sorted(ROWS))}; all of them if none is named")
    args = ask.parse_args()
    rows = args.rows or [r for r in sorted(ROWS) if not (args.short and r in LONG)]
    if unknown := [r for r in rows if r not in ROWS]:
        ask.error(f"no row {', '.join(unknown)}")
    print(f"seed {args.seed}", flush=True)
    Score.judge_times = not args.short
    watch = Watch()
    lanes = [[row for row in lane if row in rows] for lane in (SHORT_LANES if args.short else LANES)]
    with ThreadPoolExecutor(len(lanes)) as pool:
        scores = sum(pool.map(lambda lane: [run(row, args) for row in lane], lanes), [])
    print(f"side by side: {watch():.0f} s", flush=True)
    scores += [run(row, args) for row in rows if row not in sum(lanes, [])]
    scores.sort(key=lambda s: s.row)
    where = f"{rig.BIN.parent.name} build, {platform.release()}, {os.cpu_count()} cores, load {os.getloadavg()[2]:.1f}"
    print(f"\nfaults, seed {args.seed}, {where}\n" + table(scores, total=True), flush=True)
    if args.json:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
        args.json.write_text(json.dumps({"seed": args.seed, "commit": commit, "kernel": platform.release(),
                                         "rows": [s.line() for s in scores]}, indent=1) + "\n")
    return 0 if all(s.ok for s in scores) else 1


if __name__ == "__main__":
    sys.exit(main())
