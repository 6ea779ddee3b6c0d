"""Whoever does not know the run's secret changes nothing; what those say who know it is checked all the same."""

import asyncio
import contextlib
import json
import resource
import socket
import threading
import time
from pathlib import Path

import pytest
from group import SECRET, Group

from bertjax.cluster import handshake
from bertjax.cluster.environment import ClusterMember
from bertjax.cluster.handshake import authenticate
from bertjax.cluster.messages import FROM_CLIENT, FROM_SERVER, Malformed, packed, parse
from bertjax.cluster.monitor import ACCEPTED_AT_ONCE
from bertjax.cluster.secret import shared_secret
from bertjax.errors import LOST

ODD_VALUES = [None, True, -1, 0, 1.5, 10**30, float("nan"), float("inf"), "", "x" * 20_000, [], {}, [[1]], {"a": 1}]
MESSAGES = [
    {"bertjax": 1, "of": 2, "machine": "here", "nonce": "0" * 64},
    {"proof": "0" * 64},
    {"step": 3, "stage": "in the step", "paused": False, "age": 1.0},
    {"failed": "it is over", "code": 0},
    {"failed": "it is over", "code": 71},
    {"share": "all are there", "value": 1},
    {"leaving": True},
    {"tick": 1},
    {"shared": "answer", "value": 1},
    {"welcome": True},
]
GARBAGE = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"[1, 2]\n",
    b"\xff\xfe\n",
    b"",
    b"\n",
    b"[" * 100_000 + b"\n",
    b"1" * 900 + b"\n",
    b'{"bertjax": ' + b"9" * 900 + b"}\n",
    b"x" * (1 << 20),
    b'"\\ud800"\n',
    *(len(text).to_bytes(4, "big") + text for text in (b"", b"[1, 2]", b"\xff\xfe", b"[" * 1000, b'"\\ud800"')),
    b"\0\0\0\5{",
    bytes(range(256)) * 3,
]


def odd_messages():
    """Every message as it is, and with every field of another kind or missing."""
    for message in MESSAGES:
        yield message
        for name in message:
            yield from ({**message, name: value} for value in ODD_VALUES)
            yield {key: value for key, value in message.items() if key != name}


def knock(port, *texts):
    """Says all of it, whether or not anybody listens, and goes."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection, contextlib.suppress(OSError):
        for text in texts:
            connection.sendall(text)


def undisturbed(group):
    assert group.each(lambda rank: group.monitors[rank].share("still here", 1)) == [1] * len(group.monitors)
    assert group.ended == []


def test_what_a_stranger_says_changes_nothing(capfd, caplog):
    group = Group(2)
    port = group.port + 1
    for text in GARBAGE:
        knock(port, text)
    greetings = [b"", *(packed({"bertjax": rank, "of": 2, "machine": "x", "nonce": "1" * 64}) for rank in (0, 1, 99))]
    for number, message in enumerate(odd_messages()):
        # Also as the protocol was before there was a secret.
        knock(
            port, greetings[number % 4], b'{"bertjax": 99, "of": 2, "machine": "x"}\n' * (number % 2), packed(message)
        )
    time.sleep(0.5)
    undisturbed(group)
    said = capfd.readouterr()
    assert (said.out, said.err, caplog.text) == ("", "", "")


def test_a_run_ends_quietly_with_strangers_at_the_door(capfd, caplog):
    group = Group(2)
    waiting = [socket.create_connection(("127.0.0.1", group.port + 1), timeout=5) for _ in range(20)]
    group.each(lambda rank: group.monitors[rank].leave())
    for connection in waiting:
        connection.close()
    said = capfd.readouterr()
    assert (said.out, said.err, caplog.text, group.ended) == ("", "", "", [])


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux")
def test_silent_connections_use_up_nothing_and_lock_nobody_out():
    group = Group(2)
    before, most = descriptors(), 0
    silent = []
    for _ in range(400):
        silent.append(socket.create_connection(("127.0.0.1", group.port + 1), timeout=5))
        most = max(most, descriptors() - len(silent) - before)
    # Those that are being accepted come on top, for some turns of the loop.
    assert most <= handshake.MOST_UNAUTHENTICATED + 2 + 3 * ACCEPTED_AT_ONCE
    undisturbed(group)
    # The run's own process comes in, past those that are silent.
    refused = []
    late = group.monitor(1, 2, ended=lambda *what: refused.append(what))
    late.join(10)
    end = time.monotonic() + 5
    while not refused and time.monotonic() < end:
        time.sleep(0.05)
    assert "joined twice" in refused[0][0]
    for connection in silent:
        connection.close()
    undisturbed(group)


def test_an_endless_message_is_cut_off():
    group = Group(2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    connections = [socket.create_connection(("127.0.0.1", group.port + 1), timeout=5) for _ in range(40)]
    for connection in connections:
        with contextlib.suppress(OSError):
            for _ in range(64):
                connection.sendall(b"x" * (1 << 18))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB, where 640 MB were sent
    undisturbed(group)


def test_who_says_nothing_for_some_seconds_is_sent_away(monkeypatch):
    monkeypatch.setattr(handshake, "HANDSHAKE_SECONDS", 0.3)
    group = Group(2)
    with socket.create_connection(("127.0.0.1", group.port + 1), timeout=5) as slow:
        slow.sendall(packed({"bertjax": 1})[:6])
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            assert slow.recv(1) == b""
    assert time.monotonic() - began < 4
    undisturbed(group)


def test_a_stranger_who_claims_the_place_of_a_process_is_no_hindrance():
    group = Group(2, join=False)
    group.monitors[0].join(10)
    knock(group.port + 1, packed({"bertjax": 1, "of": 2, "machine": "x", "nonce": "1" * 64}), b"{}\n")
    group.monitors[1].join(10)
    undisturbed(group)


@pytest.mark.parametrize(
    "answer", [b"", b"\xff\n", b"[]\n", packed({"nonce": "0" * 64, "proof": "0" * 64}), b"x" * 5000]
)
def test_whoever_listens_in_place_of_process_0_is_not_believed(answer):
    group = Group(2, join=False)
    with socket.create_server(("127.0.0.1", group.port + 1)) as impostor:
        impostor.settimeout(5)
        serving = threading.Thread(target=serve, args=(impostor, answer))
        serving.start()
        with pytest.raises(TimeoutError, match="does not know the secret of this run"):
            group.monitors[1].join(0.2)
        serving.join()
    assert group.ended == []


def serve(listening, answer):
    """Answers one connection, then says that all is over."""
    with contextlib.suppress(OSError):
        connection, _ = listening.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(answer + packed({"failed": "it is over", "code": 2}))


def test_a_process_with_another_secret_is_not_let_in_until_it_has_read_the_new_one():
    group = Group(2, join=False)
    read = iter([b"of an earlier start", b"of an earlier start"])
    group.monitors[1] = group.monitor(1, 2, secret=lambda: next(read, SECRET))
    group.each(lambda rank: group.monitors[rank].join(10))
    undisturbed(group)


def test_a_secret_that_is_not_there_is_told_at_the_end(tmp_path):
    group = Group(2, join=False)
    group.monitors[0].join(10)
    with shared_secret(tmp_path / "run", first=False, environ={}) as read:
        alone = group.monitor(1, 2, secret=read)
        with pytest.raises(TimeoutError, match=r"cannot be read: .*run/.bertjax-secret: No such file"):
            alone.join(0.2)


def admitted(group, rank):
    """A connection of a process that knows the secret, as sockets have it."""

    async def connect():
        reader, writer = await asyncio.open_connection("127.0.0.1", group.port + 1)
        cluster = ClusterMember("127.0.0.1", group.port, 2, rank, "test")
        assert await authenticate(cluster, "odd", SECRET, reader, writer) == {"welcome": True}
        return writer.get_extra_info("socket").dup()

    return asyncio.run(connect())


@pytest.mark.parametrize(
    "said",
    [
        b"[1]\n",
        b"\xff\xff\xff\xff",
        b"\0\0\0\3[1]",
        b"\0\0\0\1\xff",
        packed({"failed": "it is over", "code": 0}),
        packed({"failed": "it is over", "code": 75}),
        packed({"failed": "it is over", "code": True}),
        packed({"step": "a", "stage": "x", "paused": False, "age": 1.0}),
        packed({"step": 1, "stage": "x", "paused": False, "age": float("nan")}),
        packed({"step": 1, "stage": "x", "paused": False, "age": -1}),
        packed({"share": ["x"], "value": 1}),
        packed({"tick": 1}),
    ],
)
def test_a_process_of_the_run_that_speaks_nonsense_is_lost(said, capfd):
    group = Group(2, join=False)
    group.monitors[0].join(10)
    with admitted(group, 1) as odd:
        odd.setblocking(True)
        odd.sendall(said)
        messages, codes = group.wait_for_end([0], 5)
    assert codes == {LOST} and "process 1 on odd sent an unknown message" in messages.pop()
    assert capfd.readouterr() == ("", "")


def test_the_messages_of_the_run_itself_are_in_the_tables():
    for table in (FROM_CLIENT, FROM_SERVER):
        for message in odd_messages():
            with contextlib.suppress(Malformed):
                parsed = parse(json.dumps(message).encode(), table)
                assert parsed.get("code") in (None, LOST, 1) and set(parsed) in [set(fields) for fields in table]
    for message in MESSAGES[2:]:
        if message.get("code") != 0:
            assert any(set(message) == set(fields) for fields in FROM_CLIENT + FROM_SERVER)
