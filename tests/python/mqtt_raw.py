"""MQTT packets written and read by hand, from the standard alone: a client that may also do what is forbidden."""

import contextlib
import socket
import struct
import time

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = range(8, 15)


def length(n):
    out = b""
    while n > 0x7F:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


def text(s):
    data = s if isinstance(s, bytes) else s.encode()
    return struct.pack(">H", len(data)) + data


def packet(kind, body=b"", flags=0):
    return bytes([kind << 4 | flags]) + length(len(body)) + body


class Message:
    """A PUBLISH as it was received."""

    def __init__(self, flags, body, version):
        size = struct.unpack(">H", body[:2])[0]
        self.topic, body = body[2:2 + size].decode(), body[2 + size:]
        self.qos, self.retain, self.dup = flags >> 1 & 3, bool(flags & 1), bool(flags & 8)
        self.id = None
        if self.qos:
            self.id, body = struct.unpack(">H", body[:2])[0], body[2:]
        if version == 5:
            assert body[0] < 0x80
            body = body[1 + body[0]:]
        self.payload = body

    def __repr__(self):
        return f"{self.topic} {self.payload} qos={self.qos} retain={self.retain} dup={self.dup}"


class Client:
    """One connection. What it reads has a time limit; what must not come is waited for a little."""

    def __init__(self, port, version=4):
        self.version, self.got = version, b""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.properties = b"\0" if version == 5 else b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, kind, body=b"", flags=0):
        # A server that has closed already is looked at by `closed`.
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(packet(kind, body, flags))

    def next(self, seconds=10):
        """(kind, flags, body), or None when the server has closed. Raises TimeoutError."""
        end = time.monotonic() + seconds
        while True:
            at, size, shift = 1, 0, 0
            while at < len(self.got):
                size |= (self.got[at] & 0x7F) << shift
                shift, at = shift + 7, at + 1
                if self.got[at - 1] < 0x80:
                    if len(self.got) >= at + size:
                        first, body = self.got[0], self.got[at:at + size]
                        self.got = self.got[at + size:]
                        return first >> 4, first & 15, body
                    break
            self.socket.settimeout(max(end - time.monotonic(), 0.01))
            try:
                more = self.socket.recv(65536)
            except ConnectionError:
                return None
            if not more:
                return None
            self.got += more

    def expect(self, kind, seconds=10):
        got = self.next(seconds)
        assert got and got[0] == kind, f"awaited {kind}, came {got}"
        return got[2]

    def message(self, seconds=10):
        got = self.next(seconds)
        assert got and got[0] == PUBLISH, f"awaited a message, came {got}"
        return Message(got[1], got[2], self.version)

    def receive(self, count, seconds=10):
        """So many messages, each to the end of its QoS."""
        messages, open_ids = [], set()
        while len(messages) < count or open_ids:
            got = self.next(seconds)
            assert got and got[0] in (PUBLISH, PUBREL), f"awaited a message, came {got}"
            if got[0] == PUBLISH:
                messages.append(Message(got[1], got[2], self.version))
                if messages[-1].qos == 1:
                    self.answer(PUBACK, messages[-1].id)
                if messages[-1].qos == 2:
                    open_ids.add(messages[-1].id)
                    self.answer(PUBREC, messages[-1].id)
            else:
                id = struct.unpack(">H", got[2][:2])[0]
                self.answer(PUBCOMP, id)
                open_ids.discard(id)
        return messages

    def silent(self, seconds=0.5):
        """Nothing comes, and the connection stays."""
        try:
            got = self.next(seconds)
        except TimeoutError:
            return
        raise AssertionError(f"came {got}")

    def closed(self, seconds=10):
        """The server closes; with version 5 it may say why before."""
        got = self.next(seconds)
        if got and got[0] in (DISCONNECT, CONNACK):
            got = self.next(seconds)
        assert got is None, f"still open: {got}"

    def connect(self, name, clean=True, keep_alive=60, will=None, properties=None, flags=0, level=None, protocol="MQTT"):
        """Sends CONNECT; `will` is (topic, payload, qos, retain)."""
        flags |= 2 if clean else 0
        tail = text(name)
        if will:
            flags |= 4 | will[2] << 3 | will[3] << 5
            tail += self.properties + text(will[0]) + text(will[1])
        properties = self.properties if properties is None else length(len(properties)) + properties
        self.send(CONNECT, text(protocol) + bytes([level or self.version, flags]) + struct.pack(">H", keep_alive)
                  + properties + tail)

    def up(self, name, **how):
        """Connects; whether the session was present, and the rest of the CONNACK."""
        self.connect(name, **how)
        body = self.expect(CONNACK)
        assert body[1] == 0, f"refused with {body[1]:#x}"
        self.connack = body[2:]
        return bool(body[0])

    def publish(self, topic, payload=b"x", qos=0, id=1, retain=False, dup=False):
        body = text(topic) + (struct.pack(">H", id) if qos else b"") + self.properties + payload
        self.send(PUBLISH, body, dup << 3 | qos << 1 | retain)

    def published(self, topic, payload=b"x", qos=0, id=1, retain=False):
        """Publishes to the end of its QoS."""
        self.publish(topic, payload, qos, id, retain)
        if qos == 1:
            assert self.expect(PUBACK)[:2] == struct.pack(">H", id)
        if qos == 2:
            assert self.expect(PUBREC)[:2] == struct.pack(">H", id)
            self.answer(PUBREL, id)
            assert self.expect(PUBCOMP)[:2] == struct.pack(">H", id)

    def answer(self, kind, id):
        self.send(kind, struct.pack(">H", id), 2 if kind == PUBREL else 0)

    def subscribe(self, *filters, id=7):
        """Filters as (filter, options); the codes of the SUBACK."""
        body = b"".join(text(name) + bytes([options]) for name, options in filters)
        self.send(SUBSCRIBE, struct.pack(">H", id) + self.properties + body, 2)
        got = self.expect(SUBACK)
        assert got[:2] == struct.pack(">H", id)
        return list(got[2 + len(self.properties):])

    def unsubscribe(self, *filters, id=8):
        self.send(UNSUBSCRIBE, struct.pack(">H", id) + self.properties + b"".join(map(text, filters)), 2)
        assert self.expect(UNSUBACK)[:2] == struct.pack(">H", id)

    def disconnect(self):
        self.send(DISCONNECT)
        self.closed()
