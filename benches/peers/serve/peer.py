"""A window service as one would write it without chordae: FastAPI on uvicorn, TLS, a worker per core.

    peer.py serve duckdb|atriumdb FOLDER CERT KEY WORKERS [CHUNK.parquet ...]

Both answer GET /window?from=NS&until=NS with `time` and the codes of all leads as an Arrow stream. Nothing is
signed, proven or recorded. `duckdb` reads the chunk files of chordae, finding them by an index that it makes at
start, because the files hold no statistics; `atriumdb` reads its own data set, written from the same files
before it serves, through its local SDK. Prints the address; ends when its stdin closes.
"""

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

STREAMED_NS = 60 * 10**9  # longer windows are sent piece by piece
PIECE_ROWS = 100_000
SEGMENT = 15_000  # 30 s at 500 Hz, as a data page of ours


def chunk_meta(path):
    import pyarrow.parquet as pq

    return json.loads(pq.read_metadata(path).metadata[b"chordae"])


class DuckDb:
    def __init__(self, folder, files):
        import duckdb

        self.chunks = []
        for path in files:
            meta = chunk_meta(path)
            self.chunks.append((meta["first_ns"], meta["end_ns"], path))
            self.leads = [lead["name"] for lead in meta["leads"]]
        self.chunks.sort()
        self.base = duckdb.connect()
        self.base.execute("SET TimeZone = 'UTC'")
        columns = ", ".join(f'"{name}"' for name in self.leads)
        # Compared with the column as it is stored, so that nothing stands between the scan and its filter.
        self.sql = (
            f"SELECT time::TIMESTAMP_NS AS time, {columns} FROM read_parquet($files) "
            "WHERE time >= make_timestamptz($from) AND time < make_timestamptz($until)"
        )

    def reader(self, from_ns, until_ns):
        files = [path for first, end, path in self.chunks if first < until_ns and from_ns < end]
        given = {"files": files, "from": from_ns // 1000, "until": until_ns // 1000}
        return self.base.cursor().sql(self.sql, params=given).to_arrow_reader(PIECE_ROWS)


class AtriumDb:
    def __init__(self, folder, files):
        self.folder = folder
        self.local = threading.local()
        self.names = json.loads(Path(folder, "leads.json").read_text())

    @staticmethod
    def fill(folder, files):
        import pyarrow.parquet as pq
        from atriumdb import AtriumSDK

        sdk = AtriumSDK.create_dataset(dataset_location=str(Path(folder, "set")), database_type="sqlite")
        device = sdk.insert_device("bench")
        files = [path for _, path in sorted((chunk_meta(path)["first_ns"], path) for path in files)]
        metas = [chunk_meta(path) for path in files]
        if any(a["end_ns"] != b["first_ns"] for a, b in zip(metas, metas[1:])):
            sys.exit("the chunks leave a gap: as one segment their times would be wrong")
        table, measures = pq.ParquetDataset(files).read(), {}
        hz = {"freq": metas[0]["rate"][0] / metas[0]["rate"][1], "freq_units": "Hz"}
        for lead in metas[0]["leads"]:
            name = lead["name"]
            measures[name] = sdk.insert_measure(name, units=lead["unit"], **hz)
            codes = table.column(name).to_numpy()
            # Its time to write grows with the square of the segment: an hour at once would take many minutes.
            for at in range(0, len(codes), SEGMENT):
                start_ns = metas[0]["first_ns"] + round(at * 10**9 / hz["freq"])
                part = codes[at : at + SEGMENT]
                sdk.write_segment(measures[name], device, part, start_ns, time_units="ns", **hz)
        sdk.close()
        Path(folder, "leads.json").write_text(json.dumps([[n, m, device] for n, m in measures.items()]))

    def sdk(self):
        from atriumdb import AtriumSDK

        if not hasattr(self.local, "sdk"):
            self.local.sdk = AtriumSDK(dataset_location=str(Path(self.folder, "set")))
        return self.local.sdk

    def reader(self, from_ns, until_ns):
        import numpy as np
        import pyarrow as pa

        sdk, columns = self.sdk(), {}
        for name, measure, device in self.names:
            _, times, codes = sdk.get_data(
                measure, from_ns, until_ns, device_id=device, time_units="ns", analog=False
            )
            if not columns:
                columns["time"] = pa.array(times.astype(np.int64, copy=False)).cast(pa.timestamp("ns"))
            columns[name] = pa.array(codes.astype(np.int32, copy=False))
        return pa.table(columns).to_reader(PIECE_ROWS)


def service(peer):
    import pyarrow as pa
    from fastapi import FastAPI, Query, Response
    from fastapi.responses import StreamingResponse

    app = FastAPI()

    def pieces(reader):
        sink = Pieces()
        with pa.ipc.new_stream(sink, reader.schema) as stream:
            for batch in reader:
                stream.write_batch(batch)
                yield sink.take()
        yield sink.take()

    class Pieces:
        """A file that gives away what was written to it."""

        closed = False

        def __init__(self):
            self.parts = []

        def write(self, part):
            self.parts.append(bytes(part))
            return len(part)

        def flush(self):
            pass

        def take(self):
            whole, self.parts = b"".join(self.parts), []
            return whole

    # A plain function: FastAPI runs it in its pool of threads, as it should what blocks.
    @app.get("/window")
    def window(from_ns: int = Query(alias="from"), until_ns: int = Query(alias="until")):
        reader = peer.reader(from_ns, until_ns)
        kind = "application/vnd.apache.arrow.stream"
        if until_ns - from_ns > STREAMED_NS:
            return StreamingResponse(pieces(reader), media_type=kind)
        return Response(b"".join(pieces(reader)), media_type=kind)

    return app


def work(peer, sock, cert, key):
    import uvicorn

    config = uvicorn.Config(
        service(peer), ssl_certfile=cert, ssl_keyfile=key, loop="uvloop", http="httptools", access_log=False,
        log_level="warning",
    )
    uvicorn.Server(config).run(sockets=[sock])


def main():
    _, word, which, folder, cert, key, workers, *files = sys.argv
    if word != "serve" or which not in ("duckdb", "atriumdb"):
        sys.exit(__doc__)
    kind = {"duckdb": DuckDb, "atriumdb": AtriumDb}[which]
    if which == "atriumdb":
        # In a process of its own: nothing of a library may be alive when the workers are forked.
        child = os.fork()
        if child == 0:
            AtriumDb.fill(folder, files)
            os._exit(0)
        if os.waitpid(child, 0)[1] != 0:
            sys.exit("the data set could not be written")
    sock = socket.create_server(("127.0.0.1", 0), backlog=512)
    children = []
    for _ in range(int(workers)):
        child = os.fork()
        if child == 0:
            work(kind(folder, files), sock, cert, key)
            os._exit(0)
        children.append(child)
    host, port = sock.getsockname()
    print(f"{host}:{port}", flush=True)
    sys.stdin.read()
    for child in children:
        os.kill(child, signal.SIGKILL)
    for child in children:
        os.waitpid(child, 0)


main()
