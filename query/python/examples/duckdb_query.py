"""SQL over a verified window: the ten seconds with the largest swing of each lead.

python duckdb_query.py URL KEY TRUST SESSION DID FROM UNTIL
"""

import sys

import duckdb

from chordae import Client
from chordae.times import show


def main(url: str, key: str, trust: str, session: str, did: str, from_: str, until: str) -> None:
    with Client(url, key, trust, session) as node:
        window = node.pull(did, from_, until).require_proof()
    base = duckdb.connect()
    base.register("ecg", window.to_arrow("physical"))  # read as it lies in memory
    for lead in window.leads:
        query = f'''
            select epoch_ns(time) // 10_000_000_000 as page, max("{lead.name}") - min("{lead.name}") as swing
            from ecg group by page order by swing desc limit 3
        '''
        for page, swing in base.sql(query).fetchall():
            print(f"{lead.name} {show(page * 10**10)} {swing:.3f} {lead.unit}")
    print(base.sql("select count(*) from ecg").fetchall()[0][0], "rows")


if __name__ == "__main__":
    main(*sys.argv[1:])
