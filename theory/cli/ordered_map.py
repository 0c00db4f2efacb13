"""Map in threads; yield results in input order."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(function: Callable[[T], R], items: Sequence[T], *, threads: int) -> Iterator[tuple[T, Callable[[], R]]]:
    """Map in threads; yield results in input order.

    Items are begun in order. When the iterator is closed (by an exception or an interrupt, for example) no further
    item is begun. The threads are daemons, so that those in the middle of an item do not delay the exit.

    Args:
        function: what is done with each item.
        items: the items.
        threads: how many items are worked on at once.

    Yields:
        Each item, with a function that waits for the result and returns it, or raises what ``function`` raised.

    >>> [(item, result()) for item, result in ordered_map(abs, [-1, 2, -3], threads=2)]
    [(-1, 1), (2, 2), (-3, 3)]
    """
    futures: list[Future[R]] = [Future() for _ in items]
    waiting: SimpleQueue[int] = SimpleQueue()
    for index in range(len(items)):
        waiting.put(index)
    closed = threading.Event()

    def work():
        while not closed.is_set():
            try:
                index = waiting.get_nowait()
            except Empty:
                return
            try:
                futures[index].set_result(function(items[index]))
            except BaseException as error:
                futures[index].set_exception(error)

    for _ in range(min(threads, len(items))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for item, future in zip(items, futures, strict=True):
            yield item, future.result
    finally:
        closed.set()
