"""ordered_map: results in input order, errors where their item is, nothing begun after it is closed."""

import threading

import pytest

from theory.cli.ordered_map import ordered_map


def test_results_come_in_input_order_whatever_the_order_of_work():
    second_is_done = threading.Event()

    def work(item):
        if item == 1:
            assert second_is_done.wait(10)
        if item == 2:
            second_is_done.set()
        return 10 * item

    assert [(item, result()) for item, result in ordered_map(work, [1, 2, 3], threads=2)] == [(1, 10), (2, 20), (3, 30)]


def test_an_error_is_raised_where_the_result_is_asked_for():
    results = list(ordered_map(lambda item: 1 // item, [1, 0, -1], threads=3))
    assert (results[0][1](), results[2][1]()) == (1, -1)
    with pytest.raises(ZeroDivisionError):
        results[1][1]()


def test_nothing_is_begun_after_the_iterator_is_closed():
    begun = []
    closed = threading.Event()

    def work(item):
        begun.append(item)
        if item == 1:
            assert closed.wait(10)

    results = ordered_map(work, [1, 2, 3], threads=1)
    _, first = next(results)
    results.close()
    closed.set()
    first()
    worker = next((thread for thread in threading.enumerate() if "work" in thread.name), None)
    if worker is not None:
        worker.join(10)
    assert begun == [1]
