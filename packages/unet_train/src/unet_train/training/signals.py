"""Ends a run in good order when the machine is taken away, or by Ctrl-C.

```python
with StopOnSignal() as stop:
    train_loop(..., stop.variable)  # Ends after the step in which the signal came.
    if stop.received: ...
```
"""

from __future__ import annotations

import signal
import socket
import threading
from types import FrameType, TracebackType
from typing import Any

import tensorflow as tf

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal, after it was saved.

    Attributes:
      signal: Its number.
    """

    def __init__(self, step: int, number: int | None) -> None:
        """Makes the message.

        Args:
          step: Steps done and saved.
          number: Of the signal; None if it came to another machine.
        """
        name = "another machine" if number is None else signal.Signals(number).name
        super().__init__(
            f"stopped by {name} after step {step}, which is saved; --resume goes on"
            " from there"
        )
        self.signal = signal.SIGTERM if number is None else number


class StopOnSignal:
    """Catches SIGTERM and SIGINT; the second one interrupts at once.

    Python runs its handlers only between two instructions of its own, and a round of
    steps is a single one. So the signal is also read from a socket, by a thread that
    sets a variable which the loop looks at after each step.

    Attributes:
      received: The signal's number, None so far.
      variable: True once there was one; on the CPU.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        with tf.device("CPU:0"):
            self.variable = tf.Variable(False, trainable=False)
        self._old_handlers: dict[int, Any] = {}
        self._old_fd = -1
        self._sockets: tuple[socket.socket, socket.socket] | None = None

    def __enter__(self) -> StopOnSignal:
        # Python allows handlers in the main thread only; elsewhere nothing is caught.
        if threading.current_thread() is not threading.main_thread():
            return self
        self._old_handlers = {
            number: signal.signal(number, self._handle) for number in _SIGNALS
        }
        reader, writer = self._sockets = socket.socketpair()
        writer.setblocking(False)
        self._old_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._wait, args=(reader,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._sockets is None:
            return
        signal.set_wakeup_fd(self._old_fd)
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        for each in self._sockets:
            each.close()
        self._sockets = None

    def _wait(self, reader: socket.socket) -> None:
        try:
            while number := reader.recv(1):
                if number[0] in _SIGNALS:
                    self.variable.assign(True)
        except OSError:
            return  # Closed.

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
