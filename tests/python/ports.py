"""Ports for programs that must know theirs before they start."""

import random
import socket

GIVEN = set()


def free_port():
    """A port that nobody listens on, given only once.

    Below those that the kernel gives to whoever connects or asks for any: between the choice and the start, and at
    each start again after a kill, nobody else's connection can have taken it.
    """
    while True:
        port = random.randint(12_000, 32_000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in GIVEN:
            GIVEN.add(port)
            return port
