"""Writes grafana/*.json from the panels below. `python3 dashboards/make.py`, or `--check`: are they of these panels?

A panel is (title, unit, what it says and what is normal, {legend: query}); four in a row. Counters with a label appear with
their first count: `or vector(0)` keeps such a panel from looking broken. Names and labels: docs of each metric in /metrics.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
JOB = 'job="chordae",instance=~"$instance"'


def rate(metric, by="", more="", span="5m"):
    return f"sum by ({by}) (rate({metric}{{{JOB}{more}}}[{span}]))"


def or_none(query):
    return f"{query} or vector(0)"


def quantile(q, histogram, by="le"):
    return f"histogram_quantile({q}, {rate(histogram + '_bucket', by)})"


def quantiles(histogram):
    return {name: quantile(q, histogram) for name, q in (("p50", 0.5), ("p99", 0.99))}


def gauge(metric, legend="{{instance}}"):
    return {legend: f"{metric}{{{JOB}}}"}


FRAMES = ("Frames", "pps", "Frames and births a second by what became of them. `live` is what flows; `repeat` is a device that "
          "did not hear our answer; `quarantined` has a page in the runbook.",
          {"{{outcome}}": rate("chordae_ingest_frames_total", "outcome")})
ACKS = ("From the door to the acknowledgement", "s", "Includes the sync of the log. p99 above a second: ChordaeAckSlow.",
        quantiles("chordae_ingest_ack_seconds"))
LAG = ("Anchor lag", "s", "Age of the oldest link that no checkpoint covers. Up to a round's time; above 300: ChordaeAnchorLag.",
       gauge("chordae_anchor_lag_seconds"))
FREE = ("Free disk", "bytes", "Where the log lies. Below 2 GiB the doors shut.", gauge("chordae_disk_free_bytes"))
WAL = ("Bytes of the log", "bytes", "What is acknowledged and not archived yet. Doors shut at its bound (4 GiB unless set).",
       gauge("chordae_wal_bytes"))
DAMAGE = ("Damage", "short", "Chunks that did not match their link, buckets that failed to seal, frames that nobody could place, two "
          "histories of one stream. All must be 0.",
          {"chunks": f"chordae_verify_failures_total{{{JOB}}}", "buckets": f"chordae_seal_gaps_total{{{JOB}}}",
           "frames": f"chordae_stranded_frames_total{{{JOB}}}",
           "forks": or_none(f'sum(chordae_ledger_refused_total{{{JOB},reason="fork"}})')})
DENIED = ("Requests turned away", "reqps", "By reason. `session` and `stream` are readers without a grant.",
          {"{{reason}}": or_none(rate("chordae_query_denied_total", "reason"))})
CONNECTIONS = ("Connections", "short", "Open now, by door.", {"{{door}}": f"sum by (door) (chordae_connections{{{JOB}}})"})

DASHBOARDS = {
    "overview": ("chordae: overview", [
        ("Up", "short", "1 while metrics come.", {"{{instance}}": 'up{job="chordae",instance=~"$instance"}'}),
        FRAMES, ACKS, CONNECTIONS, DAMAGE, LAG, WAL, FREE,
        ("Samples", "short", "Samples stored a second, all leads.", {"samples/s": rate("chordae_ingest_samples_total")}),
        ("Answers", "reqps", "Windows, proofs and lists a second, by format.",
         {"{{format}}": rate("chordae_query_seconds_count", "format")}),
        DENIED,
        ("Firing alerts", "short", "Those of rules.yml.", {"{{alertname}}": or_none('sum by (alertname) (ALERTS{alertstate="firing"})')}),
        ("Versions", "short", "Which builds run.", {"{{version}} on {{instance}}": f"chordae_build_info{{{JOB}}}"}),
        ("Days until the certificate ends", "d", "Of the server. Below 14: ChordaeCertificateEnds.",
         {"{{instance}}": f"(chordae_certificate_expiry_timestamp_seconds{{{JOB}}} - time()) / 86400"}),
    ]),
    "doors": ("chordae: doors", [
        FRAMES, ACKS, CONNECTIONS,
        ("Payload", "Bps", "Bytes received a second, by door.", {"{{door}}": rate("chordae_ingest_bytes_total", "door")}),
        ("Refusals", "pps", "Peers and frames that were refused, by reason. What to do: ChordaeRefusals.",
         {"{{reason}}": or_none(rate("chordae_refused_total", "reason"))}),
        ("Quarantine", "pps", "Kept apart, acknowledged, never served as rows, by reason.",
         {"{{reason}}": or_none(rate("chordae_quarantined_total", "reason"))}),
        ("Repeats", "pps", "Frames that came again and were absorbed.", {"repeats/s": rate("chordae_duplicates_total")}),
        ("Gaps", "percentunit", "Share of live frames that never came. Above 1 %: ChordaeGaps.",
         {"{{instance}}": 'chordae:gap_ratio:rate15m{instance=~"$instance"}'}),
        ("Clock offsets", "s", "Of frames without a synced clock.", quantiles("chordae_clock_offset_seconds")),
        ("Certificates read anew", "short", "`failed`: changed files that cannot be used; the old ones stay.",
         {"{{outcome}}": or_none(f"sum by (outcome) (chordae_tls_reloads_total{{{JOB}}})")}),
        ("Live frames not offered", "pps", "Monitors that were too slow, or away.", {"frames/s": rate("chordae_live_dropped_total")}),
        ("MQTT sessions", "short", "Kept, and connected.",
         {"kept": f"chordae_exchange_sessions{{{JOB}}}", "connected": f"chordae_exchange_connected{{{JOB}}}"}),
        ("Messages that wait", "short", "Of status and commands, for a session; and retained ones.",
         {"queued": f"chordae_exchange_queued_messages{{{JOB}}}", "retained": f"chordae_exchange_retained_messages{{{JOB}}}"}),
        ("Their bytes", "bytes", "Of the messages that wait.", gauge("chordae_exchange_queued_bytes")),
        ("Messages dropped", "pps", "By reason.", {"{{reason}}": or_none(rate("chordae_exchange_dropped_total", "reason"))}),
        ("Commands", "short", "By state.", {"{{state}}": or_none(f"sum by (state) (chordae_commands{{{JOB}}})")}),
        ("Bridge: connected", "short", "1 while the hospital's broker has accepted us. Only with [bridge].", gauge("chordae_bridge_connected")),
        ("Bridge: connections", "short", "Accepted; without a session of ours, what the broker held is lost.",
         {"accepted": f"chordae_bridge_connections_total{{{JOB}}}", "without a session": f"chordae_bridge_new_sessions_total{{{JOB}}}"}),
        ("Bridge: not acknowledged", "short", "Messages that wait for our sync.", gauge("chordae_bridge_unacknowledged")),
        ("Gateway: spool", "short", "Births and frames not upstream yet. Only on a gateway.", gauge("chordae_spool_frames")),
        ("Gateway: bytes of the spool", "bytes", "Doors of the gateway shut at its bound.", gauge("chordae_spool_bytes")),
        ("Gateway: uplink", "short", "Up, times that it came up, in flight.",
         {"up": f"chordae_uplink_connected{{{JOB}}}", "times": f"chordae_uplink_connects_total{{{JOB}}}",
          "in flight": f"chordae_uplink_in_flight{{{JOB}}}"}),
        ("Gateway: sent and answered", "pps", "Births and frames, also again; what the node answered.",
         {"sent": rate("chordae_uplink_sent_total"), "{{outcome}}": rate("chordae_uplink_answers_total", "outcome")}),
    ]),
    "storage": ("chordae: storage and log", [
        ("One commit of the log", "s", "Write and sync. The disk's own time; p99 above 0.25: ChordaeSyncSlow.", quantiles("chordae_wal_sync_seconds")),
        ("Commits", "ops", "Syncs of the log a second; frames share them.", {"commits/s": rate("chordae_wal_sync_seconds_count")}),
        WAL, FREE,
        ("Free disk in a day", "bytes", "At the pace of the last hour. Below 2 GiB the doors shut.",
         {"{{instance}}": f"predict_linear(chordae_disk_free_bytes{{{JOB}}}[1h], 86400)"}),
        ("Chunks", "ops", "Linked a second, by why they were cut.", {"{{reason}}": rate("chordae_chunks_sealed_total", "reason")}),
        ("Bytes of a chunk", "bytes", "The file as it lies.", quantiles("chordae_chunk_bytes")),
        ("From order to link", "s", "Encoding, two syncs, the link.", quantiles("chordae_seal_seconds")),
        ("Oldest open bucket", "s", "A slot and its grace; above 5400: ChordaeBucketsStayOpen.", gauge("chordae_oldest_open_bucket_seconds")),
        DAMAGE,
    ]),
    "ledger": ("chordae: ledger", [
        ("Entries", "short", "Under the newest checkpoint.", gauge("chordae_ledger_entries")),
        ("Age of the newest checkpoint", "s", "An idle log still anchors its trail every hour. Above 7200: ChordaeCheckpointOld.",
         {"{{instance}}": f"time() - chordae_checkpoint_timestamp_seconds{{{JOB}}}"}),
        LAG,
        ("Heads that wait", "short", "Streams whose newest link is not anchored.", gauge("chordae_anchor_pending_heads")),
        ("Heads anchored", "ops", "A second.", {"heads/s": rate("chordae_anchor_heads_total")}),
        ("A batch", "s", "From closing it to its durable checkpoint.", quantiles("chordae_ledger_batch_seconds")),
        ("Not taken", "short", "Submissions that failed since the start; entries refused, by reason.",
         {"failed": f"chordae_anchor_failures_total{{{JOB}}}",
          "refused: {{reason}}": or_none(f"sum by (reason) (chordae_ledger_refused_total{{{JOB}}})")}),
        ("Without cosignatures", "short", "Entries that wait for witnesses; 0 where no policy demands any.", gauge("chordae_ledger_uncosigned_entries")),
    ]),
    "queries": ("chordae: queries and access", [
        ("Answers", "reqps", "By format.", {"{{format}}": rate("chordae_query_seconds_count", "format")}),
        ("p50 of an answer", "s", "From the request to the last byte, by format.",
         {"{{format}}": quantile(0.5, "chordae_query_seconds", "le, format")}),
        ("p99 of an answer", "s", "The same. A day of raw rows takes a while; a list should not.",
         {"{{format}}": quantile(0.99, "chordae_query_seconds", "le, format")}),
        DENIED,
        ("Sessions", "short", "Records in the directory, expired ones too.", gauge("chordae_sessions")),
        ("Live readers", "short", "Answers that are open.", gauge("chordae_live_readers")),
        ("Chunks held", "bytes", "Verified files held for windows that many look at.", gauge("chordae_chunks_held_bytes")),
        ("Chunks that did not match", "short", "Their rows are not served. Must be 0.", gauge("chordae_verify_failures_total")),
    ]),
}


def panel(at, number, title, unit, says, queries):
    targets = [{"refId": chr(65 + n), "expr": expr, "legendFormat": legend, "datasource": {"type": "prometheus", "uid": "${source}"}}
               for n, (legend, expr) in enumerate(queries.items())]
    return {
        "id": number, "type": "timeseries", "title": title, "description": says, "targets": targets,
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "gridPos": {"x": at % 4 * 6, "y": at // 4 * 7, "w": 6, "h": 7},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 8, "showPoints": "never"}}, "overrides": []},
        "options": {"legend": {"showLegend": True, "displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
    }


def board(name, title, panels):
    variables = [
        {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {"name": "instance", "label": "Node", "type": "query", "datasource": {"type": "prometheus", "uid": "${source}"},
         "query": "label_values(chordae_build_info, instance)", "refresh": 2, "includeAll": True, "multi": True, "allValue": ".*",
         "current": {"text": "All", "value": "$__all"}},
    ]
    return {
        "uid": f"chordae-{name}", "title": title, "tags": ["chordae"], "schemaVersion": 39, "version": 1, "editable": True,
        "refresh": "10s", "time": {"from": "now-1h", "to": "now"}, "timezone": "browser",
        "links": [{"type": "dashboards", "title": "chordae", "tags": ["chordae"], "asDropdown": True, "includeVars": True, "keepTime": True}],
        "templating": {"list": variables},
        "panels": [panel(at, at + 1, *what) for at, what in enumerate(panels)],
    }


def files():
    return {HERE / "grafana" / f"{name}.json": json.dumps(board(name, title, panels), indent=1) + "\n"
            for name, (title, panels) in DASHBOARDS.items()}


if __name__ == "__main__":
    wrong = [path for path, text in files().items() if not path.is_file() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        sys.exit(f"not of these panels, run dashboards/make.py: {', '.join(p.name for p in wrong)}" if wrong else 0)
    for path, text in files().items():
        path.write_text(text)
