"""A verified window in MNE: band-pass outside the gaps, which are annotated as BAD_gap.

python mne_filter.py URL KEY TRUST SESSION DID FROM UNTIL
"""

import sys

from chordae import Client


def main(url: str, key: str, trust: str, session: str, did: str, from_: str, until: str) -> None:
    with Client(url, key, trust, session) as node:
        window = node.pull(did, from_, until).require_proof()
    raw = window.to_mne(fill=0.0)
    raw.filter(0.5, 40.0, picks="ecg", skip_by_annotation="BAD_gap", verbose="error")
    good = raw.get_data(picks="ecg", reject_by_annotation="omit", verbose="error")
    peak = abs(good).max() * 1e3
    print(f"{len(raw.annotations)} gaps; {good.shape[1]} good samples; peak {peak:.3f} mV after 0.5-40 Hz")


if __name__ == "__main__":
    main(*sys.argv[1:])
