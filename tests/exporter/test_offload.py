import asyncio
import threading

import pytest

from tracekeep.exporter.offload import Lane
from tracekeep.storage import Unavailable


def test_work_runs_on_another_thread():
    """The event loop goes on meanwhile."""

    async def main():
        loop = threading.get_ident()
        assert await Lane("test", threads=1, waiting=1).run(threading.get_ident) != loop

    asyncio.run(main())


def test_no_more_run_and_wait_than_the_lane_says():
    """Two run, one waits, the fourth is refused at once; the others are answered."""
    lane = Lane("test", threads=2, waiting=1)
    gate = threading.Event()
    running = threading.Semaphore(0)

    def work():
        running.release()
        return gate.wait(10)

    async def main():
        tasks = [asyncio.create_task(lane.run(work)) for _ in range(3)]
        await asyncio.to_thread(running.acquire)
        await asyncio.to_thread(running.acquire)
        with pytest.raises(Unavailable, match="1 test requests are waiting already"):
            await lane.run(work)
        gate.set()
        assert await asyncio.gather(*tasks) == [True, True, True]

    asyncio.run(main())


def test_a_lane_serves_one_event_loop_after_another():
    """As each test, each `asyncio.run` and each thread with a loop has its own."""
    lane = Lane("test", threads=1, waiting=1)
    assert [asyncio.run(lane.run(lambda: 7)) for _ in range(2)] == [7, 7]
