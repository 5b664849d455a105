"""A port of this machine for a server that a test starts."""

import random
import socket

NOT_OF_CLIENTS = range(20_000, 32_768)
"""Below the ports that Linux gives to clients (`net.ipv4.ip_local_port_range`, from 32768 on): any connection of
another test may take one of those between the moment it is found free and the moment a server listens there."""


def free_port() -> int:
    """A loopback port that nobody listens on."""
    for port in random.SystemRandom().sample(NOT_OF_CLIENTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no free port among 100 of {NOT_OF_CLIENTS.start} to {NOT_OF_CLIENTS.stop - 1}")
