"""The child's end of the socket pair."""

import os
import resource
import socket
from collections.abc import Iterator

import pytest

from server.core.errors import ProtocolError
from server.core.jobs import CancelMode, JobEvent, JobId
from server.core.text import TextDelta
from server.workers.framing import encode, from_child
from server.workers.link import LinkClosed, SocketLink
from server.workers.protocol import Cancel, Hello, Outcomes, Stop

Pair = tuple[socket.socket, SocketLink]


@pytest.fixture
def pair() -> Iterator[Pair]:
    parent, child = socket.socketpair()
    link = SocketLink(child)
    yield parent, link
    link.close()
    parent.close()


def test_nothing_is_there_when_nothing_was_sent(pair: Pair) -> None:
    assert pair[1].receive(wait=False) is None


def test_messages_come_in_order_whether_waited_for_or_not(pair: Pair) -> None:
    parent, link = pair
    cancel = Cancel(job=JobId("a"), mode=CancelMode.STOP)
    parent.sendall(encode(cancel) + encode(Stop()))
    assert link.receive(wait=True) == cancel
    assert link.receive(wait=False) == Stop()
    assert link.receive(wait=False) is None


def test_half_a_message_is_no_message(pair: Pair) -> None:
    parent, link = pair
    frame = encode(Stop())
    parent.sendall(frame[:3])
    assert link.receive(wait=False) is None
    parent.sendall(frame[3:])
    assert link.receive(wait=False) == Stop()


@pytest.mark.parametrize("wait", [True, False])
def test_the_end_of_the_parent_is_told(pair: Pair, wait: bool) -> None:
    parent, link = pair
    parent.close()
    with pytest.raises(LinkClosed):
        link.receive(wait=wait)
    with pytest.raises(LinkClosed):
        link.send(Hello(protocol=1, pid=1))


def test_what_was_sent_before_the_end_still_comes(pair: Pair) -> None:
    parent, link = pair
    parent.sendall(encode(Stop()))
    parent.close()
    assert link.receive(wait=True) == Stop()
    with pytest.raises(LinkClosed):
        link.receive(wait=True)


def test_nonsense_is_a_protocol_error(pair: Pair) -> None:
    parent, link = pair
    parent.sendall(b"\x00\x00\x00\x01\xc1")
    with pytest.raises(ProtocolError):
        link.receive(wait=True)


def test_what_cannot_be_written_sends_nothing(pair: Pair) -> None:
    parent, link = pair
    bad = Outcomes(items=[JobEvent(JobId("a"), TextDelta(choice=0, text="\ud800"))])
    with pytest.raises(ProtocolError):
        link.send(bad)
    link.send(Hello(protocol=1, pid=1))
    assert list(from_child().feed(parent.recv(1000))) == [Hello(protocol=1, pid=1)]


def test_a_descriptor_over_1023_is_as_good_as_any() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    high = 1500
    if hard != resource.RLIM_INFINITY and hard <= high:
        pytest.skip("this process may not have so many descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, high + 1), hard))
    parent, child = socket.socketpair()
    try:
        os.dup2(child.fileno(), high)
        link = SocketLink(socket.socket(fileno=high))
        assert link.receive(wait=False) is None
        parent.sendall(encode(Stop()))
        assert link.receive(wait=False) == Stop()
        link.close()
    finally:
        parent.close()
        child.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
