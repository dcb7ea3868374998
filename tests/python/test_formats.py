"""The chunks are what other people's tools read, and the chain is what docs/FORMATS.md says."""

import datetime
import subprocess

import duckdb
import numpy as np
import polars as pl
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import wfdb

import checker
from conftest import Server, grant, need_shared, party, run, sim, trust


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A folder that holds the whole of record 100, streamed sixty times faster than life, and its readers."""
    base = tmp_path_factory.mktemp("recorded")
    record = need_shared("ecg", "100.hea")
    server = Server(base / "data", slot=300)
    with server:
        server.cli("device", "add", "bed-1", "--out", base / "certs")
        patient, doctor = party(server, base, "ann", "patient"), party(server, base, "roe", "requester")
        server.cli("stream", "assign", "bed-1/ecg", "--patient", f"{patient}.pub")
        sim(server, "--device", "bed-1", "--stream", "ecg", "--record", record, "--speed", "60",
            "--acked", base / "acked")
    with server:
        did = server.did("bed-1/ecg")
        sid = grant(server, patient, doctor, did)
        out = base / "all.csv"
        run("pull", "--key", doctor, "--session", sid, "--stream", did, "--from", 0,
            "--until", "2100-01-01T00:00:00Z", "--format", "csv", "--no-snap", "--out", out, "--data", server.folder,
            "--trust", trust(server, base))
    return {"base": base, "folder": server.folder, "did": did, "csv": out, "record": record}


def csv_codes(path):
    names = path.open().readline().strip().split(",")
    rows = np.genfromtxt(path, delimiter=",", skip_header=1, dtype=np.int64)
    return names, rows


def test_a_real_record_comes_back_sample_for_sample(recorded):
    """Compared through wfdb-python, not through our own reader."""
    names, rows = csv_codes(recorded["csv"])
    truth = wfdb.rdrecord(str(recorded["record"].with_suffix("")), physical=False)
    assert names == ["time_ns", *truth.sig_name]
    assert np.array_equal(rows[:, 1:], truth.d_signal)
    steps = np.diff(rows[:, 0])
    assert steps.min() >= 2_777_777 and steps.max() <= 2_777_778  # 360 Hz on a nanosecond clock


def test_pyarrow_duckdb_and_polars_read_the_same_values_and_times(recorded):
    _, rows = csv_codes(recorded["csv"])
    chunks = sorted((recorded["folder"] / "chunks").rglob("*.parquet"))
    assert len(chunks) >= 6
    at = 0
    for path in chunks:
        table = pq.read_table(path)
        lead = table.column_names[1]
        n = table.num_rows
        times = table["time"].cast("int64").to_numpy()
        assert str(table.schema.field("time").type) == "timestamp[ns, tz=UTC]"
        codes = table[lead].to_numpy()
        assert np.array_equal(times, rows[at:at + n, 0]) and np.array_equal(codes, rows[at:at + n, 1])
        frame = pl.read_parquet(path)
        assert frame["time"].dtype == pl.Datetime("ns", "UTC")
        assert np.array_equal(frame["time"].dt.epoch("ns").to_numpy(), times)
        assert np.array_equal(frame[lead].to_numpy(), codes)
        query = f"select count(*), sum({lead}::bigint), epoch_ns(min(time)), epoch_ns(max(time)) from '{path}'"
        assert duckdb.sql(query).fetchall()[0] == (n, int(codes.sum()), int(times[0]), int(times[-1]))
        assert pc.min(table["time"]).as_py().tzinfo is not None
        at += n
    assert at == len(rows)


def test_b3sum_of_a_chunk_is_its_links_file_root(recorded):
    links = checker.links(recorded["folder"])[recorded["did"]]
    for link in links:
        path = recorded["folder"] / checker.object_name(recorded["did"], link.index)
        out = subprocess.run(["b3sum", "--no-names", str(path)], capture_output=True, text=True, check=True)
        assert out.stdout.strip() == link.file_root.hex()


def test_the_chain_and_the_log_root_are_recomputed_from_the_folder_alone(recorded):
    report = checker.check(recorded["folder"])
    assert report["findings"] == []
    assert report["chunks"] >= 6 and report["entries"] >= 3 and report["anchored"] == 1
    mine = run("verify", recorded["folder"], "--json", "--trust", recorded["base"] / "trust.json")
    assert '"verdict":"ok"' in mine.stdout.replace(" ", "")


def test_the_python_checker_finds_what_is_broken(recorded, tmp_path):
    """The checker's own negative control."""
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(recorded["folder"]), str(copy)], check=True)
    victim = sorted((copy / "chunks").rglob("*.parquet"))[2]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    assert any("0000000002" in f["object"] for f in checker.check(copy)["findings"])


def test_every_acknowledged_frame_is_there_once(recorded):
    result = checker.frames(recorded["folder"], recorded["base"] / "acked")
    assert result["acknowledged"] == 1806 and not result["lost"] and not result["duplicate"] and not result["different"]


def test_twelve_leads_at_a_thousand_hertz_at_life_speed(tmp_path):
    """The other record of the demo, in real time: two signal files, 15 signals."""
    record = need_shared("ecg", "s0010_re.hea")
    demo = run("demo", "--record", record, "--for", "50s", "--data", tmp_path / "demo", timeout=200)
    print(demo.stdout)
    assert "tampering caught" in demo.stdout
    names, rows = csv_codes(tmp_path / "demo" / "demo" / "everything.csv")
    truth = wfdb.rdrecord(str(record.with_suffix("")), physical=False)
    assert names == ["time_ns", *truth.sig_name]
    assert np.array_equal(rows[:, 1:], truth.d_signal)
    assert set(np.diff(rows[:, 0])) == {1_000_000}
    assert rows[0, 0] > datetime.datetime(2026, 1, 1).timestamp() * 1e9
