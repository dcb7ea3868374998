"""R03 power loss under a real server, R05 controls that must lose, R06 a sync that fails."""

import functools
import time

from conftest import BIN, CONTROL_BIN
from rig import NOSYNC_BIN, Gone, Ward, seeds
from score import Score


def losses(ward, rng, n, how, control=False):
    """Cuts the power n times, at a random operation or just after a random while; how often at an operation.

    A control is cut only once it has acknowledged something in that life: else it may have nothing to lose.
    """
    struck = 0
    for _ in range(n):
        try:
            if control:
                ward.again(10)
            if rng.random() < 0.8:
                ward.disk.cut("any", "-", rng.randint(1, rng.choice((3, 30, 300, 1500))), rng.choice(("before", "after")))
            if not ward.house.alive():
                ward.house.start()
            reached = ward.disk.wait(rng.uniform(0.2, 2.5))
            struck += bool(reached)
        except Gone:
            struck += bool(ward.disk.wait(0))
        if not ward.disk.wait(0):
            # The plug, at no particular operation: the disk first, then the process.
            ward.disk.cut("any", "-", 1, "before")
            ward.disk.wait(1)
        ward.house.end()
        ward.disk.say(f"lose {rng.choice(how)} {rng.getrandbits(32)}")
    ward.house.start()
    return struck


def campaign(score, binary, n, rng, how, control=False, lie=False):
    with Ward(binary=binary, on="power", slot=10) as ward:
        ward.go().first_ack(ward.counts(), every=True)
        time.sleep(1)
        ward.house.end()
        if lie:
            ward.disk.say("lie on")
        struck = losses(ward, rng, n, how, control)
        return struck, ward.judge(score, control)


def r03(seed, short):
    rng = seeds(seed)
    n, torn = (8, 5) if short else (130, 40)
    score = Score("R03", "power loss: unsynced lost or torn", seed, cycles=n + torn)
    # Now and then only a kill: what the next life reads from a cache, and builds on, must survive the loss after it.
    struck, _ = campaign(score, BIN, n, rng, ("drop", "drop", "drop", "keep"))
    more, _ = campaign(score, BIN, torn, rng, ("torn",))
    score.figures["cut at an operation"] = struck + more
    score.figures["torn"] = torn
    score.control = teeth(NOSYNC_BIN, seed)
    score.demand(score.control.startswith("lost"), "the control, which syncs nothing, must lose")
    return score


@functools.cache
def teeth(binary, seed, lie=False):
    """What five cycles do to a control."""
    try:
        _, result = campaign(Score("R05", "", seed), binary, 5, seeds(seed), ("drop",), control=True, lie=lie)
    except Gone as why:
        return f"lost everything: does not start again ({why})"
    if result["lost"]:
        return f"lost {result['lost']} of {result['acknowledged']} in 5 cycles"
    return f"nothing lost of {result['acknowledged']}"


def r05(seed, short):
    score = Score("R05", "controls lose within five cycles", seed, cycles=15)
    controls = {
        "no sync": teeth(NOSYNC_BIN, seed),
        "ack before append": teeth(CONTROL_BIN, seed),
        "disk that lies": teeth(BIN, seed, lie=True),
    }
    score.control = "; ".join(f"{name}: {said}" for name, said in controls.items())
    for name, said in controls.items():
        score.demand(said.startswith("lost"), f"{name} {said}")
    return score


def failing_syncs(score, binary, n, rng, control=False):
    """The n-th sync fails as Linux fails it; the server ends; the power goes before anything else is written."""
    with Ward(binary=binary, on="power", slot=10) as ward:
        ward.go().first_ack(ward.counts(), every=True)
        ended = 0
        for _ in range(n):
            time.sleep(rng.uniform(0, 0.3))
            place = rng.choice(("data/wal", "data/wal", "data/wal", "data/links", "data/registry"))
            ward.disk.say(f"failsync {place} {rng.randint(1, 60 if place == 'data/wal' else 3)}")
            end = time.monotonic() + 4
            while ward.house.alive() and time.monotonic() < end:
                time.sleep(0.01)
            ended += not ward.house.alive()
            if ward.house.alive():
                ward.house.end()
            ward.disk.say(f"lose drop {rng.getrandbits(32)}")
            ward.again()
        result = ward.judge(score, control)
    return ended, result


def r06(seed, short):
    n = 5 if short else 30
    score = Score("R06", "a sync fails once, then the power", seed, cycles=n)
    ended, _ = failing_syncs(score, BIN, n, seeds(seed))
    score.figures["the server ended"] = ended
    score.demand(ended >= n // 2, f"the server must end at a failed sync of its log: {ended} of {n}")
    _, result = failing_syncs(Score("R06", "", seed), CONTROL_BIN, 5, seeds(seed), control=True)
    score.control = f"lost {result['lost']} of {result['acknowledged']} in 5 cycles" if result["lost"] else "nothing lost"
    score.demand(result["lost"], "the control, which acknowledges before the append, must lose")
    return score


ROWS = {"R03": r03, "R05": r05, "R06": r06}
