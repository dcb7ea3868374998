"""R17 the server's clock jumps, stands still and jitters; what was acknowledged is stored, or set aside by name."""

import pathlib
import time

import checker
import stored
from rig import LIVE, Gone, Ward, seeds
from score import Score

LIBRARY = next(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
FLEET = (("dev-mqtt", "mqtt", LIVE), ("dev-zmq", "zmq", LIVE))


def r17(seed, short):
    score, rng = Score("R17", "clock jumps, freeze, jitter", seed), seeds(seed)
    if LIBRARY is None:
        score.demand(False, "libfaketime is not installed (Debian: apt-get install libfaketime)")
        return score
    with Ward(fleet=FLEET, slot=10) as ward:
        clock = ward.base / "clock"
        ward.go().first_ack(ward.counts(), every=True)
        ward.house.end()
        ward.house.env = {"LD_PRELOAD": str(LIBRARY), "DONT_FAKE_MONOTONIC": "1", "FAKETIME_NO_CACHE": "1",
                          "FAKETIME_TIMESTAMP_FILE": str(clock)}
        clock.write_text("+0\n")
        ward.again()
        stand = time.strftime("%Y-%m-%d %H:%M:%S")
        jitter = [f"{rng.uniform(-1, 1):+.3f}" for _ in range(4 if short else 30)]
        for said in ("+30d", "+0", "-3600", "+0", stand, "+0", "+299", "-299", *jitter, "+0"):
            # Whole at once: the library reads it at any moment.
            (ward.base / "next").write_text(said + "\n")
            (ward.base / "next").rename(clock)
            time.sleep(0.3 if said in jitter else 0.8 if short else 1.5)
            score.demand(ward.house.alive(), f"the server goes on at {said}")
            before = ward.counts()
            try:
                ward.first_ack(before, 20, every=True)
            except Gone as why:
                score.demand(False, f"at {said}: {why}")
            score.cycles += 1
            if said in ("+30d", "-3600"):
                # And a crash and a start under the wrong clock.
                ward.house.end()
                ward.again()
        ward.house.end()
        ward.house.env = None
        ward.again()
        for device in ward.devices:
            score.demand(device.finish() == 0, f"{device.name} has everything acknowledged")
        lines = [line for d in ward.devices for line in stored.acknowledged(d.acked)]
        streams = {s["did"]: s["stream"] for s in ward.house.streams()}
        ward.house.stop()
        compared = stored.compare(ward.house.folder, streams, lines)
        aside = {(stream, boot, seq): reason for reason, stream, boot, seq in stored.quarantined(ward.house.folder)}
        wrong = dict(compared["wrong"])
        missing = [key for key in wrong.pop("lost", []) if key not in aside]
        score.acknowledged, score.lost = compared["acknowledged"], len(missing)
        both = [key for key in aside if key not in set(compared["wrong"].get("lost", []))]
        score.stored = score.acknowledged - len(aside) - len(missing)
        score.duplicate, score.phantom = len(wrong.pop("twice", [])), len(wrong.pop("unasked", []))
        score.demand(not both, f"a frame both stored and set aside: {both[:2]}")
        score.demand(not wrong, f"{ {k: v[:2] for k, v in wrong.items()} }")
        findings = checker.check(ward.house.folder)["findings"]
        score.demand(not findings, f"checker: {findings[:2]}")
        reasons = sorted(set(aside.values()))
        score.figures["set aside"] = f"{len(aside)} ({', '.join(reasons)})"
        score.demand(aside, "a clock that is wrong by 30 days and by an hour must set frames aside")
    score.control = "as R05"
    return score


ROWS = {"R17": r17}
