"""How long a run has trained, and how fast it is."""

from __future__ import annotations

from collections.abc import Callable


class Timer:
    """A run's seconds, and its speed since the first round of steps of this process.

    The first round is left out because it compiles; until the second, the speed is the
    one measured before a resume.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        seconds: float = 0.0,
        seconds_a_step: float = 0.0,
    ) -> None:
        """Starts.

        Args:
          clock: Seconds from any start.
          seconds: Spent before.
          seconds_a_step: Measured before, 0 if nothing is known.
        """
        self._clock = clock
        self._zero = clock() - seconds
        self._seconds_a_step = seconds_a_step
        self._measured_from: tuple[int, float] | None = None

    def seconds(self) -> float:
        """Spent so far, the time before a resume included."""
        return self._clock() - self._zero

    def seconds_a_step(self, step: int, now: float) -> float:
        """Call after each round, with the steps done and the seconds so far."""
        if self._measured_from is None:
            self._measured_from = step, now
        elif step > self._measured_from[0]:
            first_step, first_seconds = self._measured_from
            self._seconds_a_step = (now - first_seconds) / (step - first_step)
        return self._seconds_a_step
