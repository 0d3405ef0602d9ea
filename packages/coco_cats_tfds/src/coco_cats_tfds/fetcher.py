"""Files over HTTP: several at a time, in sessions of our own, with an end in any case.

```python
with Fetcher() as fetcher:
    for url, result in fetcher.each(urls, lambda fetcher, url: fetcher.get(url, check)):
        print(url, result)
```

A server that nobody answers for is given up after half a minute, one that is busy (429,
500 to 504) is given two minutes, and one that sends next to nothing one minute.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, TypeVar

import requests

from coco_cats_tfds.errors import CocoDataError

_AT_ONCE = 16
_ATTEMPTS = 5
_ATTEMPTS_IF_BUSY = 8
_FIRST_WAIT = 1.0  # Seconds; each wait is twice as long.
_LONGEST_WAIT = 60.0
_TIMEOUTS = (10, 20)  # Seconds without a connection, without a byte.
_PATIENCE_AT_FIRST = 30.0  # Seconds without any answer.
_PATIENCE = 60.0  # Seconds without an answer or this many bytes.
_LEAST_BYTES = 1 << 14
_MAX_BYTES = 1 << 31
_BLOCK = 1 << 13
_TICK = 0.5
_ABSENT = (404, 410)
_BUSY = (408, 425, 429, 500, 502, 503, 504)

_T = TypeVar("_T")


class UnreachableError(CocoDataError):
    """The server, rather than one file of it, is at fault."""


class Fetcher:
    """Fetches files on threads that no Ctrl-C and no end of the process waits for."""

    def __init__(
        self,
        *,
        verify_ssl: bool = True,
        sleep: Callable[[float], object] | None = None,
        tick: Callable[[int], object] = lambda count: None,
    ) -> None:
        """Connects to nothing yet.

        Args:
          verify_ssl: Whether a server of https:// must prove who it is.
          sleep: Waits between attempts, in seconds.
          tick: Gets the number of bytes that came since it was called before.
        """
        self._verify = verify_ssl
        self._stop = threading.Event()
        self._sleep = sleep or self._stop.wait
        self._tick = tick
        self._local = threading.local()
        self._lock = threading.Lock()
        self._bytes = self._ticked = self._marked = 0
        self._mark: float | None = None  # When the server last did its part.
        self._is_answered = False

    def __enter__(self) -> Self:
        """Is used in a `with`, at whose end the threads stop."""
        return self

    def __exit__(self, *_: object) -> None:
        """Has the threads stop."""
        self._stop.set()

    def each(
        self, urls: Iterable[str], fetch: Callable[[Fetcher, str], _T]
    ) -> Iterator[tuple[str, _T | CocoDataError]]:
        """Calls `fetch` with every address on threads; yields results as they come.

        Raises:
          UnreachableError: The server does not answer, or sends next to nothing.
        """
        todo: queue.SimpleQueue[str] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        for url in urls:
            todo.put(url)
        count = todo.qsize()

        def work() -> None:
            with requests.Session() as self._local.session:
                while not self._stop.is_set():
                    try:
                        url = todo.get_nowait()
                    except queue.Empty:
                        return
                    try:
                        done.put((url, fetch(self, url)))
                    except Exception as error:  # Is raised where it is waited for.
                        done.put((url, error))

        for _ in range(min(_AT_ONCE, count)):
            threading.Thread(target=work, daemon=True).start()
        for _ in range(count):
            url, result = self._next(done)
            if isinstance(result, Exception) and not isinstance(result, CocoDataError):
                raise result
            yield url, result

    def get(self, url: str, check: Callable[[bytes], None]) -> bytes:
        """The bytes at an address, once `check` passes them.

        Raises:
          CocoDataError: The server lacks the file, or has one that does not pass.
          UnreachableError: The server cannot be reached, refuses or stays busy.
        """
        attempt, wait = 1, _FIRST_WAIT
        while True:
            kind: type[CocoDataError] = UnreachableError
            attempts = _ATTEMPTS
            try:
                status, content, asked = self._request(url)
                if status == requests.codes.ok:
                    check(content)
                    return content
                fault = f"the server answers {status}."
                if status in _ABSENT:
                    kind = CocoDataError
                    fault = (
                        f"the server answers {status}: it does not have this file. Is"
                        " the base address that of a complete copy of COCO 2017?"
                    )
                attempts = _ATTEMPTS_IF_BUSY if status in _BUSY else 1
                wait = max(wait, asked)
            except requests.RequestException as error:
                fault = f"{error}."
                if isinstance(error, ValueError):  # The address itself is none.
                    attempts = 1
            except UnreachableError:
                raise
            except CocoDataError as error:
                kind, fault = CocoDataError, str(error)
            if attempt >= attempts or self._stop.is_set():
                times = f" after {attempt} attempts" if attempt > 1 else ""
                raise kind(f"{url} cannot be had{times}: {fault}")
            wait = min(wait, _LONGEST_WAIT)
            if attempts == _ATTEMPTS_IF_BUSY:
                self._heard(0, excused=wait)
            self._sleep(wait)
            attempt, wait = attempt + 1, 2 * wait

    def _request(self, url: str) -> tuple[int, bytes, float]:
        """Status, body, and the seconds that the server asks to wait."""
        session: requests.Session = self._local.session
        if self._mark is None:
            self._mark = time.monotonic()
        with session.get(
            url, stream=True, timeout=_TIMEOUTS, verify=self._verify
        ) as response:
            self._heard(0)
            asked = 0.0
            with contextlib.suppress(ValueError):  # It may also be a date.
                asked = float(response.headers.get("Retry-After", 0))
            if response.status_code != requests.codes.ok:
                response.content  # noqa: B018  So that the connection serves again.
                return response.status_code, b"", asked
            blocks, size = [], 0
            for block in response.iter_content(_BLOCK):
                size += len(block)
                if self._stop.is_set() or size > _MAX_BYTES:
                    raise UnreachableError(f"{url} sends more than {size:,} bytes.")
                blocks.append(block)
                self._heard(len(block))
        return response.status_code, b"".join(blocks), asked

    def _heard(self, count: int, *, excused: float = 0.0) -> None:
        """Notes bytes; an answer, or enough of them, is what patience goes by."""
        with self._lock:
            self._is_answered = True
            self._bytes += count
            if not count or self._bytes - self._marked >= _LEAST_BYTES:
                self._marked = self._bytes
                self._mark = max(self._mark or 0.0, time.monotonic() + excused)

    def _next(self, done: queue.SimpleQueue[Any]) -> Any:
        while True:
            try:
                result = done.get(timeout=_TICK)
            except queue.Empty:
                result = None
            count, self._ticked = self._bytes - self._ticked, self._bytes
            self._tick(count)
            if result is not None:
                return result
            patience = _PATIENCE if self._is_answered else _PATIENCE_AT_FIRST
            if self._mark is not None and time.monotonic() - self._mark > patience:
                raise UnreachableError(
                    f"The server has sent next to nothing for {patience:g} s. What"
                    " arrived is kept; try again later, or build from COCO's zips with"
                    " --manual_dir."
                )
