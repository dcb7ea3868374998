"""The verifier in TypeScript and the one in Python say the same of the same bundle, whatever was done to it."""

import json
import random
import subprocess
import sys

import pytest

from conftest import ROOT, need

CLIENT = ROOT / "query/python"
CHAIN = ROOT / "query/web/chain"
sys.path[:0] = [str(CLIENT / "src"), str(CLIENT / "tests")]

import chordae
from recorded import Golden

CHANGES = 400
LETTERS = "0123456789abcdefAZ+/= \n\"\\{}[],:"
VALUES = [None, True, -1, 0, 2**63, 2**64, 1.5, 1e400, "", "x", "é", [], {}, [[]], "0" * 64, "9" * 500, 10**400]


@pytest.fixture(scope="module")
def twin():
    need((CHAIN / "node_modules/typescript").is_dir(), f"{CHAIN}/node_modules (./test makes it)")
    subprocess.run(["npx", "tsc"], cwd=CHAIN, check=True, timeout=120)

    def judge(bundles):
        lines = "".join(json.dumps(one) + "\n" for one in bundles)
        done = subprocess.run(["node", "tests/judge.mjs"], cwd=CHAIN, input=lines, capture_output=True, text=True,
                              check=True, timeout=120)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return judge


def python(name, text):
    leads = ["II"] if name == "one" else None
    try:
        window = chordae.verify(Golden.pair(name)[0], text, Golden.trust, leads=leads)
    except chordae.Damaged as e:
        return "damaged", {finding.code for finding in e.findings}
    return {"ANCHORED": "anchored", "LINKED": "unanchored"}[window.integrity.name], set()


def places(value, path=()):
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def bend(rng, text):
    """A letter of the text, or a value somewhere in it, is another one."""
    if rng.random() < 0.3:
        at = rng.randrange(len(text))
        return text[:at] + rng.choice(LETTERS) + text[at + 1:]
    bundle = json.loads(text)
    *path, last = rng.choice([path for path in places(bundle) if path])
    at = bundle
    for key in path:
        at = at[key]
    match at[last]:
        case _ if rng.random() < 0.3:
            at[last] = rng.choice(VALUES)
        case str(old) if old:
            n = rng.randrange(len(old))
            at[last] = old[:n] + rng.choice(LETTERS) + old[n + 1:]
        case int(old):
            at[last] = old + rng.choice([-1, 1, 10**10])
        case list(old) if old:
            old.pop(rng.randrange(len(old)))
        case dict(old) if old:
            old.pop(rng.choice(list(old)))
    return json.dumps(bundle, ensure_ascii=rng.random() < 0.5)


def test_both_say_the_same_of_a_changed_bundle(twin):
    """(10,000 such changes were run once; these are the first of them.)"""
    rng, cases = random.Random(1), [(name, Golden.pair(name)[1].decode()) for name in ("all", "one", "cut")]
    untouched = len(cases)
    cases += [(name, bend(rng, text)) for name, text in rng.choices(cases, k=CHANGES)]
    told, anchored = twin(cases), 0
    assert len(told) == len(cases)
    for n, ((name, text), (verdict, codes)) in enumerate(zip(cases, told, strict=True)):
        expected, found = python(name, text)
        assert verdict == expected and (set(codes) == found or set(codes) & found), (n, verdict, codes, found)
        anchored += verdict == "anchored"
    # The control: neither says the same of everything.
    assert [verdict for verdict, _ in told[:untouched]] == ["anchored"] * untouched and anchored < CHANGES / 5
