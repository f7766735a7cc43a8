"""Ports that tests give to servers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from service_images.ports import free_port

ROOT = Path(__file__).resolve().parents[2]


def test_processes_beside_each_other_never_get_the_same_port() -> None:
    asks = "from service_images.ports import free_port; print(*(free_port(5) for _ in range(300))); input()"
    others = [
        subprocess.Popen([sys.executable, "-c", asks], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    given: list[int] = []
    for other in others:
        assert other.stdout is not None
        given += [int(first) + n for first in other.stdout.readline().split() for n in range(5)]
    for other in others:
        other.communicate(b"\n", timeout=60)
    assert len(given) == len(set(given)) == 4500


def test_no_port_can_become_the_origin_of_a_connection() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(free_port() < low for _ in range(100))
