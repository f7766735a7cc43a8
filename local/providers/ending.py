"""How a stand-in learns that it has to end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time

ORPHAN_CHECK_S = 2.0


class Ending:
    """Something that happens once: a signal to end, or the end of the engine.

    The signal is written to a pipe by the interpreter's C code (`signal.set_wakeup_fd`). A handler in Python runs only
    when the main thread takes its next step: a signal that arrives just before that thread begins to wait, or that the
    kernel gives to another thread, would stay unnoticed, and the engine would kill the process five seconds later.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    def on_signals(self) -> None:
        """Let SIGINT and SIGTERM announce the end. To be called before the engine learns the port.

        From then on it may end this process at any moment. It does so with SIGINT; the user's own Ctrl-C arrives as a
        Cancel call instead, because plugins run in a process group of their own.
        """
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)

    def with_parent(self) -> None:
        """Announce the end, too, when the engine is killed and cannot say goodbye."""
        threading.Thread(target=self._watch, args=(os.getppid(),), daemon=True).start()

    def _watch(self, engine: int) -> None:
        try:
            handle = os.pidfd_open(engine)
        except OSError:  # it is gone already, or the kernel is older than Linux 5.3
            while os.getppid() == engine:
                time.sleep(ORPHAN_CHECK_S)
        else:
            select.select([handle], [], [])
        self.announce()

    def announce(self) -> None:
        """End `wait`."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full: announced often enough
            os.write(self._write, b".")

    def wait(self) -> None:
        """Return once the end was announced, at once if that was before."""
        os.read(self._read, 1)
