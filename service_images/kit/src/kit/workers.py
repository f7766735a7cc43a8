"""Work on what tenants send, in processes that can be killed.

A document, template, schema or text of a tenant can make a parser run for ever or take all memory. Here such work runs
in worker processes with limits on memory, CPU time and wall-clock time for each job. A worker that exceeds a limit, or
dies, is replaced; the job fails with an error that says why, and no other job is affected. Jobs wait in one queue per
tenant, from which the pool takes turns, and a tenant may use at most `running_each` workers at once, so that one tenant
cannot hold up another for longer than one job's time limit.

A worker is a new Python interpreter and not a fork, so that it has none of the service's memory, files, sockets or
secrets. At rest it takes 12 MB (6 MB of its own) and what the modules in `preload` need (pypdf: 24 MB), and it starts
in 0.1 s; a job costs 0.3 ms (measured on 2 cores). A worker starts when the first job comes and ends after `IDLE_S`
without one, unless it is kept. No privileges and no writable files are needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import marshal
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import prometheus_client as metrics

from kit import logs, telemetry, worker_process
from kit.lanes import Lanes
from kit.worker_errors import Busy, Crashed, JobFailed, OutOfMemory, OutOfTime, TooLarge, WorkError

__all__ = ["Busy", "Crashed", "JobFailed", "Limits", "OutOfMemory", "OutOfTime", "TooLarge", "WorkError", "Workers"]

log = logs.get("kit.workers")
MB = 2**20
IDLE_S = 120.0
"""After so long without a job a worker ends, and its memory is free."""
_JOBS_EACH = 200
"""After so many jobs a worker is replaced: what libraries leak or cache in it is free again."""
_START_S = 60.0
_LOOK_S = 0.2
"""How often it is seen whether the workers that are kept live."""
_END_S = 5.0
"""A worker that has closed its pipe and still runs after this time is killed."""
_PIECE_BYTES = 256 * 1024
_JOBS = metrics.Counter(
    "worker_jobs_total", "Jobs, by how they ended.", ["pool", "outcome"], registry=telemetry.REGISTRY
)
_WAITING = metrics.Gauge("worker_jobs_waiting", "Jobs that wait for a worker.", ["pool"], registry=telemetry.REGISTRY)
_SECONDS = metrics.Histogram(
    "worker_job_seconds",
    "Wall-clock time of a job.",
    ["pool"],
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 30, 60),
    registry=telemetry.REGISTRY,
)
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Each thread of a library takes memory, and a worker may have none besides its own."""
_CPU_SIGNALS = (signal.SIGPROF, signal.SIGXCPU)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """Of one job."""

    memory_mb: int = 96
    """Address space, in MB, beyond what the worker has mapped at rest; what the job is given counts."""
    cpu_s: float = 10.0
    """CPU time, in seconds."""
    wall_s: float = 30.0
    """Time from the start of the job to its answer, in seconds; waiting in the queue does not count."""
    input_mb: int = 32
    """What the job is given, in MB."""
    answer_mb: int = 48
    """What the job answers, as JSON, in MB."""


_DEFAULT = Limits()


@dataclass(eq=False)
class _Job:
    tenant: str
    name: str
    arguments: tuple[Any, ...]
    content: bytes | None
    limits: Limits
    done: asyncio.Future[Any]
    task: asyncio.Task[None] | None = None
    """Once it runs."""

    def settle(self, result: Any = None, error: Exception | None = None) -> None:
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(result)


class _Process:
    """One worker process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.jobs = 0
        self.retiring: asyncio.TimerHandle | None = None

    @classmethod
    async def start(cls, preload: Sequence[str]) -> _Process:
        """Start a worker and wait until its modules are loaded. Raises Crashed."""
        # Isolated, without site packages, without the service's environment: the paths come with the first message.
        command = [sys.executable, "-I", "-S", "-B", worker_process.__file__]
        pipe = asyncio.subprocess.PIPE
        made = cls(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env=_ENVIRONMENT))
        try:
            async with asyncio.timeout(_START_S):
                made._write(marshal.dumps((sys.path, list(preload))))
                await made._reader.readexactly(len(worker_process.READY))
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            await made.end()
            raise Crashed(f"it does not start: {type(error).__name__}") from None
        except BaseException:
            await made.end()
            raise
        return made

    @property
    def _reader(self) -> asyncio.StreamReader:
        assert self.process.stdout is not None, "it is a pipe"
        return self.process.stdout

    @property
    def _writer(self) -> asyncio.StreamWriter:
        assert self.process.stdin is not None, "it is a pipe"
        return self.process.stdin

    def _write(self, message: bytes) -> None:
        self._writer.write(worker_process.LENGTH.pack(len(message)) + message)

    async def run(self, job: _Job, message: bytes) -> Any:
        """The job's result. Raises WorkError or JobFailed; after a WorkError the process must be ended."""
        self.jobs += 1
        limits = job.limits
        try:
            async with asyncio.timeout(limits.wall_s):
                self._write(message)
                content = memoryview(job.content or b"")
                for begin in range(0, len(content), _PIECE_BYTES):
                    self._writer.write(content[begin : begin + _PIECE_BYTES])
                    await self._writer.drain()
                length = await self._reader.readexactly(worker_process.LENGTH.size)
                (size,) = worker_process.LENGTH.unpack(length)
                if size > limits.answer_mb * MB:
                    raise Crashed("its answer does not follow the protocol")
                answer: dict[str, Any] = msgspec.json.decode(await self._reader.readexactly(size))
        except TimeoutError:
            raise OutOfTime(limits.wall_s, "wall-clock time") from None
        except (OSError, asyncio.IncompleteReadError):
            raise await self._death(limits) from None
        except msgspec.DecodeError:
            raise Crashed("its answer does not follow the protocol") from None
        if "ok" in answer:
            return answer["ok"]
        if "error" not in answer:
            raise OutOfMemory(limits.memory_mb)
        kind, text = answer["error"]
        raise TooLarge(text) if kind == worker_process.ANSWER_TOO_LARGE else JobFailed(kind, text)

    async def _death(self, limits: Limits) -> WorkError:
        # Its pipe is closed, so it is ending. A signal now would look for its status before asyncio does, and lose it.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), _END_S)
        await self.end()
        status = self.process.returncode or 0
        if -status in _CPU_SIGNALS:
            return OutOfTime(limits.cpu_s, "CPU time")
        return Crashed(signal.Signals(-status).name if status < 0 else f"status {status}")

    def alive(self) -> bool:
        """As the kernel knows it: asyncio learns of an end later, and a job in between would fail for nothing."""
        try:
            return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    async def end(self) -> None:
        """Kill it, where it lives."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        await self.process.wait()


class Workers:
    """A pool of worker processes. Belongs to one event loop; close it with the service."""

    def __init__(
        self,
        name: str,
        processes: int = 2,
        limits: Limits = _DEFAULT,
        *,
        preload: Sequence[str] = (),
        keep: int = 0,
        running_each: int = 0,
        waiting_each: int = 64,
        waiting: int = 1024,
    ) -> None:
        """`name` labels the metrics. `preload`: modules that each worker imports before its first job.

        `keep`: workers that `run` has ready at any time, for jobs that cannot wait for the start of one.
        `running_each`: workers that one tenant may use at once; 0: all but one, so that one is left for the others.
        `waiting_each`, `waiting`: jobs of one tenant, and of all, that may wait.
        """
        self._name, self._processes, self._limits, self._preload = name, processes, limits, tuple(preload)
        self._keep, self._waiting_each, self._waiting = keep, waiting_each, waiting
        self._lanes = Lanes[_Job](running_each or max(1, processes - 1))
        self._idle: list[_Process] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.Future[None]] = set()
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that wait for a job."""
        return [process.process.pid for process in self._idle]

    async def run(self) -> None:
        """For ever: start the workers that are kept, and another before one that is old, or where one has died."""
        while not self._closed:
            self._idle = [process for process in self._idle if process.process.returncode is None]
            old = [process for process in self._idle if process.jobs >= _JOBS_EACH]
            if len(self._tasks) + len(self._idle) - len(old) >= self._keep:
                for process in old:
                    self._idle.remove(process)
                    await process.end()
                await asyncio.sleep(_LOOK_S)
                continue
            try:
                process = await _Process.start(self._preload)
            except WorkError as error:
                log.error("a worker does not start", pool=self._name, reason=error.message)
                await asyncio.sleep(_LOOK_S)
            else:
                await self._rest(process)

    async def call(
        self,
        tenant: str,
        function: Callable[..., Result],
        *arguments: Any,
        content: bytes | None = None,
        limits: Limits | None = None,
    ) -> Result:
        """What `function`, a function of a module, returns, as JSON gives it back: tuples are lists.

        Arguments are None, numbers, texts, bytes, and tuples, lists, dicts and sets of these. `content`, the bytes of a
        document for example, is the function's last argument. A lone surrogate in an answer becomes U+FFFD. If the
        caller is cancelled, its job ends. Raises WorkError, or JobFailed for an exception that `function` raises.
        """
        job = _Job(
            tenant,
            f"{function.__module__}:{function.__qualname__}",
            arguments,
            content,
            limits or self._limits,
            asyncio.get_running_loop().create_future(),
        )
        outcome = "cancelled"
        try:
            self._admit(job)
            self._dispatch()
            result = await job.done
            outcome = "done"
        except (WorkError, JobFailed) as error:
            outcome = error.outcome
            raise
        finally:
            if job.task is not None and outcome == "cancelled":
                job.task.cancel()
            self._lanes.drop(job.tenant, job)
            _WAITING.labels(self._name).set(self._lanes.waiting)
            _JOBS.labels(self._name, outcome).inc()
        return result

    async def close(self) -> None:
        """End all workers; jobs that wait or run fail as Busy."""
        self._closed = True
        for job in self._lanes.all():
            job.settle(error=Busy("The service is stopping."))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._retire(process) for process in list(self._idle)))

    def _admit(self, job: _Job) -> None:
        if self._closed:
            raise Busy("The service is stopping.")
        size, most = len(job.content or b""), job.limits.input_mb * MB
        if size > most:
            raise TooLarge(f"The input has {size} bytes; at most {most} are processed.")
        waiting = self._lanes.waiting_of(job.tenant)
        if waiting >= self._waiting_each:
            raise Busy(f"{waiting} requests of this tenant wait already; at most {self._waiting_each} may.")
        if self._lanes.waiting >= self._waiting:
            raise Busy(f"{self._lanes.waiting} requests wait already; try again later.")
        self._lanes.put(job.tenant, job)
        _WAITING.labels(self._name).set(self._lanes.waiting)

    def _dispatch(self) -> None:
        while not self._closed and len(self._tasks) < self._processes and (job := self._lanes.take()) is not None:
            job.task = asyncio.create_task(self._work(job))
            self._tasks.add(job.task)
            job.task.add_done_callback(functools.partial(self._ended, job.tenant))

    def _ended(self, tenant: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._lanes.ended(tenant)
        self._dispatch()

    async def _work(self, job: _Job) -> None:
        """Run one job in a worker; the worker is kept unless the job has spoilt it."""
        process: _Process | None = None
        keep = False
        try:
            message = self._message(job)
            process = self._waiting_worker() or await _Process.start(self._preload)
            with _SECONDS.labels(self._name).time():
                result = await process.run(job, message)
            keep = True
            job.settle(result)
        except asyncio.CancelledError:
            job.settle(error=Busy("The service is stopping."))
            raise
        except Exception as error:
            keep = isinstance(error, JobFailed)
            job.settle(error=error)
        finally:
            if process is not None:
                if keep and (self._keep or process.jobs < _JOBS_EACH):
                    await self._rest(process)
                else:
                    await process.end()

    async def _rest(self, process: _Process) -> None:
        """It waits for its next job."""
        if self._closed:
            await process.end()
            return
        self._idle.append(process)
        process.retiring = asyncio.get_running_loop().call_later(IDLE_S, self._retire_soon, process)

    @staticmethod
    def _message(job: _Job) -> bytes:
        limits = job.limits
        size = -1 if job.content is None else len(job.content)
        message = marshal.dumps(
            (job.name, job.arguments, size, limits.memory_mb * MB, limits.cpu_s, limits.answer_mb * MB)
        )
        if len(message) > limits.input_mb * MB:
            raise TooLarge(f"The input has {len(message)} bytes; at most {limits.input_mb * MB} are processed.")
        return message

    def _waiting_worker(self) -> _Process | None:
        while self._idle:
            process = self._idle.pop()
            if process.retiring is not None:
                process.retiring.cancel()
            if process.alive():
                return process
        return None

    def _retire_soon(self, process: _Process) -> None:
        task = asyncio.ensure_future(self._retire(process))
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    async def _retire(self, process: _Process) -> None:
        if process in self._idle and (self._closed or len(self._idle) > self._keep):
            self._idle.remove(process)
            await process.end()
