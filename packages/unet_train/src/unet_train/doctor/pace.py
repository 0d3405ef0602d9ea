"""How far something slow has come, told now and then.

```python
pace = Pace(print, "step", 100, minutes=10)
for step in range(1, 101):
    ...
    pace(step)  # step 23 of 100, about 8.4 minutes left
```
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from unet_train.doctor.words import duration

Tell = Callable[[str], None]
"""Takes a line for whoever waits."""

_EVERY = 10.0  # Seconds between two lines.


class Pace:
    """Tells how much is done and how much time is left.

    Attributes:
      minutes: How long it may take; infinite if nothing limits it.
    """

    def __init__(
        self,
        tell: Tell,
        what: str,
        total: int,
        *,
        minutes: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts the clock.

        Args:
          tell: Takes the lines.
          what: Is counted, in the singular.
          total: How many there are about.
          minutes: How long it may take.
          clock: Gives seconds.
        """
        self.minutes = minutes
        self._tell, self._what, self._total = tell, what, total
        self._clock = clock
        self._start = self._told = clock()

    def __call__(self, done: int, note: str = "") -> None:
        """Tells that so many are done, unless the last line is young.

        Args:
          done: From 1 on.
          note: To follow the count.
        """
        now = self._clock()
        if now - self._told < _EVERY:
            return
        self._told = now
        passed = now - self._start
        left = min(
            passed / done * (self._total - done), max(60 * self.minutes - passed, 0)
        )
        self._tell(
            f"{self._what} {done} of {self._total}{note}, about {duration(left)} left"
        )

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return self._clock() - self._start >= 60 * self.minutes
