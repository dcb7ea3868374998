"""The trail as its patient reads it, as FHIR tools read it, and as the checker holds it against the ledger."""

import base64
import json
import shutil
import time
import types

import pytest
from fhir.resources.R4B.bundle import Bundle

from conftest import Server, grant, party, run, sim, trust

S = 10**9
PROFILE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientRead"


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """A minute of Ann's; Roe reads ten seconds of it, asks for more than she may, and Poe for what is not his."""
    base = tmp_path_factory.mktemp("trail")
    server = Server(base / "data", slot=10)
    w = types.SimpleNamespace(base=base, server=server)
    w.t0 = (int(time.time()) - 3600) // 60 * 60 * S
    with server:
        w.ann, w.ben = party(server, base, "ann", "patient"), party(server, base, "ben", "patient")
        w.roe, w.poe = party(server, base, "roe", "requester"), party(server, base, "poe", "requester")
        server.cli("device", "add", "bed-1", "--out", base / "certs")
        server.cli("stream", "assign", "bed-1/ecg", "--patient", f"{w.ann}.pub")
        sim(server, "--device", "bed-1", "--leads", "2", "--rate", "100", "--start", w.t0, "--for", "60s", "--speed",
            "20")
    w.trust = trust(server, base)
    with server:
        w.did = server.did("bed-1/ecg")
        w.sid = grant(server, w.ann, w.roe, w.did, "--from", w.t0, "--until", w.t0 + 30 * S)

        def pull(key, until, ok, *more):
            run("pull", "--url", server.http, "--key", key, *more, "--stream", w.did, "--from", w.t0, "--until", until,
                "--trust", w.trust, "--format", "csv", "--out", base / "x.csv", ok=(ok,))

        pull(w.roe, w.t0 + 10 * S, 0, "--session", w.sid, "--leads", "II")
        w.between = time.time_ns()
        pull(w.roe, w.t0 + 60 * S, 1, "--session", w.sid)
        pull(w.poe, w.t0 + 10 * S, 1)
        w.records = json.loads(trail(w, w.ann, "--format", "json").stdout)
        w.table = trail(w, w.ann).stdout
        w.early = json.loads(trail(w, w.ann, "--format", "json", "--to", w.between).stdout)
        w.late = json.loads(trail(w, w.ann, "--format", "json", "--from", w.between).stdout)
        w.fhir = trail(w, w.ann, "--format", "fhir").stdout
        w.others = [trail(w, key, ok=(1,)).stderr for key in (w.ben, w.roe, w.poe)]
    return w


def trail(w, key, *args, **kw):
    return run("trail", "--key", key, "--stream", w.did, "--url", w.server.http, "--trust", w.trust, *args, **kw)


def test_the_patient_reads_who_asked_and_nobody_else_does(ward):
    seen = [(r["name"], r["role"], r["format"], r["outcome"], r["rows"]) for r in ward.records[:5]]
    assert seen == [("roe", "requester", "csv", "answered", None), ("roe", "requester", "csv", "complete", 1000),
                    ("roe", "requester", "proof", "answered", 1000), ("roe", "requester", "csv", "window", None),
                    ("poe", "requester", "csv", "stream", None)]
    assert ward.records[0]["leads"] == ["II"] and ward.records[0]["sid"] == ward.sid
    assert [r["n"] for r in ward.records] == sorted(r["n"] for r in ward.records)
    lines = ward.table.splitlines()
    assert lines[0].split() == ["ASKED", "WHO", "WHAT", "FROM", "UNTIL", "LEADS", "OUTCOME", "ROWS"]
    assert lines[2].split()[1:3] + lines[2].split()[-2:] == ["roe", "csv", "complete", "1000"]
    assert len({line for line in ward.others}) == 1 and "no such stream" in ward.others[0]


def test_a_span_of_time(ward):
    numbers = [r["n"] for r in ward.records]
    assert [r["n"] for r in ward.early] == numbers[:3]
    assert [r["n"] for r in ward.late][:2] == numbers[3:5]


def coded(event, slice_, system, code):
    """The one element of a slice with this type."""
    found = [e for e in event[slice_] if any(
        c.get("system") == system and c["code"] == code
        for c in (e["type"].get("coding") or [e["type"]]))]
    assert len(found) == 1, (slice_, code)
    return found[0]


def test_as_fhir_it_is_what_balp_asks_for(ward):
    bundle = json.loads(ward.fhir)
    assert Bundle.model_validate(bundle).type == "collection"
    events = [entry["resource"] for entry in bundle["entry"]]
    for event in events:
        # IHE BALP 1.1, PatientRead: what it fixes, element by element.
        assert event["type"]["code"] == "rest" and event["action"] == "R"
        assert event["subtype"][0] == {"system": "http://hl7.org/fhir/restful-interaction", "code": "read",
                                       "display": "read"}
        dicom = "http://dicom.nema.org/resources/ontology/DCM"
        client, node = coded(event, "agent", dicom, "110152"), coded(event, "agent", dicom, "110153")
        user = coded(event, "agent", "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP")
        for agent in (client, node):
            assert agent["who"] and agent["network"] and set(agent) == {"type", "who", "network", "requestor"}
        assert user["requestor"] is True and "network" not in user
        assert event["source"]["observer"]["display"] == node["who"]["display"]
        kinds = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
        data, patient = coded(event, "entity", kinds, "2"), coded(event, "entity", kinds, "1")
        assert data["role"]["code"] == "4" and data["what"]["identifier"]["value"] == f"urn:uuid:{ward.did}"
        assert patient["role"]["code"] == "1" and patient["what"]["type"] == "Patient"
        for entity in (data, patient):
            assert not {"name", "query", "detail", "lifecycle"} & set(entity)
        assert ("meta" in event) == (event["outcome"] == "0")
        if "meta" in event:
            assert event["meta"]["profile"] == [PROFILE]
    pulled = events[0]
    assert (pulled["outcome"], pulled["outcomeDesc"]) == ("0", "complete"), "two records, one event"
    asked = coded(pulled, "entity", "http://terminology.hl7.org/CodeSystem/audit-entity-type", "4")
    assert base64.b64decode(asked["query"]).decode() == f"format=csv&from={ward.t0}&until={ward.t0 + 10 * S}&leads=II"
    details = {d["type"]: d["valueString"] for d in asked["detail"]}
    assert details["rows"] == "1000" and details["session"] == ward.sid
    assert [e["outcome"] for e in events[:4]] == ["0", "0", "4", "4"]


def test_the_last_record_is_anchored_at_an_orderly_stop(ward, tmp_path):
    def verify(folder):
        done = run("verify", folder, "--json", "--trust", ward.trust, ok=(0, 3, 4))
        return done.returncode, {f["code"] for f in json.loads(done.stdout)["findings"]}

    def copied(name):
        shutil.copytree(ward.server.folder, tmp_path / name, ignore=shutil.ignore_patterns("*.sock"))
        return tmp_path / name

    assert verify(copied("good")) == (0, set()), "the control"
    changed = copied("changed")
    run("tamper", changed, "--how", "change-trail")
    assert verify(changed) == (3, {"trail"})
    # Without its newest record a trail still chains; only the ledger knows that there was one more.
    cut = copied("cut")
    log = max((cut / "trail").glob("*.log"))
    whole = log.read_bytes()
    last = json.loads(json.dumps(ward.records[-1]))
    at = whole.rindex(last["jti"].encode())
    log.write_bytes(whole[:at - 100])
    code, codes = verify(cut)
    assert code == 3 and "trail" in codes
