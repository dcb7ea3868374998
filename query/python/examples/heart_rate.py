"""Heart rate of a verified window by neurokit2: beats of one lead.

python heart_rate.py URL KEY TRUST SESSION DID FROM UNTIL LEAD
"""

import sys
import warnings

from chordae import Client

warnings.simplefilter("ignore")
import neurokit2  # noqa: E402  (its imports warn)


def main(url: str, key: str, trust: str, session: str, did: str, from_: str, until: str, lead: str) -> None:
    with Client(url, key, trust, session) as node:
        window = node.pull(did, from_, until, leads=[lead]).require_proof()
    inside = [gap for gap in window.gaps if window.times[0] < gap.from_ns and gap.until_ns <= window.times[-1]]
    if window.rate is None or inside:
        sys.exit(f"{len(inside)} gaps, or several rates: beats over them would be invented")
    hz = window.rate[0] / window.rate[1]
    clean = neurokit2.ecg_clean(window.physical(lead), sampling_rate=hz)
    peaks = neurokit2.ecg_peaks(clean, sampling_rate=hz)[1]["ECG_R_Peaks"]
    minutes = (peaks[-1] - peaks[0]) / hz / 60
    print(f"{lead}: {len(peaks)} beats in {len(window) / hz:.1f} s, {(len(peaks) - 1) / minutes:.1f} a minute")


if __name__ == "__main__":
    main(*sys.argv[1:])
