"""A verified window as a WFDB record (format 16, gaps as invalid samples), read back by wfdb-python.

python wfdb_record.py URL KEY TRUST SESSION DID FROM UNTIL NAME
"""

import datetime
import sys

import numpy as np
import wfdb

from chordae import NO_VALUE, Client

INVALID = -32768  # of format 16


def main(url: str, key: str, trust: str, session: str, did: str, from_: str, until: str, name: str) -> None:
    with Client(url, key, trust, session) as node:
        window = node.pull(did, from_, until).require_proof()
    if window.rate is None:
        sys.exit("the rate changes inside the window: ask for a part of it")
    places, size = window.grid()
    signal = np.full((size, len(window.leads)), INVALID, np.int64)
    codes = window.to_numpy("codes").astype(np.int64)
    signal[places] = np.where(codes == NO_VALUE, INVALID, codes)
    start = datetime.datetime.fromtimestamp(int(window.times[0]) / 1e9, datetime.UTC)
    wfdb.wrsamp(
        name,
        fs=window.rate[0] / window.rate[1],
        units=[lead.unit for lead in window.leads],
        sig_name=[lead.name for lead in window.leads],
        d_signal=signal,
        fmt=["16"] * len(window.leads),
        adc_gain=[lead.gain for lead in window.leads],
        baseline=[lead.baseline for lead in window.leads],
        base_time=start.time(),
        base_date=start.date(),
        comments=[f"chordae {window.did} [{window.from_ns}, {window.until_ns}) {window.integrity.value}"],
    )
    record = wfdb.rdrecord(name)
    print(f"{name}.hea: {record.sig_len} samples of {', '.join(record.sig_name)} at {record.fs:g} Hz")


if __name__ == "__main__":
    main(*sys.argv[1:])
