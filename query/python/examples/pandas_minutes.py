"""Minute by minute in pandas: mean, extremes and rows of each lead, and the gaps.

python pandas_minutes.py URL KEY TRUST SESSION DID FROM UNTIL
"""

import sys

from chordae import Client
from chordae.times import show


def main(url: str, key: str, trust: str, session: str, did: str, from_: str, until: str) -> None:
    with Client(url, key, trust, session) as node:
        window = node.pull(did, from_, until).require_proof()
    frame = window.to_pandas()
    for lead in window.leads:
        print(f"{lead.name} in {lead.unit}")
        print(frame[lead.name].resample("1min").agg(["mean", "min", "max", "count"]).round(3).to_string())
    for gap in window.gaps:
        print(f"gap {show(gap.from_ns)} {gap.seconds:.3f} s")
    print(f"{len(frame)} rows, {window.coverage.share:.1%} of the window is there")


if __name__ == "__main__":
    main(*sys.argv[1:])
