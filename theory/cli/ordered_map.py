"""Work ahead in threads, results in order."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(work: Callable[[T], R], items: Sequence[T], *, threads: int) -> Iterator[tuple[T, Callable[[], R]]]:
    """Each item with a function that waits for ``work(item)`` and returns it, or raises what it raised.

    Items are begun in order. When the iterator is closed, by an exception or an interrupt say, no further item is
    begun; the threads are daemons, so that they hold up no exit.
    """
    futures: list[Future[R]] = [Future() for _ in items]
    todo: SimpleQueue[int] = SimpleQueue()
    for index in range(len(items)):
        todo.put(index)
    closed = threading.Event()

    def worker():
        while not closed.is_set():
            try:
                index = todo.get_nowait()
            except Empty:
                return
            try:
                futures[index].set_result(work(items[index]))
            except BaseException as error:
                futures[index].set_exception(error)

    for _ in range(min(threads, len(items))):
        threading.Thread(target=worker, daemon=True).start()
    try:
        for item, future in zip(items, futures, strict=True):
            yield item, future.result
    finally:
        closed.set()
