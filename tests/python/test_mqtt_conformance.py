"""MQTT as any server must speak it, in the open profile: the public suite of paho-mqtt, and what it leaves out.

`./test` unpacks the source distribution of paho-mqtt into .tools; its tests/test_mqttv5.py starts a broker of its
own, from a module that the distribution does not carry. Here stands that module: it names our server's port.
"""

import importlib.util
import os
import pathlib
import struct
import sys
import types
import unittest

import pytest

from conftest import ROOT
from mqtt_raw import DISCONNECT, PUBACK, PUBLISH, PUBREC, Client

SUITE = pathlib.Path(os.environ.get("PAHO_SUITE", ROOT / ".tools/paho_mqtt-2.1.0/tests/test_mqttv5.py"))


@pytest.fixture(scope="module", autouse=True)
def door(open_server):
    """Stands where the suite looks for its reference broker."""
    server = types.SimpleNamespace(socket=types.SimpleNamespace(getsockname=lambda: ("localhost", open_server.port)),
                                   shutdown=lambda: None)
    brokers = types.ModuleType("mqtt.brokers")
    brokers.run = lambda config: None
    brokers.listeners = types.SimpleNamespace(TCPListeners=types.SimpleNamespace(server=server))
    package = types.ModuleType("mqtt")
    package.brokers = brokers
    sys.modules.update({"mqtt": package, "mqtt.brokers": brokers})
    yield open_server
    del sys.modules["mqtt"], sys.modules["mqtt.brokers"]


if SUITE.exists():
    spec = importlib.util.spec_from_file_location("paho_suite", SUITE)
    suite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(suite)

    class TestPahoSuite(suite.Test):
        """Every case of the public suite."""
else:
    class TestPahoSuite(unittest.TestCase):
        def test_the_suite_is_there(self):
            if os.environ.get("CI") == "true":
                self.fail(f"{SUITE} is missing")
            self.skipTest(f"{SUITE} is missing: run ./test e2e")


# ---- what the interoperability suite of the standard's reference broker asks besides

@pytest.fixture
def client(door):
    made = []

    def make(name=None, version=5, **how):
        made.append(Client(door.port, version))
        if name is not None:
            made[-1].present = made[-1].up(name, **how)
        return made[-1]

    yield make
    for one in made:
        one.socket.close()


@pytest.mark.parametrize("version, name", [(4, "nosubscribe"), (5, "test/nosubscribe")])
def test_a_filter_that_may_not_be(client, version, name):
    assert client("reader", version).subscribe((name, 2)) == [0x80]


def test_the_server_tells_its_keep_alive(client):
    """[MQTT-3.2.2-21]: 60 s is the most it gives a client that can be told"""
    one = client("sleepy", keep_alive=120)
    assert b"\x13" + struct.pack(">H", 60) in one.connack


def test_a_nameless_client_is_told_its_name(client):
    """[MQTT-3.1.3-6], [MQTT-3.1.3-7]"""
    assert b"\x12\0" in client("").connack


def test_no_more_is_in_flight_than_the_client_takes(client):
    """[MQTT-3.3.4-9], [MQTT-4.9.0-2]: receive maximum 2"""
    one = client("narrow", properties=b"\x21\0\2")
    assert one.subscribe(("flow/1", 2)) == [2]
    writer = client("writer")
    for id in range(1, 6):
        writer.published("flow/1", b"%d" % id, 1, id=id)
    first, second = one.message(), one.message()
    one.silent()
    one.answer(PUBACK, first.id)
    third = one.message()
    assert third.payload == b"3"
    one.silent(0.3)
    one.answer(PUBACK, second.id)
    one.answer(PUBACK, third.id)
    assert [one.message().payload, one.message().payload] == [b"4", b"5"]


def test_who_sends_more_than_the_server_takes_is_ended(client):
    """[MQTT-3.3.4-7], [MQTT-4.9.0-1]: QoS 2 counts until it is released"""
    one = client("flood")
    at = one.connack.index(b"\x21")
    maximum = struct.unpack(">H", one.connack[at + 1:at + 3])[0]
    for id in range(1, maximum + 2):
        one.publish("flow/2", b"m", 2, id=id)
    recs = 0
    while (got := one.next())[0] == PUBREC:
        recs += 1
    assert got[0] == DISCONNECT and got[2][0] == 0x93, got
    assert recs <= maximum
    assert one.next() is None


@pytest.mark.parametrize("version", [4, 5])
def test_what_was_open_comes_again_on_reconnect(client, version):
    """[MQTT-4.4.0-1]"""
    keep = {} if version == 4 else {"properties": b"\x11\0\1\x86\x9f"}
    client("again", version, clean=True).disconnect()
    one = client("again", version, clean=False, **keep)
    one.subscribe(("again/#", 2))
    one.publish("again/1", b"1", 1, id=1)
    one.publish("again/2", b"2", 2, id=2)
    came = [one.next()[0] for _ in range(4)]
    assert sorted(came) == [PUBLISH, PUBLISH, PUBACK, PUBREC]
    one.send(DISCONNECT)
    one = client("again", version, clean=False, **keep)
    assert one.present
    assert sorted(m.payload for m in one.receive(2)) == [b"1", b"2"]


def test_dollar_topics_are_not_for_wildcards(client):
    """[MQTT-4.7.2-1]"""
    one = client("reader")
    one.subscribe(("+/+", 2))
    one.published("$TopicA/B", b"m", 1)
    one.silent()
