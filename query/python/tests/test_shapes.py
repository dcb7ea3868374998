"""What tools are given: units, no value, gaps, times."""

from recorded import HERE, golden  # noqa: F401

import dataclasses
import datetime

import numpy as np
import pytest

from chordae import NO_VALUE, BadInput, Gap, Lead, answer, verify
from chordae.times import show, to_ns
from chordae.window import find_gaps

START = 1_700_000_000 * 10**9


def window(golden, times, codes, rate=(100, 1), **more):
    """A window of one or more leads, gain 200 per mV and baseline 100, with these rows."""
    times = np.asarray(times, np.int64)
    steps = [(len(times), 1e9 * rate[1] / rate[0])] if len(times) else []
    ends = (int(times[0]), int(times[-1]) + int(1e9 * rate[1] / rate[0])) if len(times) else (START, START + 10**10)
    changes = {
        "times": times,
        "codes": tuple(np.asarray(c, np.int32) for c in codes),
        "leads": tuple(Lead(n, 200.0, 100, "mV", 0) for n, _ in zip(("I", "II"), codes, strict=False)),
        "rate": rate,
        "held": np.ones(len(times), np.bool_),
        "gaps": find_gaps(times, steps, *ends),
    }
    return dataclasses.replace(verify(*golden.pair("all"), golden.trust), **(changes | more))


def test_units_and_no_value_in_every_shape(golden):
    times = START + np.arange(4) * 10**7
    w = window(golden, times, [[100, 300, NO_VALUE, -100]])
    assert np.array_equal(w.to_numpy(), [[0.0], [1.0], [np.nan], [-1.0]], equal_nan=True)
    assert w.to_numpy("codes").tolist() == [[100], [300], [NO_VALUE], [-100]] and w.to_numpy("codes").dtype == np.int32
    frame = w.to_pandas()
    assert str(frame.index.dtype) == "datetime64[ns, UTC]" and frame.index.name == "time"
    assert frame["I"].isna().tolist() == [False, False, True, False] and frame["I"].iloc[1] == 1.0
    assert w.to_pandas("codes")["I"].sum() == 300 and w.to_pandas("codes")["I"].isna().sum() == 1
    polars = w.to_polars()
    assert polars["I"].to_list() == [0.0, 1.0, None, -1.0] and polars["time"].dt.epoch("ns").to_list() == list(times)
    table = w.to_arrow()
    assert table["I"].null_count == 1 and table.schema.field("I").metadata[b"chordae.gain"] == b"200.0"
    assert w.lead("I").unit == "mV" and np.array_equal(w.physical("I"), w.to_numpy()[:, 0], equal_nan=True)
    with pytest.raises(BadInput, match="no lead 'aVR'"):
        w.lead("aVR")


def test_no_rows_in_every_shape(golden):
    w = window(golden, [], [[]])
    assert w.gaps == (Gap(START, START + 10**10),) and w.gaps[0].seconds == 10
    assert w.to_numpy().shape == (0, 1) and len(w.to_pandas()) == 0 and len(w.to_polars()) == 0
    with pytest.raises(BadInput, match="even grid"):
        w.to_mne()


def test_gaps_are_where_rows_are_missing(golden):
    k = np.arange(100)
    times = START + np.concatenate((k[:40], k[60:])) * 10**7
    gaps = find_gaps(times, [(80, 1e7)], START - 10**9, START + 10**9 + 10**9)
    assert gaps == (
        Gap(START - 10**9, START),
        Gap(START + 40 * 10**7, START + 60 * 10**7),
        Gap(START + 10**9, START + 2 * 10**9),
    )
    # Jitter below half a sample is none, nor is the rest of a sample at an edge.
    assert find_gaps(times[:40] + (k[:40] % 3) * 10**6, [(40, 1e7)], START - 10**6, START + 40 * 10**7 + 10**6) == ()


def test_mne_has_the_gap_annotated_and_every_sample_at_its_time(golden):
    k = np.concatenate((np.arange(40), np.arange(60, 100)))
    w = window(golden, START + 123_456_789 + k * 10**7, [100 + k, 100 - k])
    raw = w.to_mne()
    assert raw.info["sfreq"] == 100 and raw.get_channel_types() == ["ecg", "ecg"] and raw.n_times == 100
    assert raw.info["meas_date"] == datetime.datetime.fromtimestamp(START // 10**9, datetime.UTC) + datetime.timedelta(
        microseconds=123_456
    )
    assert raw.annotations.description.tolist() == ["BAD_gap"]
    assert (raw.annotations.onset[0], raw.annotations.duration[0]) == pytest.approx((0.4, 0.2))
    data = raw.get_data()
    assert np.allclose(data[0][k], k / 200 / 1000) and np.isnan(data[:, 40:60]).all()
    assert not np.isnan(raw.get_data(reject_by_annotation="omit")).any()
    assert (w.to_mne(fill=0.0).get_data()[:, 40:60] == 0).all()


def test_mne_refuses_what_has_no_even_grid(golden):
    for times, rate in (([START, START, START + 10**7], (100, 1)), ([START, START + 10**7, START + 2 * 10**7], None)):
        w = window(golden, times, [[1, 2, 3]])
        with pytest.raises(BadInput, match="even grid"):
            dataclasses.replace(w, rate=rate).to_mne()


def test_times_have_one_meaning():
    want = 1_700_000_000_000_000_001
    for when in (
        want,
        str(want),
        "2023-11-14T22:13:20.000000001Z",
        "2023-11-14T23:13:20.000000001+01:00",
    ):
        assert to_ns(when) == want
    assert to_ns(datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.UTC)) == want - 1
    assert show(want) == "2023-11-14T22:13:20.000000001Z" and to_ns(show(want)) == want
    import pandas as pd

    assert to_ns(pd.Timestamp(want, unit="ns", tz="UTC")) == want
    for bad in ("yesterday", "2023-11-14", "2023-11-14T22:13:20", "2023-13-14T22:13:20Z", 1.5, True, None,
                datetime.datetime(2023, 11, 14)):  # fmt: skip
        with pytest.raises(BadInput):
            to_ns(bad)


def test_the_recorded_rows_as_text_are_those_of_the_recorded_answers(golden):
    """They are there for readers that know no Arrow (query/web/chain)."""
    for name in ("all", "one", "cut"):
        table = answer.read_arrow(golden.pair(name)[0])[0]
        lines = [",".join(["time_ns", *table.leads])]
        for row in zip(table.times.tolist(), *(codes.tolist() for codes in table.codes), strict=True):
            lines.append(",".join("" if value == NO_VALUE else str(value) for value in row))
        assert (HERE / "golden" / f"{name}.csv").read_text() == "\n".join(lines) + "\n"
