"""Worker processes: a job that exceeds a limit or crashes is ended, and others are not affected."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import worker_jobs
from kit import workers as pool
from kit.workers import Busy, Crashed, JobFailed, Limits, OutOfMemory, OutOfTime, TooLarge, Workers


def run(work: Callable[[Workers], Awaitable[Any]], **options: Any) -> Any:
    """Run `work` with a pool, and check that all of its processes end."""

    async def main() -> Any:
        children = set(psutil.Process().children())
        workers = Workers("test", **{"preload": ["worker_jobs"], **options})
        try:
            return await asyncio.wait_for(work(workers), 120)
        finally:
            await workers.close()
            # A process that has ended is a child until the event loop's thread has waited for it.
            async with asyncio.timeout(60):
                while not set(psutil.Process().children()) <= children:
                    await asyncio.sleep(0.01)

    return asyncio.run(main())


def test_a_worker_answers_and_is_used_again() -> None:
    async def work(workers: Workers) -> None:
        assert await workers.call("a", worker_jobs.double, 21) == 42
        assert await workers.call("a", worker_jobs.double, "ab") == "abab"
        assert await workers.call("a", worker_jobs.pid) == await workers.call("b", worker_jobs.pid) != os.getpid()
        assert await workers.call("a", worker_jobs.size, "p", content=b"c" * 5_000_000) == ["p", 5_000_000, "c"]

    run(work)


@pytest.mark.parametrize(
    ("job", "arguments", "error", "says"),
    [
        (worker_jobs.spin, (), OutOfTime, "0.3 s of CPU time"),
        (worker_jobs.sleep, (), OutOfTime, "2 s of wall-clock time"),
        (worker_jobs.allocate, (400,), OutOfMemory, "64 MB"),
        (worker_jobs.allocate_in_pieces, (), OutOfMemory, "64 MB"),
        (worker_jobs.crash, (), Crashed, "SIGSEGV"),
        (worker_jobs.leave, (), Crashed, "status 3"),
        (worker_jobs.double, ("x" * 3 * 2**20,), TooLarge, "input"),
        (worker_jobs.double, ("x" * 2**20,), TooLarge, "answer"),
    ],
)
def test_a_job_beyond_a_limit_fails_with_the_reason_and_the_next_one_is_done(
    job: Any, arguments: tuple[Any, ...], error: type[Exception], says: str
) -> None:
    limits = Limits(memory_mb=64, cpu_s=0.3, wall_s=2, input_mb=2, answer_mb=1)

    async def work(workers: Workers) -> None:
        assert await workers.call("a", worker_jobs.double, 1) == 2
        with pytest.raises(error, match=says):
            await workers.call("a", job, *arguments)
        assert await workers.call("b", worker_jobs.double, 1) == 2

    run(work, limits=limits, processes=1)


def test_an_exception_of_a_job_is_reported_by_class_and_message() -> None:
    async def work(workers: Workers) -> None:
        with pytest.raises(JobFailed, match="no such page") as caught:
            await workers.call("a", worker_jobs.refuse, "no such page")
        assert caught.value.kind == "ValueError"
        with pytest.raises(JobFailed, match="nested too deep"):
            await workers.call("a", worker_jobs.recurse)

    run(work)


def test_output_and_unencodable_text_of_a_job_do_not_corrupt_the_answer() -> None:
    async def work(workers: Workers) -> None:
        assert await workers.call("a", worker_jobs.noisy) == "answer"
        assert await workers.call("a", worker_jobs.surrogate) == "a\ufffdb"

    run(work)


def test_a_worker_has_no_secrets_and_writes_no_files(monkeypatch: Any, tmp_path: Any) -> None:
    monkeypatch.setenv("SERVICE_POSTGRES_PASSWORD", "secret")

    async def work(workers: Workers) -> None:
        assert "secret" not in (await workers.call("a", worker_jobs.environment)).values()
        # The kernel sends SIGXFSZ or returns an error; in both cases nothing is written.
        with pytest.raises((JobFailed, Crashed)):
            await workers.call("a", worker_jobs.write_file, str(tmp_path / "file"))

    run(work)
    assert not (tmp_path / "file").exists() or not (tmp_path / "file").read_bytes()


def test_a_worker_that_died_while_it_waited_is_replaced() -> None:
    async def work(workers: Workers) -> None:
        first = await workers.call("a", worker_jobs.pid)
        os.kill(first, signal.SIGKILL)
        while workers.pids and psutil.pid_exists(first):
            await asyncio.sleep(0.01)
        assert await workers.call("a", worker_jobs.pid) != first

    run(work)


def test_a_tenant_cannot_take_all_workers_nor_the_front_of_the_queue() -> None:
    async def work(workers: Workers) -> None:
        order: list[str] = []

        async def job(tenant: str) -> None:
            await workers.call(tenant, worker_jobs.sleep, 0.05)
            order.append(tenant)

        # Both have started, so the following jobs wait in the queue.
        await asyncio.gather(*(workers.call(f"warm{n}", worker_jobs.sleep, 0.05) for n in range(2)))
        await asyncio.gather(*(job("greedy") for _ in range(10)), job("other"), job("third"))
        assert order.index("other") <= 3 and order.index("third") <= 3

    run(work, processes=2)


def test_queues_are_bounded_by_tenant_and_in_all() -> None:
    async def work(workers: Workers) -> None:
        waiting = [asyncio.create_task(workers.call("a", worker_jobs.sleep, 0.2)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="of this tenant"):
            await workers.call("a", worker_jobs.double, 1)
        others = [asyncio.create_task(workers.call("b", worker_jobs.double, 1)) for _ in range(1)]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="try again later"):
            await workers.call("c", worker_jobs.double, 1)
        await asyncio.gather(*waiting, *others)
        assert await workers.call("c", worker_jobs.double, 1) == 2, "there is room again"

    run(work, processes=1, waiting_each=2, waiting=3)


def test_a_caller_that_leaves_frees_its_worker() -> None:
    async def work(workers: Workers) -> None:
        leaving = asyncio.create_task(workers.call("a", worker_jobs.sleep))
        queued = asyncio.create_task(workers.call("a", worker_jobs.sleep))
        while not psutil.Process().children():
            await asyncio.sleep(0.01)
        for task in (leaving, queued):
            task.cancel()
        assert await workers.call("b", worker_jobs.double, 1) == 2

    run(work, processes=1)


def test_many_jobs_of_many_kinds_leave_the_pool_whole() -> None:
    kinds: list[tuple[Any, tuple[Any, ...]]] = [
        (worker_jobs.double, (1,)),
        (worker_jobs.crash, ()),
        (worker_jobs.refuse, ("x",)),
        (worker_jobs.allocate, (400,)),
    ]

    async def work(workers: Workers) -> None:
        calls = [workers.call(f"t{n % 3}", kinds[n % 4][0], *kinds[n % 4][1]) for n in range(24)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        expected: list[Any] = [int, Crashed, JobFailed, OutOfMemory]
        assert all(isinstance(result, expected[n % 4]) for n, result in enumerate(results)), results
        assert await workers.call("t0", worker_jobs.double, 1) == 2
        assert len(workers.pids) <= 2

    run(work, limits=Limits(memory_mb=64))


def test_a_worker_takes_little_memory() -> None:
    async def work(workers: Workers) -> int:
        return psutil.Process(await workers.call("a", worker_jobs.pid)).memory_full_info().uss

    assert run(work, preload=()) < 20 * 2**20


def test_workers_that_are_kept_are_ready_before_a_job_comes_and_after_one_has_died() -> None:
    async def work(workers: Workers) -> None:
        running = asyncio.create_task(workers.run())
        try:
            first = await ready(workers)
            assert await workers.call("a", worker_jobs.pid) == first
            os.kill(first, signal.SIGKILL)
            while (second := await ready(workers)) == first:
                await asyncio.sleep(0.01)
            assert await workers.call("a", worker_jobs.pid) == second
        finally:
            running.cancel()

    run(work, keep=1)


def test_a_kept_worker_that_is_old_stays_until_another_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_JOBS_EACH", 3)

    async def work(workers: Workers) -> None:
        running = asyncio.create_task(workers.run())
        try:
            await ready(workers)
            seen: list[int] = []
            while len(set(seen)) < 3:
                assert workers.pids, "a job would have to wait for the start of a worker"
                seen.append(await workers.call("a", worker_jobs.pid))
                await asyncio.sleep(0.01)
        finally:
            running.cancel()

    run(work, keep=1)


async def ready(workers: Workers) -> int:
    while not workers.pids:
        await asyncio.sleep(0.01)
    return workers.pids[-1]
