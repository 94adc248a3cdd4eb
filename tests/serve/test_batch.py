"""At the desk: those who can go together do, each gets its own, nobody is lost, and nobody spoils it for others."""

import asyncio
import threading
import time

import numpy as np
import pytest

from omnisky.errors import BadPixels, Busy, Failed, ServiceError
from omnisky.observe.types import Observation, Scalars
from omnisky.serve.batch import Desk
from omnisky.serve.heads import Answers


def some(*values: float) -> Observation:
    numbers = np.array(values, dtype=float)[:, None]
    return Observation.of(range(len(values)), scalars=Scalars(values=numbers, names=("x",)))


class Doubling:
    """Work that remembers its batches, and can be held up."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go = threading.Event()
        self.begun = threading.Event()

    def __call__(self, seen: Observation) -> Answers:
        self.begun.set()
        assert self.go.wait(5)
        values = seen["scalars"].values[:, 0]
        if (values < 0).any():
            raise BadPixels(saw="a negative number")
        if (values == 13).any():
            raise ZeroDivisionError("13")
        self.batches.append(len(seen))
        return Answers(values=2 * values)


@pytest.fixture
def work():
    return Doubling()


def desk(waiting: int = 100, batch: int = 8, seconds: float = 5.0, **more) -> Desk:
    return Desk(waiting=waiting, batch=batch, seconds=seconds, **{"held_bytes": 1 << 20, **more})


async def behind(one: Desk, work: Doubling, asks: list) -> list:
    """The answers to these, that came while the desk was busy with another request."""
    first = asyncio.create_task(one.ask("first", some(0.0), work))
    await asyncio.to_thread(work.begun.wait, 5)
    tasks = [asyncio.create_task(one.ask(key, seen, work)) for key, seen in asks]
    while len(one) < len(asks):
        await asyncio.sleep(0.001)
    work.go.set()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_those_of_one_key_go_together_and_each_gets_its_own(work):
    heard = []
    one = desk(heard=lambda key, objects, seconds: heard.append((key, objects)))
    asks = [("a", some(1.0)), ("b", some(5.0)), ("a", some(2.0, 3.0)), ("a", some(4.0))]
    found = asyncio.run(behind(one, work, asks))
    assert [answer.values.tolist() for answer in found] == [[2], [10], [4, 6], [8]]
    assert work.batches == [1, 4, 1] and heard == [("first", 1), ("a", 4), ("b", 1)]
    one.close()


def test_a_batch_is_not_larger_than_told_but_a_request_may_be(work):
    found = asyncio.run(behind(desk(batch=3), work, [("a", some(*range(5))), *[("a", some(1.0))] * 4]))
    assert [len(answer) for answer in found] == [5, 1, 1, 1, 1]
    assert work.batches == [1, 5, 3, 1]


def test_a_lone_request_does_not_wait(work):
    work.go.set()
    start = time.perf_counter()
    asyncio.run(desk().ask("a", some(1.0), work))
    assert time.perf_counter() - start < 0.5  # no timer: a thread's start, on a busy machine


def test_one_spoils_nothing_for_the_others(work):
    found = asyncio.run(
        behind(desk(), work, [("a", some(1.0)), ("a", some(-1.0)), ("a", some(13.0)), ("a", some(2.0))])
    )
    assert [found[i].values.tolist() for i in (0, 3)] == [[2], [4]]
    assert isinstance(found[1], BadPixels) and isinstance(found[2], Failed) and "ZeroDivisionError" in str(found[2])


def test_too_many_are_sent_away_and_the_others_answered(work):
    one = desk(waiting=2)

    async def all_of_them():
        first = asyncio.create_task(one.ask("first", some(0.0), work))
        await asyncio.to_thread(work.begun.wait, 5)
        tasks = [asyncio.create_task(one.ask("a", some(float(i)), work)) for i in range(5)]
        await asyncio.sleep(0.01)
        work.go.set()
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(all_of_them())
    assert [type(answer) for answer in found] == [Answers, Answers, Busy, Busy, Busy]


def test_what_waits_is_bounded_in_bytes_but_a_lone_request_is_not(work):
    """A number has 8 bytes. When all are answered there is room again."""
    found = asyncio.run(behind(desk(held_bytes=24), work, [("a", some(1.0)), ("a", some(2.0))]))
    assert [answer.values.tolist() for answer in found] == [[2], [4]]
    one = desk(held_bytes=12)

    async def ask():
        first = asyncio.create_task(one.ask("first", some(0.0, 1.0), work))
        await asyncio.to_thread(work.begun.wait, 5)
        with pytest.raises(Busy, match="16 bytes waiting"):
            await one.ask("a", some(1.0), work)
        await first
        return await one.ask("a", some(1.0), work)

    work.go.clear()
    work.begun.clear()
    threading.Timer(0.2, work.go.set).start()
    assert asyncio.run(ask()).values.tolist() == [2]


def test_who_has_waited_too_long_is_told_and_not_worked_for(work):
    one = desk(seconds=0.05)

    async def ask():
        first = asyncio.create_task(one.ask("first", some(0.0), work))
        await asyncio.to_thread(work.begun.wait, 5)
        with pytest.raises(ServiceError, match=r"within 0\.05 s"):
            await one.ask("a", some(1.0), work)
        with pytest.raises(ServiceError):
            await first

    asyncio.run(ask())
    work.go.set()
    one.close()
    assert work.batches == [1]


def test_closing_answers_who_waits_and_takes_nobody_new(work):
    one = desk(batch=1)

    async def ask():
        tasks = [asyncio.create_task(one.ask(i, some(float(i)), work)) for i in range(6)]
        await asyncio.to_thread(work.begun.wait, 5)
        closing = asyncio.create_task(asyncio.to_thread(one.close))
        await asyncio.sleep(0.05)
        with pytest.raises(ServiceError, match="going down"):
            await one.ask("late", some(9.0), work)
        work.go.set()
        await closing
        return [task.result() if task.done() else await task for task in tasks]

    assert [answer.values.tolist() for answer in asyncio.run(ask())] == [[2 * i] for i in range(6)]


def test_who_left_is_not_answered_and_takes_no_place(work):
    """One that waits is never computed, one that is being computed ends at its next step."""
    ends = []

    def long(seen: Observation) -> Answers:
        work.begun.set()
        try:
            while True:
                one.go_on()
                time.sleep(0.001)
        finally:
            ends.append(len(seen))

    one = desk()

    async def leave() -> list:
        first = asyncio.create_task(one.ask("first", some(1.0), long))
        await asyncio.to_thread(work.begun.wait, 5)
        tasks = [asyncio.create_task(one.ask("a", some(float(i)), work)) for i in range(3)]
        while len(one) < 3:
            await asyncio.sleep(0.001)
        for task in (tasks[1], first):
            task.cancel()
        await asyncio.gather(tasks[1], first, return_exceptions=True)
        assert len(one) <= 2
        work.go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(leave())
    assert [answer.values.tolist() for answer in found[::2]] == [[0], [4]]
    assert isinstance(found[1], asyncio.CancelledError)
    assert work.batches == [2] and ends == [1]
    one.close()


def test_what_is_late_ends_at_its_next_step():
    one, ends = desk(seconds=0.1), threading.Event()

    def long(seen: Observation) -> Answers:
        try:
            while True:
                one.go_on()
                time.sleep(0.001)
        finally:
            ends.set()

    with pytest.raises(ServiceError, match="within"):
        asyncio.run(one.ask("a", some(1.0), long))
    assert ends.wait(5)
    one.close()
