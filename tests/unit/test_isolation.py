"""The isolation check connects to the platform's ports without permission: real connections on loopback."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "service_images" / "data-tasks" / "src"))
from tasks import isolation
from tasks.common import Problem

LOOPBACK = "127.0.0.1"


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


def check(targets: list[tuple[str, int]], control_answers: bool = True) -> None:
    """Run the check against a server; port 0 stands for the server's port."""

    async def run() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), LOOPBACK, 0)
        port = server.sockets[0].getsockname()[1]
        control = (LOOPBACK, port if control_answers else closed_port())
        async with server:
            await isolation.check([(h, p or port) for h, p in targets], control, patience_s=0)

    asyncio.run(run())


def test_closed_ports_pass(capsys: pytest.CaptureFixture[str]) -> None:
    check([(LOOPBACK, closed_port()), (LOOPBACK, closed_port())])
    assert "2 ports of 1 services are closed" in capsys.readouterr().out


def test_a_port_that_answers_fails_by_its_name() -> None:
    with pytest.raises(Problem, match=r"reaches 127\.0\.0\.1:\d+\. .*networkPolicies: not-enforced"):
        check([(LOOPBACK, closed_port()), (LOOPBACK, 0)])


def test_silence_proves_nothing_where_the_network_does_not_work() -> None:
    with pytest.raises(Problem, match="prove nothing"):
        check([(LOOPBACK, closed_port())], control_answers=False)


def test_a_name_that_is_not_known_is_no_closed_port() -> None:
    with pytest.raises(Problem, match=r"not in the cluster's DNS: nowhere\.invalid"):
        check([("nowhere.invalid", 80)])


def test_a_port_that_closes_in_time_passes() -> None:
    async def run() -> None:
        control = await asyncio.start_server(lambda _, writer: writer.close(), LOOPBACK, 0)
        late = await asyncio.start_server(lambda _, writer: (writer.close(), late.close()), LOOPBACK, 0)
        target = (LOOPBACK, late.sockets[0].getsockname()[1])
        async with control:
            await isolation.check([target], (LOOPBACK, control.sockets[0].getsockname()[1]), patience_s=30)

    asyncio.run(run())
