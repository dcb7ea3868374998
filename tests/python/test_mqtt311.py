"""MQTT 3.1.1 as any server must speak it, in the open profile; tests are named after the clauses of the standard.

The other public suite of the two versions is run by test_mqtt_conformance.py.
"""

import struct

import pytest

from mqtt_raw import (CONNACK, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL,
                      SUBSCRIBE, UNSUBSCRIBE, Client, text)


@pytest.fixture
def client(open_server):
    """Makes clients; closes them."""
    made = []

    def make(name=None, **how):
        made.append(Client(open_server.port))
        if name is not None:
            made[-1].present = made[-1].up(name, **how)
        return made[-1]

    yield make
    for one in made:
        one.socket.close()


def topic(request):
    return f"t/{request.node.name}"


# ---- control packets (2), strings (1.5)

@pytest.mark.parametrize("name", [b"\xc3\x28", b"\xed\xa0\x80", b"a\0b"])
def test_1_5_3_ill_formed_text_closes(client, name):
    """[MQTT-1.5.3-1], [MQTT-1.5.3-2]"""
    one = client("strict")
    one.publish(name)
    one.closed()


@pytest.mark.parametrize("kind, flags", [(SUBSCRIBE, 0), (UNSUBSCRIBE, 0), (PUBREL, 0), (PINGREQ, 1), (DISCONNECT, 4)])
def test_2_2_2_2_reserved_flags_close(client, kind, flags):
    """[MQTT-2.2.2-2], [MQTT-3.8.1-1], [MQTT-3.10.1-1], [MQTT-3.6.1-1]"""
    one = client("strict")
    body = {SUBSCRIBE: b"\0\1\0\1t\0", UNSUBSCRIBE: b"\0\1\0\1t", PUBREL: b"\0\1"}.get(kind, b"")
    one.send(kind, body, flags)
    one.closed()


def test_2_3_1_1_packet_id_0_closes(client):
    """[MQTT-2.3.1-1]"""
    one = client("strict")
    one.publish("t", qos=1, id=0)
    one.closed()


# ---- CONNECT, CONNACK (3.1, 3.2)

def test_3_1_0_1_the_first_packet_is_connect(client):
    """[MQTT-3.1.0-1]"""
    one = client()
    one.send(PINGREQ)
    one.closed()


def test_3_1_0_2_a_second_connect_closes(client):
    """[MQTT-3.1.0-2]"""
    one = client("twice")
    one.connect("twice")
    one.closed()


def test_3_1_2_1_another_protocol_name_closes(client):
    """[MQTT-3.1.2-1]"""
    one = client()
    one.connect("c", protocol="hj")
    one.closed()


def test_3_1_2_2_another_level_is_answered_with_1_and_closed(client):
    """[MQTT-3.1.2-2]"""
    one = client()
    one.connect("c", level=3)
    assert one.expect(CONNACK) == b"\0\1"
    one.closed()


@pytest.mark.parametrize("flags", [1, 0x40, 8, 0x20, 0x1C])
def test_3_1_2_3_flags_that_contradict_close(client, flags):
    """[MQTT-3.1.2-3], [MQTT-3.1.2-11], [MQTT-3.1.2-14], [MQTT-3.1.2-22]: reserved, password without user, will bits"""
    one = client()
    one.connect("c", flags=flags)
    one.closed()


def test_3_1_2_4_a_session_stays_and_3_1_2_6_a_clean_one_does_not(client, request):
    """[MQTT-3.1.2-4], [MQTT-3.1.2-5], [MQTT-3.1.2-6], [MQTT-3.2.2-1..3]"""
    name = topic(request)
    client("keeper", clean=True).disconnect()
    one = client("keeper", clean=False)
    assert not one.present
    assert one.subscribe((name, 2)) == [2]
    one.disconnect()
    other = client("other")
    for qos in (0, 1, 2):
        other.published(name, b"%d" % qos, qos, id=qos + 1)
    one = client("keeper", clean=False)
    assert one.present
    kept = one.receive(2)
    assert [(m.payload, m.qos, m.dup) for m in kept] == [(b"1", 1, False), (b"2", 2, False)]
    one.disconnect()
    assert not client("keeper", clean=True).present
    one = client("keeper", clean=False)
    assert not one.present
    other.published(name, b"late", 1)
    one.silent()


def test_3_1_2_8_the_will_speaks_for_who_is_gone(client, request):
    """[MQTT-3.1.2-8], [MQTT-3.1.2-10], [MQTT-3.1.2-16]"""
    name = topic(request)
    watcher = client("watcher")
    watcher.subscribe((name, 1))
    client("quiet", will=(name, "never", 1, False)).disconnect()
    gone = client("gone", will=(name, "gone", 1, False))
    gone.socket.close()
    message = watcher.message()
    assert (message.payload, message.qos, message.retain) == (b"gone", 1, False)


def test_3_1_2_17_a_will_can_be_retained(client, request):
    """[MQTT-3.1.2-17]"""
    name = topic(request)
    watcher = client("watcher")
    watcher.subscribe((name, 0))
    client("gone", will=(name, "gone", 0, True)).socket.close()
    assert watcher.message().payload == b"gone"
    late = client("late")
    late.subscribe((name, 0))
    assert late.message().retain
    late.published(name, b"", retain=True)


def test_3_1_2_24_silence_beyond_one_and_a_half_keep_alives_closes(client, request):
    """[MQTT-3.1.2-24]; the will is published"""
    name = topic(request)
    watcher = client("watcher")
    watcher.subscribe((name, 0))
    one = client("sleeper", keep_alive=2, will=(name, "asleep", 0, False))
    one.silent(1.5)
    one.closed()
    assert watcher.message().payload == b"asleep"


def test_3_1_3_7_a_nameless_client_is_clean_or_refused(client):
    """[MQTT-3.1.3-6..9]"""
    assert client("").present is False
    one = client()
    one.connect("", clean=False)
    assert one.expect(CONNACK) == b"\0\2"
    one.closed()


def test_3_1_4_2_the_second_of_a_name_takes_over(client):
    """[MQTT-3.1.4-2]"""
    one = client("the-same")
    two = client("the-same")
    one.closed()
    two.send(PINGREQ)
    two.expect(PINGRESP)


# ---- PUBLISH (3.3), delivery (4.3, 4.4, 4.5, 4.6)

def test_3_3_1_3_dup_is_ours_and_not_the_publishers(client, request):
    """[MQTT-3.3.1-1], [MQTT-3.3.1-3]"""
    name = topic(request)
    one = client("reader")
    one.subscribe((name, 1))
    two = client("writer")
    two.publish(name, qos=1, dup=True)
    message = one.message()
    assert not message.dup
    one.answer(PUBACK, message.id)


def test_3_3_1_4_qos_3_closes(client):
    """[MQTT-3.3.1-4]"""
    one = client("strict")
    one.publish("t", qos=3)
    one.closed()


def test_3_3_1_5_retained_messages(client, request):
    """[MQTT-3.3.1-5..12]: the newest is kept, sent to new subscriptions with RETAIN, else without, removed by an empty one"""
    name = topic(request)
    writer = client("writer")
    early = client("early")
    early.subscribe((name, 2))
    writer.published(name, b"old", 1, retain=True)
    writer.published(name, b"new", 1, retain=True)
    writer.published(name, b"passing", 1)
    assert [(m.payload, m.retain) for m in (early.message() for _ in range(3))] == [
        (b"old", False), (b"new", False), (b"passing", False)]
    late = client("late")
    assert late.subscribe((name, 0)) == [0]
    message = late.message()
    assert (message.payload, message.retain, message.qos) == (b"new", True, 0)
    late.subscribe((name, 0))
    assert late.message().payload == b"new", "[MQTT-3.8.4-3]: sent again with an equal subscription"
    writer.published(name, b"", 1, retain=True)
    assert late.message().payload == b""
    last = client("last")
    last.subscribe((name, 0))
    last.silent()


def test_3_3_2_2_wildcards_in_a_topic_close(client):
    """[MQTT-3.3.2-2]"""
    for bad in ("a/+", "#"):
        one = client("strict")
        one.publish(bad)
        one.closed()


def test_3_3_5_1_overlapping_subscriptions_give_the_highest_qos(client, request):
    """[MQTT-3.3.5-1]"""
    name = topic(request)
    one = client("overlap")
    assert one.subscribe((name + "/#", 2), (name + "/+", 1)) == [2, 1]
    client("writer").published(name + "/a", b"m", 2)
    first = one.message()
    assert first.qos == 2
    one.silent()


@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_3_8_4_6_the_lower_qos_counts(client, request, published, granted):
    """[MQTT-3.8.4-6], [MQTT-4.3.1-1], [MQTT-4.3.2-2], [MQTT-4.3.3-2]"""
    name = f"t/lower/{published}/{granted}"
    one = client("reader")
    assert one.subscribe((name, granted)) == [granted]
    client("writer").published(name, b"m", published)
    assert one.receive(1)[0].qos == min(published, granted)
    one.silent(0.2)


def test_4_3_3_2_qos_2_is_delivered_once(client, request):
    """[MQTT-4.3.3-2]: the same id before its PUBREL is the same message; after it, another"""
    name = topic(request)
    one, two = client("reader"), client("writer", clean=False)
    one.subscribe((name, 0))
    two.publish(name, b"once", 2, id=5)
    two.expect(PUBREC)
    two.publish(name, b"once", 2, id=5, dup=True)
    two.expect(PUBREC)
    two.socket.close()
    two = client("writer", clean=False)
    assert two.present
    two.publish(name, b"once", 2, id=5, dup=True)
    two.expect(PUBREC)
    two.answer(PUBREL, 5)
    two.expect(PUBCOMP)
    two.answer(PUBREL, 5)
    two.expect(PUBCOMP)
    two.published(name, b"again", 2, id=5)
    assert [one.message().payload, one.message().payload] == [b"once", b"again"]
    one.silent()


def test_4_4_0_1_what_was_open_comes_again(client, request):
    """[MQTT-4.4.0-1], [MQTT-3.3.1-1]: PUBLISH with DUP, or PUBREL, under the same id"""
    name = topic(request)
    one = client("reader", clean=False)
    one.subscribe((name, 2))
    writer = client("writer")
    writer.published(name, b"one", 1, id=1)
    writer.published(name, b"two", 2, id=2)
    writer.published(name, b"three", 2, id=3)
    messages = [one.message() for _ in range(3)]
    one.answer(PUBREC, messages[2].id)
    one.expect(PUBREL)
    one.socket.close()
    one = client("reader", clean=False)
    assert one.present
    again = [one.next() for _ in range(3)]
    assert [kind for kind, _, _ in again] == [PUBLISH, PUBLISH, PUBREL]
    assert all(flags & 8 for kind, flags, _ in again if kind == PUBLISH), "DUP"
    assert again[2][2] == struct.pack(">H", messages[2].id)
    one.answer(PUBACK, messages[0].id)
    one.answer(PUBREC, messages[1].id)
    one.expect(PUBREL)
    for message in messages[1:]:
        one.answer(PUBCOMP, message.id)
    one.disconnect()
    one = client("reader", clean=False)
    one.silent()


def test_4_6_0_order(client, request):
    """[MQTT-4.6.0-1..6]: messages of one topic and QoS come in order, acknowledgements too"""
    name = topic(request)
    one, two = client("reader"), client("writer")
    one.subscribe((name, 1))
    for n in range(1, 101):
        two.publish(name, b"%d" % n, 1, id=n)
    assert [two.expect(PUBACK) for _ in range(100)] == [struct.pack(">H", n) for n in range(1, 101)]
    for n in range(1, 101):
        message = one.message()
        assert message.payload == b"%d" % n
        one.answer(PUBACK, message.id)


# ---- SUBSCRIBE, UNSUBSCRIBE (3.8, 3.9, 3.10), filters (4.7)

def test_3_8_3_3_subscribe_and_unsubscribe_name_something(client):
    """[MQTT-3.8.3-3], [MQTT-3.10.3-2]"""
    for kind in (SUBSCRIBE, UNSUBSCRIBE):
        one = client("strict")
        one.send(kind, b"\0\1", 2)
        one.closed()


@pytest.mark.parametrize("options", [3, 4, 0x80])
def test_3_8_3_4_reserved_bits_of_a_subscription_close(client, options):
    """[MQTT-3.8.3-4]"""
    one = client("strict")
    one.send(SUBSCRIBE, b"\0\1" + text("t") + bytes([options]), 2)
    one.closed()


def test_3_8_4_5_each_filter_has_its_code_in_order(client):
    """[MQTT-3.8.4-1], [MQTT-3.8.4-5], [MQTT-3.9.3-1], [MQTT-3.9.3-2]: 0x80 where it may not be"""
    one = client("reader")
    assert one.subscribe(("a", 1), ("nosubscribe", 2), ("b/#", 0), ("c", 2)) == [1, 0x80, 0, 2]


@pytest.mark.parametrize("bad", ["a/#/b", "a#", "+a", "a/b+/c", ""])
def test_4_7_1_a_filter_that_is_none(client, bad):
    """[MQTT-4.7.1-2], [MQTT-4.7.1-3], [MQTT-4.7.3-1]: refused in the SUBACK, or closed"""
    one = client("strict")
    one.send(SUBSCRIBE, b"\0\1" + text(bad) + b"\0", 2)
    got = one.next()
    assert got is None or got[2] == b"\0\1\x80", got


@pytest.mark.parametrize("name, filters", [
    ("f/a/b", ["f/a/b", "f/+/b", "f/#", "f/a/b/#", "+/+/+", "#"]),
    ("/f", ["/f", "/+", "+/+", "/#", "#"]),
    ("f/", ["f/", "f/+", "f/#"]),
    ("F", ["F", "+", "#"]),
])
def test_4_7_matching(client, name, filters):
    """[MQTT-4.7.1-1], [MQTT-4.7.3-4] and the examples of 4.7.1"""
    others = ["f", "f/a", "f/a/b/c", "+/b", "/f/a", "f//b", "+/f"]
    writer = client("writer")
    for matching in filters:
        one = client("reader")
        one.subscribe((matching, 0))
        writer.published(name, b"m")
        assert one.message().topic == name, matching
    one = client("reader")
    others = [o for o in others if o not in filters and not (name == "/f" and o == "+/f")]
    one.subscribe(*[(other, 0) for other in others])
    writer.published(name, b"m")
    one.silent(0.3)


def test_4_7_2_1_wildcards_do_not_match_dollar_topics(client):
    """[MQTT-4.7.2-1]"""
    one = client("reader")
    one.subscribe(("#", 0), ("+/monitor", 0))
    two = client("named")
    assert two.subscribe(("$ward/#", 0)) == [0]
    client("writer").published("$ward/monitor", b"m", 1)
    assert two.message().topic == "$ward/monitor"
    one.silent(0.3)


def test_3_10_4_unsubscribe_ends_it(client, request):
    """[MQTT-3.10.4-1..6]"""
    name = topic(request)
    one = client("reader")
    one.subscribe((name, 1), (name + "/b", 1))
    one.unsubscribe(name, "never/subscribed")
    writer = client("writer")
    writer.published(name, b"no", 1)
    writer.published(name + "/b", b"yes", 1)
    assert one.message().payload == b"yes"


# ---- PINGREQ, DISCONNECT (3.12, 3.14)

def test_3_12_4_1_a_ping_is_answered(client):
    """[MQTT-3.12.4-1]"""
    one = client("ping")
    one.send(PINGREQ)
    assert one.expect(PINGRESP) == b""


def test_3_14_4_the_server_closes_after_disconnect(client):
    """[MQTT-3.14.4-1..3]"""
    one = client("bye")
    one.send(DISCONNECT)
    one.publish("t")
    assert one.next() is None


# ---- what the clauses promise of storage (4.1), through a crash

def test_4_1_state_outlives_a_crash(client, open_server, request):
    """[MQTT-4.1.0-1], and more than it asks: after kill -9 nothing that was acknowledged is gone"""
    name = topic(request)
    one = client("keeper", clean=False)
    one.subscribe((name + "/#", 2))
    one.disconnect()
    writer = client("writer", clean=False)
    writer.published(name + "/retained", b"kept", 1, retain=True)
    writer.published(name + "/q1", b"one", 1, id=2)
    writer.published(name + "/q2", b"two", 2, id=3)
    writer.publish(name + "/open", b"three", 2, id=4)
    writer.expect(PUBREC)
    open_server.crash()
    writer = client("writer", clean=False)
    assert writer.present
    writer.publish(name + "/open", b"three", 2, id=4, dup=True)
    writer.expect(PUBREC)
    writer.answer(PUBREL, 4)
    writer.expect(PUBCOMP)
    one = client("keeper", clean=False)
    assert one.present
    assert [m.payload for m in one.receive(4)] == [b"kept", b"one", b"two", b"three"]
    one.silent()
    late = client("late")
    late.subscribe((name + "/retained", 0))
    message = late.message()
    assert (message.payload, message.retain) == (b"kept", True)
    late.published(name + "/retained", b"", retain=True)
