"""The scorecard: one line per row, with what it counted, what its control did, and the seed that repeats it."""

import json
import time
from dataclasses import asdict, dataclass, field
from typing import ClassVar


@dataclass
class Score:
    """What one row counted. Green only if everything asked held and the control, where one is due, failed."""

    row: str
    what: str
    seed: int
    cycles: int = 0
    acknowledged: int = 0
    stored: int = 0
    lost: int = 0
    duplicate: int = 0
    phantom: int = 0
    control: str = "-"
    figures: dict = field(default_factory=dict)
    wrong: list = field(default_factory=list)
    seconds: float = 0
    # Whether times are judged: where the campaign has the machine to itself. The short form, which ./test runs
    # anywhere, beside anything, only tells them.
    judge_times: ClassVar[bool] = True

    @property
    def ok(self):
        return not (self.wrong or self.lost or self.duplicate or self.phantom)

    def demand(self, true, why):
        """Notes what does not hold, and goes on: one row tells all that is wrong with it."""
        if not true:
            print(f"  NOT: {why}", flush=True)
            self.wrong.append(str(why))
        return true

    def demand_time(self, true, why):
        """As `demand`, of how long something took."""
        if self.judge_times:
            self.demand(true, why)
        elif not true:
            self.figures["a time over its bound, not judged here"] = why

    def add(self, result):
        """Adds what a comparison of acknowledged and stored frames found."""
        self.acknowledged += result["acknowledged"]
        self.stored += result["stored"]
        self.lost += result["lost"]
        self.duplicate += result["duplicate"]
        self.phantom += result["phantom"]
        self.wrong += result["findings"]

    def line(self):
        return {**asdict(self), "ok": self.ok}


WHAT = {"R04": "the house under one seed", "R09": "each byte of a chunk, eight bits", "R10": "each byte of the other files",
        "R11": "structural edits", "R12": "a bit flips before the anchor"}


def from_line(text):
    """A row that another program ran: `SCORE {json}`."""
    data = json.loads(text.removeprefix("SCORE "))
    known = {k: data[k] for k in ("row", "seed", "cycles", "acknowledged", "stored", "lost", "duplicate", "phantom", "control")
             if k in data}
    score = Score(what=data.get("what", WHAT.get(data["row"], "")), **known)
    score.wrong += data.get("wrong", [])
    score.figures = {k: v for k, v in data.items() if k not in asdict(score) and k != "ok"} | data.get("figures", {})
    score.demand(data.get("ok") is True, data.get("why", f"{score.row} says it is not green"))
    return score


def table(scores, total=False):
    head = f"{'row':5} {'what':34} {'cycles':>7} {'acked':>9} {'stored':>9} {'lost':>5} {'dup':>4} {'phant':>5}  control"
    lines = [head, "-" * len(head)]
    for s in scores:
        mark = "ok  " if s.ok else "FAIL"
        lines.append(f"{s.row:5} {s.what[:34]:34} {s.cycles:7} {s.acknowledged:9} {s.stored:9} {s.lost:5} "
                     f"{s.duplicate:4} {s.phantom:5}  {s.control}")
        figures = ", ".join(f"{k} {v}" for k, v in s.figures.items())
        lines.append(f"{'':5} {mark} {s.seconds:.0f} s, seed {s.seed}" + (f"; {figures}" if figures else ""))
        lines += [f"{'':10} {why}" for why in s.wrong[:5]]
    if total:
        lines.append(f"{sum(s.ok for s in scores)} of {len(scores)} rows green")
    return "\n".join(lines)


class Watch:
    """Seconds since it was made."""

    def __init__(self):
        self.began = time.monotonic()

    def __call__(self):
        return time.monotonic() - self.began


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p / 100))] if values else float("nan")
