"""The program of a worker process (see `kit/workers.py`). Imports only the standard library: each import is memory.

Protocol on standard input: first a message (length, then marshal) with the paths and modules to load, answered with
`READY` once they are loaded. Then for each job a message with the function as "module:name", its arguments, the size of
the bytes that follow (-1: none), and the limits. Each is answered with a length and JSON: {"ok": result},
{"error": [class, message]} or {"memory": true}. Answers are JSON and not pickle, so that an attacker who takes over a
worker with a document cannot run code in the service.
"""

import codecs
import importlib
import json
import marshal
import os
import resource
import signal
import struct
import sys
from typing import Any, BinaryIO

LENGTH = struct.Struct("!I")
READY = b"r"
ANSWER_TOO_LARGE = "AnswerTooLarge"
_MESSAGE_CHARACTERS = 2000


def main() -> None:
    """Run jobs until the service closes the pipe."""
    codecs.register_error("cogniforge-clean", lambda error: ("\ufffd".encode() * (error.end - error.start), error.end))
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):  # output of libraries must not mix with answers
        os.dup2(nowhere, standard)
    _restrict()
    paths, modules = marshal.loads(_message(source))
    sys.path[:] = paths
    for module in modules:
        importlib.import_module(module)
    sink.write(READY)
    sink.flush()
    at_rest = _address_space()
    while length := source.read(LENGTH.size):
        answer = _job(source, LENGTH.unpack(length)[0], at_rest)
        sink.write(LENGTH.pack(len(answer)))
        sink.write(answer)
        sink.flush()


def _restrict() -> None:
    """Restrict the worker: no file writes, no child processes, and first choice of the kernel's OOM killer."""
    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
        resource.setrlimit(kind, (0, 0))
    try:
        with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123 (pathlib is memory)
            file.write("1000")
    except OSError:
        pass


def _message(source: BinaryIO) -> bytes:
    return source.read(LENGTH.unpack(source.read(LENGTH.size))[0])


def _address_space() -> int:
    """Address space of the process in bytes."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[0]) * resource.getpagesize()


def _job(source: BinaryIO, length: int, at_rest: int) -> bytes:
    try:
        return _answer(source, length, at_rest)
    except MemoryError:
        pass  # answered below, after the frames have released their memory
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return b'{"memory": true}'


def _answer(source: BinaryIO, length: int, at_rest: int) -> bytes:
    name, arguments, size, memory, cpu_s, answer_bytes = marshal.loads(source.read(length))
    # Only the soft limit, because the hard limit could not be raised again after the job.
    resource.setrlimit(resource.RLIMIT_AS, (at_rest + memory, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_PROF, cpu_s)  # the signal ends the process even in native code
    if size >= 0:
        arguments = (*arguments, source.read(size))
    try:
        module, _, attribute = name.partition(":")
        function: Any = importlib.import_module(module)
        for part in attribute.split("."):
            function = getattr(function, part)
        found = {"ok": function(*arguments)}
        answer = json.dumps(found, ensure_ascii=False, allow_nan=False).encode(errors="cogniforge-clean")
    except MemoryError:
        raise
    except RecursionError:
        return _error("RecursionError", "it is nested too deep")
    except Exception as error:
        return _error(type(error).__name__, str(error))
    if len(answer) > answer_bytes:
        return _error(ANSWER_TOO_LARGE, f"the answer has {len(answer)} bytes; at most {answer_bytes} are allowed")
    return answer


def _error(kind: str, message: str) -> bytes:
    return json.dumps({"error": [kind, message[:_MESSAGE_CHARACTERS]]}).encode()


if __name__ == "__main__":
    main()
