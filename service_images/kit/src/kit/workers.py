"""Worker processes for untrusted input of tenants.

A document, template, schema or text of a tenant can make a parser run without end or exhaust memory. Such work runs in
worker processes with limits on memory, CPU time and wall-clock time per job. A worker that exceeds a limit or crashes
is replaced. Its job fails with a reason, and other jobs are not affected. Jobs wait in one queue per tenant, served in
turns, and a tenant may use at most `running_each` workers at once, so that one tenant cannot delay another for longer
than one job's time limit.

A worker is a new Python interpreter instead of a fork, so that it has none of the service's memory, files, sockets or
secrets. Idle, it takes 12 MB (6 MB of its own) plus the modules in `preload` (pypdf: 24 MB). It starts in 0.1 s; a job
has an overhead of 0.3 ms (measured on 2 cores). A worker starts with the first job and ends after `IDLE_S` seconds
without one, unless it is kept. It needs no privileges and no writable files.
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
"""Seconds without a job after which a worker ends and releases its memory."""
_JOBS_EACH = 200
"""Number of jobs after which a worker is replaced, which releases memory that libraries leak or cache."""
_START_S = 60.0
_LOOK_S = 0.2
"""Seconds between two checks of kept workers."""
_END_S = 5.0
"""Seconds after which a worker that has closed its pipe is killed."""
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
"""Environment that disables threads of libraries, which would need memory."""
_CPU_SIGNALS = (signal.SIGPROF, signal.SIGXCPU)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """Limits of one job."""

    memory_mb: int = 96
    """Address space in MB beyond that of the idle worker. The input counts."""
    cpu_s: float = 10.0
    """CPU time in seconds."""
    wall_s: float = 30.0
    """Time from the start of the job to its answer in seconds, without the time in the queue."""
    input_mb: int = 32
    """Size of the input in MB."""
    answer_mb: int = 48
    """Size of the answer as JSON in MB."""


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
    """The process, once the job runs."""

    def settle(self, result: Any = None, error: Exception | None = None) -> None:
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(result)


class _Process:
    """A worker process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.jobs = 0
        self.retiring: asyncio.TimerHandle | None = None

    @classmethod
    async def start(cls, preload: Sequence[str]) -> _Process:
        """Start a worker, and wait until its modules are loaded. Raises Crashed."""
        # Isolated mode, without site packages and the service's environment. The first message contains the paths.
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
        """Result of the job. Raises WorkError or JobFailed. After a WorkError, the process must be ended."""
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
        # The pipe is closed, so the process is ending. A signal now could consume its exit status before asyncio does.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), _END_S)
        await self.end()
        status = self.process.returncode or 0
        if -status in _CPU_SIGNALS:
            return OutOfTime(limits.cpu_s, "CPU time")
        return Crashed(signal.Signals(-status).name if status < 0 else f"status {status}")

    def alive(self) -> bool:
        """Whether the process runs, according to the kernel. asyncio notices an end later, and a job could fail."""
        try:
            return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    async def end(self) -> None:
        """Kill the process if it is running."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        await self.process.wait()


class Workers:
    """A pool of worker processes. It belongs to one event loop. Close it with the service."""

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
        """`name`: label of the metrics. `preload`: modules that each worker imports before its first job.

        `keep`: number of workers that `run` keeps ready, for jobs that cannot wait for a start.
        `running_each`: most workers of one tenant at once; 0 means all but one, which is left for other tenants.
        `waiting_each`, `waiting`: most waiting jobs of one tenant, and of all tenants.
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
        """Process IDs of idle workers."""
        return [process.process.pid for process in self._idle]

    async def run(self) -> None:
        """Run until cancelled: start the kept workers, and replace old and crashed ones."""
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
                log.error("cannot start a worker", pool=self._name, reason=error.message)
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
        """Call `function`, a module-level function, in a worker. Returns its result as JSON: tuples become lists.

        Arguments may be None, numbers, texts, bytes, and tuples, lists, dicts and sets of these. `content`, such as the
        bytes of a document, is the function's last argument. An unpaired surrogate in the result becomes U+FFFD. If the
        caller is cancelled, the job ends. Raises WorkError, or JobFailed for an exception of `function`.
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
        """End all workers. Waiting and running jobs fail as Busy."""
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
            raise Busy(f"{waiting} requests of this tenant are waiting already; the limit is {self._waiting_each}.")
        if self._lanes.waiting >= self._waiting:
            raise Busy(f"{self._lanes.waiting} requests are waiting already; try again later.")
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
        """Run one job in a worker. The worker is kept unless the job has made it unusable."""
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
        """Let a worker wait for its next job."""
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
