"""Tells a stand-in when to end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time

ORPHAN_CHECK_S = 2.0


class Ending:
    """A one-time event: a signal to end, or the end of the engine.

    The interpreter's C code writes signals to a pipe (`signal.set_wakeup_fd`). A handler in Python runs only when the
    main thread executes its next instruction. A signal that arrives just before the main thread waits, or that the
    kernel delivers to another thread, would be missed, and the engine would kill the process five seconds later.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    def on_signals(self) -> None:
        """Let SIGINT and SIGTERM announce the end. Call this before the port is printed.

        After that, the engine may end this process at any moment, with SIGINT. A user's Ctrl-C arrives as a Cancel call
        instead, because plugins run in their own process group.
        """
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)

    def with_parent(self) -> None:
        """Also announce the end when the engine process ends, even if it is killed."""
        threading.Thread(target=self._watch, args=(os.getppid(),), daemon=True).start()

    def _watch(self, engine: int) -> None:
        try:
            handle = os.pidfd_open(engine)
        except OSError:  # the engine has ended already, or the kernel is older than Linux 5.3
            while os.getppid() == engine:
                time.sleep(ORPHAN_CHECK_S)
        else:
            select.select([handle], [], [])
        self.announce()

    def announce(self) -> None:
        """Announce the end, which ends `wait`."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full, so the end is announced already
            os.write(self._write, b".")

    def wait(self) -> None:
        """Wait until the end is announced."""
        os.read(self._read, 1)
