"""R01 kill -9 at random moments, R02 kill -9 at every named point of the order of truth."""

import os
import time

from conftest import BIN, CONTROL_BIN
from rig import SETTINGS, SMALL_LOG, Device, Gone, Ward, Watch, seeds
from score import Score, percentile


def cycles(ward, rng, n, most=0.5):
    """Kills and starts again n times, each well after acknowledgements came again; seconds to the first one."""
    took = []
    for _ in range(n):
        ward.first_ack(ward.counts(), every=False)
        time.sleep(rng.uniform(0, most))
        ward.house.end()
        took.append(ward.again())
    return took


def r01(seed, short):
    n = 10 if short else 200
    score, rng = Score("R01", "kill -9 at random, MQTT and ZeroMQ", seed, cycles=n), seeds(seed)
    with Ward(slot=10) as ward:
        ward.go().first_ack(ward.counts(), every=True)
        took = cycles(ward, rng, n)
        ward.judge(score)
    score.figures["restart to ready p99"] = f"{percentile(ward.ready, 99):.2f} s"
    score.figures["restart to first ack p50"] = f"{percentile(took, 50):.2f} s"
    score.figures["p99"] = f"{percentile(took, 99):.2f} s"
    # The time of a device to come back is in it, and whatever else the machine has to do.
    score.figures["load of the machine"] = f"{os.getloadavg()[1]:.1f}"
    score.demand_time(percentile(took, 99) < 2, "restart to first acknowledgement p99 under 2 s")
    score.control = control(seed)
    score.demand(score.control.startswith("lost"), "the control, which acknowledges before the append, must lose")
    return score


def control(seed):
    """The build that acknowledges before it writes, under the same kills; within five cycles it must lose."""
    rng, score = seeds(seed), Score("R01", "control", seed)
    with Ward(binary=CONTROL_BIN, slot=10) as ward:
        ward.go().first_ack(ward.counts(), every=True)
        cycles(ward, rng, 5)
        result = ward.judge(score, control=True)
    return f"lost {result['lost']} of {result['acknowledged']} in 5 cycles" if result["lost"] else "nothing lost"


def big_log(seed, short):
    """A log of 1 GiB that lies in the page cache: how long a start takes.

    Live devices and slots of an hour: nothing is sealed, so nothing is trimmed, as when the chunk store stands still.
    """
    score, n = Score("R01w", "start with a log of 1 GiB, warm", seed, cycles=5), 80
    wanted = (64 << 20) if short else (1 << 30)
    fat = ("--devices", n, "--leads", 12, "--rate", 5000, "--frame", "800ms", "--encoding", "i16le", "--precomputed",
           "--for", "30000s")
    names = [f"sim-{i + 1:04}" for i in range(n)]
    with Ward(fleet=(("fleet", "mqtt", fat),), also=names, slot=3600, wal=4 << 30) as ward:
        ward.go()
        watch, acked = Watch(), ward.devices[0].acked

        def size():
            # Room is reserved ahead; what counts is what was acknowledged: 96,000 bytes a frame.
            return acked.read_bytes().count(b"\n") * 96_000 if acked.exists() else 0

        while size() < wanted and watch() < 400:
            time.sleep(0.5)
        ward.house.end()
        have = size()
        took = []
        for _ in range(score.cycles):
            took.append(ward.again())
            ward.house.end()
        ward.house.start()
        score.figures["log"] = f"{have >> 20} MiB"
        score.figures["start to first ack"] = ", ".join(f"{t:.2f}" for t in took) + " s"
        score.demand(have >= wanted, f"a log of {wanted >> 20} MiB; it grew to {have >> 20}")
        score.demand_time(max(took) < 2, "first acknowledgement within 2 s")
        ward.judge(score)
    score.control = "as R01"
    return score


# Where each step of the order of truth shows on the disk; what is not met in a run is a failure of the row.
NAMED = {
    "a WAL write": ("write", "data/wal/*.log"),
    "b WAL sync": ("sync", "data/wal/*.log"),
    "b first frames: did in the registry": ("sync", "data/registry/"),
    "c chunk file made": ("create", ".parquet"),
    "c chunk bytes": ("write", ".parquet"),
    "c chunk sync": ("sync", ".parquet"),
    "c chunk name": ("syncdir", "data/chunks/"),
    "d link write": ("write", "data/links/"),
    "d link sync": ("sync", "data/links/"),
    "f anchor: batch in the journal": ("sync", "data/ledger.batches/"),
    "f anchor: tiles": ("rename", "data/ledger/tile/"),
    "g checkpoint": ("rename", "data/ledger/checkpoint"),
    "start: log rewritten": ("rename", "data/wal/"),
    "start: log rewritten, name": ("syncdir", "data/wal"),
}


def strike(ward, op, place, n, when, how="keep"):
    """One life: the power (or the process) ends at that operation; True if it came to it."""
    ward.disk.cut(op, place, n, when)
    reached = None
    try:
        ward.house.start()
        reached = ward.disk.wait(3)
        if not reached and ward.house.alive():
            # An orderly stop does what only a stop does.
            ward.house.process.terminate()
            reached = ward.disk.wait(5)
    except Gone:
        reached = ward.disk.wait(0)
    ward.house.end()
    ward.disk.say(f"lose {how} {n}")
    return reached


# 100 MB in frames of 96 kB: more than a segment of the log; a tenth of it is more than a small one.
FAT = ("--leads", 12, "--rate", 2000, "--frame", "2s", "--encoding", "i16le", "--max-rate", "--burst", 16, "--precomputed")
FAT_FOR, FAT_SHORT = ("--for", "2000s"), ("--for", "200s")


def trimmed(ward, rng, name, length):
    """Step e: a log is trimmed once a segment of it is full and all of it is in linked chunks."""
    ward.disk.cut("remove", "data/wal/", 1, rng.choice(["before", "after"]))
    ward.house.start()
    ward.devices.append(Device(ward.base, ward.house, name, "mqtt", *FAT, *length))
    reached = ward.disk.wait(180)
    ward.house.end()
    ward.disk.say("lose keep 0")
    return reached


def survey(ward):
    """All points that a life with a start, streaming, seals and a stop goes through."""
    ward.go().first_ack(ward.counts(), every=True)
    time.sleep(3)
    ward.house.stop()
    ward.house.start()
    time.sleep(2)
    ward.house.end()
    return ward.disk.points()


def r02(seed, short):
    score, rng = Score("R02", "kill -9 at every named point", seed), seeds(seed)
    # A life may end before its log is full: one more than are asked for.
    fat = [f"dev-fat-{n}" for n in range(1 if short else 4)]
    length, log = (FAT_SHORT, SMALL_LOG) if short else (FAT_FOR, SETTINGS)
    with Ward(on="power", slot=10, also=fat, settings=log) as ward:
        points = survey(ward)
        ours = {p: n for p, n in points.items() if not any(w in p[1] for w in ("control.sock", "keys/"))}
        # Anywhere in its place: a file there that only a new folder gets is met by no later life.
        named = list(NAMED.values())
        # Every point once, and those of the order of truth three times.
        chosen = named if short else [*ours, *named * 2]
        met = {}
        for at, (op, place) in enumerate(chosen, 1):
            if not short and at % 20 == 0:
                print(f"   R02: point {at} of {len(chosen)}", flush=True)
            often = sum(n for (o, p), n in ours.items() if o == op and place in p)
            most = max(1, min(often // 4, 40))
            # What this life does not come to, the next one does at the first occasion.
            for n in (rng.randint(1, most), 1, 1):
                score.cycles += 1
                if strike(ward, op, place, n, rng.choice(["before", "after"])):
                    met[op, place] = met.get((op, place), 0) + 1
                    break
        for name in fat:
            met["remove", "e WAL trimmed"] = met.get(("remove", "e WAL trimmed"), 0) + bool(trimmed(ward, rng, name, length))
            score.cycles += 1
        ward.house.start()
        ward.judge(score)
    for name, (op, where) in {**NAMED, "e WAL trimmed": ("remove", "e WAL")}.items():
        hits = sum(n for (o, p), n in met.items() if o == op and where in p)
        score.demand(hits >= (1 if short else 3), f"point '{name}' was struck {hits} times")
    score.figures["points"] = len({p for p, n in met.items() if n})
    score.figures["lives cut"] = sum(met.values())
    score.control = "as R05"
    return score


ROWS = {"R01": r01, "R01w": big_log, "R02": r02}

