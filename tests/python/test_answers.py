"""Every answer format as other people's tools read it: equal to the source record in physical units, gaps as gaps."""

import json
import struct
import time
import zipfile

import duckdb
import edfio
import mne
import numpy as np
import paho.mqtt.client as mqtt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pyedflib
import pytest
import wfdb
from fhir.resources.bundle import Bundle
from fhir.resources.observation import Observation

from conftest import Server, grant, need_shared, party, run, trust
from ecg import Ecg, blob, number, signed, varint

FORMATS = {"arrow": "arrows", "parquet": "parquet", "csv": "csv", "json": "json", "fhir": "fhir.json",
           "wfdb": "zip", "edf": "edf"}
SKIP = "BAD_ACQ_SKIP"


class Recorded(Ecg):
    """A real record, a second a frame, some of which are never sent."""

    def __init__(self, device, name, seconds, gone):
        path = str(need_shared("ecg", f"{name}.hea").with_suffix(""))
        head = wfdb.rdheader(path)
        self.digital = wfdb.rdrecord(path, sampto=seconds * head.fs, physical=False)
        self.truth = wfdb.rdrecord(path, sampto=seconds * head.fs)
        now = time.time_ns() - 120 * 10**9
        super().__init__(device, hz=head.fs, samples=head.fs, t0_ns=now - now % (10 * 10**9))
        self.seconds, self.gone = seconds, set(gone)
        self.leads = head.sig_name

    def birth(self):
        d = self.digital
        leads = (blob(1, name.encode()) + varint(3 << 3 | 1) + struct.pack("<d", d.adc_gain[k])
                 + signed(4, d.baseline[k]) + blob(5, d.units[k].encode()) + number(6, d.adc_res[k] or 16)
                 for k, name in enumerate(self.leads))
        return (number(1, self.boot) + number(2, self.hz) + number(3, 1) + b"".join(blob(4, lead) for lead in leads)
                + number(7, 1))

    def codes(self, seq):
        return self.digital.d_signal[seq * self.hz:(seq + 1) * self.hz].T.tolist()

    def send(self, port):
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=self.device)
        client.connect("127.0.0.1", port)
        client.loop_start()
        seqs = [seq for seq in range(self.seconds) if seq not in self.gone]
        sent = [client.publish(self.topic("birth"), self.birth(), qos=1)]
        sent += [client.publish(self.topic("frame"), self.frame(seq), qos=1) for seq in seqs]
        for message in sent:
            message.wait_for_publish(30)
        client.disconnect()
        client.loop_stop()

    def there(self):
        """Which samples of the record were sent."""
        mask = np.repeat([seq not in self.gone for seq in range(self.seconds)], self.hz)
        assert mask.any() and not mask.all()
        return mask

    def times(self):
        return self.t0_ns + np.arange(self.seconds * self.hz, dtype=np.int64) * 10**9 // self.hz

    def physical(self):
        """The record in physical units, NaN where nothing was sent."""
        return np.where(self.there()[:, None], self.truth.p_signal, np.nan)


class Pulled:
    """All formats of one window, each verified by `pull` before it was written."""

    def __init__(self, base, server, keys, ecg):
        self.ecg, self.base, self.trust = ecg, base, trust(server, base)
        patient, doctor = keys
        did = server.did(f"{ecg.device}/ecg")
        sid = grant(server, patient, doctor, did)
        self.path, self.proof = {}, {}
        for word, end in FORMATS.items():
            out, proof = base / f"{ecg.device}.{end}", base / f"{ecg.device}.{word}.proof"
            done = run("pull", "--key", doctor, "--session", sid, "--stream", did, "--from", ecg.t0_ns, "--until",
                       ecg.t0_ns + ecg.seconds * 10**9, "--format", word, "--out", out, "--proof", proof,
                       "--data", server.folder, "--trust", self.trust)
            assert "verified: every row" in done.stdout, done.stdout
            self.path[word], self.proof[word] = out, proof

    def verify(self, word, path, **kw):
        return run("verify", self.proof[word], "--answer", path, "--trust", self.trust, **kw)


@pytest.fixture(scope="module")
def pulled(tmp_path_factory):
    """Two leads with a short gap and a long one; fifteen leads at 1000 Hz with a short one."""
    base = tmp_path_factory.mktemp("answers")
    two = Recorded("bed-1", "100", 60, [12, 13, *range(30, 45)])
    many = Recorded("bed-2", "s0010_re", 30, [12, 13])
    server = Server(base / "data", slot=10)
    with server:
        keys = party(server, base, "ann", "patient"), party(server, base, "roe", "requester")
        for ecg in two, many:
            server.cli("device", "add", ecg.device, "--out", base / "certs")
            server.cli("stream", "assign", f"{ecg.device}/ecg", "--patient", f"{keys[0]}.pub")
            ecg.send(int(server.doors["mqtt-plain"].rpartition(":")[2]))
    with server:
        yield {"two": Pulled(base, server, keys, two), "many": Pulled(base, server, keys, many)}


@pytest.fixture(params=["two", "many"])
def one(request, pulled):
    return pulled[request.param]


def rows_of(table, ecg):
    """Times and physical values of a pyarrow table."""
    times = table["time"].cast("int64").to_numpy()
    columns = []
    for name in ecg.leads:
        scale = table.schema.field(name).metadata
        gain, baseline = float(scale[b"chordae.gain"]), int(scale[b"chordae.baseline"])
        columns.append((table[name].to_numpy().astype(float) - baseline) / gain)
    return times, np.array(columns).T


def test_arrow_and_parquet_in_pyarrow(one):
    there = one.ecg.there()
    for table in pa.ipc.open_stream(one.path["arrow"]).read_all(), pq.read_table(one.path["parquet"]):
        times, values = rows_of(table, one.ecg)
        assert np.array_equal(times, one.ecg.times()[there])
        np.testing.assert_allclose(values, one.ecg.truth.p_signal[there], rtol=0, atol=1e-12)


def test_parquet_in_duckdb_and_polars(one):
    ecg, path = one.ecg, one.path["parquet"]
    frame = pl.read_parquet(path)
    assert frame["time"].dtype == pl.Datetime("ns", "UTC")
    assert np.array_equal(frame["time"].dt.epoch("ns").to_numpy(), ecg.times()[ecg.there()])
    for k, name in enumerate(ecg.leads):
        codes = ecg.digital.d_signal[ecg.there(), k]
        assert np.array_equal(frame[name].to_numpy(), codes)
        query = f"select count(*), sum(\"{name}\"::bigint), max(epoch_ns(time)) from '{path}'"
        assert duckdb.sql(query).fetchall()[0] == (len(codes), int(codes.sum()), int(ecg.times()[ecg.there()][-1]))
    # The gap is the step between two rows.
    steps = duckdb.sql(f"select max(s) from (select epoch_ns(time) - lag(epoch_ns(time)) over (order by time) as s "
                       f"from '{path}')").fetchall()[0][0]
    assert steps > 2 * 10**9


def test_csv_and_json(one):
    ecg = one.ecg
    whole = json.loads(one.path["json"].read_text())
    table = pl.read_csv(one.path["csv"])
    assert whole["columns"] == ["time_ns", *ecg.leads] == table.columns
    rows = np.array(whole["rows"], dtype=np.int64)
    assert np.array_equal(rows, table.to_numpy())
    assert np.array_equal(rows[:, 0], ecg.times()[ecg.there()])
    gain, baseline = (np.array([lead[key] for lead in whole["leads"]]) for key in ("gain", "baseline"))
    np.testing.assert_allclose((rows[:, 1:] - baseline) / gain, ecg.truth.p_signal[ecg.there()], rtol=0, atol=1e-12)


def test_fhir_r5(one):
    ecg, text = one.ecg, one.path["fhir"].read_text()
    if json.loads(text)["resourceType"] == "Bundle":
        observations = [entry.resource for entry in Bundle.model_validate_json(text).entry]
    else:
        observations = [Observation.model_validate_json(text)]
    assert len(observations) == (2 if 30 in ecg.gone else 1)
    seen = np.full((ecg.seconds * ecg.hz, len(ecg.leads)), np.nan)
    for observation in observations:
        assert [(c.system, c.code) for c in observation.code.coding] == [
            ("http://loinc.org", "11524-6"), ("urn:iso:std:iso:11073:10101", "131328")]
        start = int(observation.effectivePeriod.start.timestamp() * 1000) - ecg.t0_ns // 10**6
        first = round(start * ecg.hz / 1000)
        for k, component in enumerate(observation.component):
            assert component.code.text == ecg.leads[k]
            data = component.valueSampledData
            assert (data.intervalUnit, data.dimensions) == ("ms", 1)
            assert abs(float(data.interval) - 1000 / ecg.hz) < 1e-9
            codes = np.array([np.nan if word == "E" else int(word) for word in data.data.split(" ")])
            seen[first:first + len(codes), k] = float(data.origin.value) + float(data.factor) * codes
            assert (data.origin.system, data.origin.code) == ("http://unitsofmeasure.org", ecg.digital.units[k])
    np.testing.assert_allclose(seen, ecg.physical(), rtol=0, atol=1e-9)
    names = {"i": ("I", "131329"), "ii": ("II", "131330"), "iii": ("III", "131389"), "v1": ("V1", "131331")}
    for component in observations[0].component:
        coding = component.code.coding
        known = component.code.text in {lead for lead, _ in names.values()}
        assert not known or coding[0].code == dict(names.values())[component.code.text]


def test_wfdb_python(one, tmp_path):
    ecg = one.ecg
    with zipfile.ZipFile(one.path["wfdb"]) as zipped:
        assert zipped.testzip() is None
        zipped.extractall(tmp_path)
        names = zipped.namelist()
    assert sum(name.endswith(".dat") for name in names) == (2 if 30 in ecg.gone else 1)
    record = min((p for p in tmp_path.glob("*.hea")), key=lambda p: len(p.name))
    got = wfdb.rdrecord(str(record.with_suffix("")))
    assert got.sig_name == ecg.leads and got.fs == ecg.hz and got.units == ecg.truth.units
    np.testing.assert_allclose(got.p_signal, ecg.physical(), rtol=0, atol=1e-9)
    assert got.base_datetime.timestamp is not None


def test_edf_readers(one):
    """Short gaps are in the samples and annotated; a long one makes EDF+D, which not every reader knows."""
    ecg, path = one.ecg, str(one.path["edf"])
    long_gap = 30 in ecg.gone
    # EDF+D has no records for the long gap, and readers that take it put the samples one after the other.
    sent = np.array([seq not in ecg.gone or seq in (12, 13) for seq in range(ecg.seconds)])
    want = ecg.physical()[np.repeat(sent, ecg.hz)]
    there = ~np.isnan(want[:, 0])

    edf = edfio.read_edf(path)
    assert [signal.label for signal in edf.signals] == ecg.leads
    assert [signal.physical_dimension for signal in edf.signals] == ecg.truth.units
    for k, signal in enumerate(edf.signals):
        assert signal.sampling_frequency == ecg.hz
        np.testing.assert_allclose(signal.data[there], want[there, k], rtol=0, atol=1e-5)
        assert set(signal.digital[~there]) == {-32768}
    skips = [(a.onset, a.duration) for a in edf.annotations if a.text == SKIP]
    assert skips == [(pytest.approx(12, abs=1e-6), pytest.approx(2, abs=1e-6))]

    raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
    assert raw.info["sfreq"] == ecg.hz and raw.ch_names == ecg.leads
    np.testing.assert_allclose(raw.get_data()[:, there].T * 1000, want[there], rtol=0, atol=1e-5)
    bad = [a for a in raw.annotations if a["description"] == SKIP]
    assert [(round(a["onset"], 6), round(a["duration"], 6)) for a in bad] == [(12, 2)]
    kept = raw.get_data(reject_by_annotation="omit")
    assert kept.shape[1] == there.sum()

    if long_gap:
        with pytest.raises(OSError, match="discontinuous"):
            pyedflib.EdfReader(path)
        return
    with pyedflib.EdfReader(path) as reader:
        assert reader.getSignalLabels() == ecg.leads
        for k in range(len(ecg.leads)):
            np.testing.assert_allclose(reader.readSignal(k)[there], want[there, k], rtol=0, atol=1e-5)


@pytest.mark.parametrize("word", FORMATS)
def test_a_tampered_sample_is_caught(pulled, word, tmp_path):
    two = pulled["two"]
    good = two.path[word]
    two.verify(word, good)
    data = bytearray(good.read_bytes())
    if word in ("csv", "json", "fhir"):
        # One digit of a sample in the middle.
        at = len(data) // 2
        while not (chr(data[at]).isdigit() and chr(data[at + 1]) in ",] \n"):
            at += 1
        data[at] = ord("1") if data[at] != ord("1") else ord("2")
    else:
        data[len(data) // 2] ^= 1
    bad = tmp_path / good.name
    bad.write_bytes(data)
    assert "damaged" in two.verify(word, bad, ok=(3,)).stdout
