"""What the conformance run does not ask of the package: `from_`, `types`, loops, threads. Its server is the run's."""

import asyncio
import sys
import threading
import unittest
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import fanfare
import fanfare.sync
from fanfare.subscription import WAITING_MAX

sys.path.insert(0, str(Path(__file__).parents[2] / "conformance"))
from faults import Server, block, event  # type: ignore[import-not-found]  # noqa: E402

AT = 1_732_313_131_000


def listed(*numbers: int, more: bool = False) -> dict[str, Any]:
    """An answer of history."""
    return {"events": [event(f"c{number}", at=AT + number) | {"position": f"t:{number}-0"} for number in numbers], "more": more}


class Package(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        self.server = Server()
        await self.server.listen()
        self.addCleanup(self.server.close)

    async def connect(self, **options: Any) -> fanfare.Connection:
        connection = fanfare.connect(self.server.url, **options)
        self.addAsyncCleanup(connection.close)
        return connection

    async def next(self, queue: "asyncio.Queue[Any]") -> Any:
        return await asyncio.wait_for(queue.get(), 30)

    async def test_loop_gives_its_types_in_order_and_ends_when_closed(self) -> None:
        connection = await self.connect(member="ana")
        live = connection.subscribe("live:1", types=["comment"])
        seen: list[str] = []

        async def follow() -> None:
            async for one in live:
                seen.append(one["id"])
                if one["id"] == "c2":
                    live.close()

        following = asyncio.create_task(follow())
        stream = await self.next(self.server.streams)
        self.assertEqual(stream.query["member"], ["ana"])
        stream.open()
        stream.send("c1")
        stream.send("l1", type="like", count=1, place=False)
        stream.send("c2", "c3")
        await asyncio.wait_for(following, 30)
        self.assertEqual((seen, live.state), (["c1", "c2"], "closed"))

    async def test_loop_over_what_may_not_be_had_says_so(self) -> None:
        connection = await self.connect()
        live = connection.subscribe("live:1")
        for _ in range(2):
            (await self.next(self.server.streams)).answer(403, {"detail": "not yours", "status": 403})
        with self.assertRaises(fanfare.Refused) as refused:
            await asyncio.wait_for(anext(live), 30)
        self.assertEqual((refused.exception.status, refused.exception.detail), (403, "not yours"))

    async def test_past_comes_first_in_its_order_and_once(self) -> None:
        connection = await self.connect()
        seen: list[str] = []
        live = connection.subscribe("live:1", from_="earliest")
        live.on("event", lambda one: seen.append(one["id"]))
        stream = await self.next(self.server.streams)
        stream.open()
        first = await self.next(self.server.posts)
        self.assertEqual((first.path, first.query), ("/v1/topics/live:1/events", {"limit": ["200"]}))
        # It comes live while the past is read.
        came = asyncio.Event()
        connection.on("event", lambda one: came.set())
        stream.send("c4")
        await asyncio.wait_for(came.wait(), 30)
        first.answer(200, listed(3, 4, more=True))
        second = await self.next(self.server.posts)
        self.assertEqual(second.query, {"limit": ["200"], "before": ["t:3-0"]})
        second.answer(200, listed(1, 2))
        async for one in live:
            self.assertNotIn("position", one)
            if one["id"] == "c4":
                break
        self.assertEqual(seen, ["c1", "c2", "c3", "c4"])

    async def test_past_is_a_number_of_events_or_a_time(self) -> None:
        connection = await self.connect()
        connection.subscribe("live:1")
        (await self.next(self.server.streams)).open()
        opened = asyncio.Event()
        connection.on("connected", lambda hello: opened.set())
        await asyncio.wait_for(opened.wait(), 30)
        begins: list[tuple[fanfare.From, list[str], str]] = [
            (-2, ["c2", "c3"], "2"),
            (AT + 3, ["c3"], "200"),
            (datetime.fromtimestamp((AT + 3) / 1_000, timezone.utc), ["c3"], "200"),
        ]
        for from_, expected, limit in begins:
            live = connection.subscribe("live:1", from_=from_)
            request = await self.next(self.server.posts)
            self.assertEqual(request.query["limit"], [limit])
            request.answer(200, listed(*range(4 - min(3, int(limit)), 4), more=True))
            self.assertEqual([(await asyncio.wait_for(anext(live), 30))["id"] for _ in expected], expected)
            live.close()
        with self.assertRaises(ValueError):
            connection.subscribe("live:1", from_="yesterday")  # type: ignore[arg-type]

    async def test_past_that_cannot_be_had_is_a_gap(self) -> None:
        connection = await self.connect()
        gaps: list[fanfare.Gap] = []
        live = connection.subscribe("live:1", from_=-5)
        live.on("gap", gaps.append)
        stream = await self.next(self.server.streams)
        stream.open()
        (await self.next(self.server.posts)).answer(404, {"detail": "no such page"})
        stream.send("c1")
        self.assertEqual((await asyncio.wait_for(anext(live), 30))["id"], "c1")
        self.assertEqual(gaps, [{"topic": "live:1", "after": None}])

    async def test_later_subscription_of_a_topic_is_told_what_is_newest(self) -> None:
        connection = await self.connect()
        first = connection.subscribe("live:1")
        stream = await self.next(self.server.streams)
        stream.open()
        stream.send("v1", "v2", type="viewers", place=False)
        await asyncio.wait_for(anext(first), 30)
        await asyncio.wait_for(anext(first), 30)
        first.close()
        second = connection.subscribe("live:1")
        self.assertEqual((await asyncio.wait_for(anext(aiter(second)), 30))["id"], "v2")
        self.assertTrue(self.server.posts.empty(), "nothing was to be changed")

    async def test_slow_loop_has_the_stream_wait(self) -> None:
        connection = await self.connect()
        live = aiter(connection.subscribe("live:1"))
        stream = await self.next(self.server.streams)
        stream.open(heartbeat_ms=200)

        async def beat() -> None:
            while True:
                stream.raw(b":\n")
                await asyncio.sleep(0.05)

        beating = asyncio.create_task(beat())
        self.addCleanup(beating.cancel)
        count = 3 * WAITING_MAX
        for number in range(count):
            stream.send(f"c{number}")
        ids = [(await asyncio.wait_for(anext(live), 30))["id"]]
        # As long as it stands still, no more than what may wait, and what came in one piece with the last of it.
        for _ in range(20):
            await asyncio.sleep(0.05)
            self.assertLess(live._waiting.qsize(), count - WAITING_MAX)
        while len(ids) < count:
            ids.append((await asyncio.wait_for(anext(live), 30))["id"])
        self.assertEqual(ids, [f"c{number}" for number in range(count)])
        self.assertTrue(self.server.streams.empty(), "it took its own pause for the server's silence")

    async def test_token_function_may_block_or_not(self) -> None:
        async def awaited() -> str:
            return "awaited"

        threads: list[threading.Thread] = []

        def blocking() -> str:
            threads.append(threading.current_thread())
            return "blocked"

        functions: list[tuple[Callable[[], str | Awaitable[str]], str]] = [
            (awaited, "awaited"), (lambda: awaited(), "awaited"), (blocking, "blocked"),
        ]
        for function, expected in functions:
            connection = fanfare.connect(self.server.url, token=function)
            self.assertEqual((await self.next(self.server.streams)).token, expected)
            await connection.close()
        self.assertNotIn(threading.main_thread(), threads)

    async def test_handler_that_fails_stops_nobody(self) -> None:
        connection = await self.connect()
        live = connection.subscribe("live:1")

        def fails(one: fanfare.Event) -> None:
            raise RuntimeError("the handler's")

        live.on("event", fails)
        (stream := await self.next(self.server.streams)).open()
        with self.assertLogs("fanfare", "ERROR"):
            stream.send("c1")
            await asyncio.wait_for(anext(live), 30)
        self.assertEqual(connection.state, "open")

    async def test_what_is_no_event_ends_nothing(self) -> None:
        connection = await self.connect()
        live = connection.subscribe("live:1")
        (stream := await self.next(self.server.streams)).open()
        for data in ({}, {"topic": "live:1"}, {"topic": 7, "id": []}):
            stream.raw(block(data))
        for name in ("connected", "gap", "bye"):
            stream.raw(block([], name))
        stream.send("c1")
        self.assertEqual((await asyncio.wait_for(anext(live), 30))["id"], "c1")

    async def test_cut_in_the_moment_of_closing_is_no_reason_to_come_back(self) -> None:
        connection = await self.connect()
        await self.next(self.server.streams)
        asked = 0

        async def fails() -> bool:
            nonlocal asked
            asked += 1
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ExceptionGroup("as a group of tasks does", [OSError("cut")]) from None
            return True

        connection._attempt = fails  # type: ignore[method-assign]
        connection.reconnect()
        while asked == 0:
            await asyncio.sleep(0)
        connection.reconnect()
        while asked == 1:
            await asyncio.sleep(0)
        await asyncio.wait_for(connection.close(), 30)
        self.assertEqual((asked, connection.state), (2, "closed"))

    async def test_without_async(self) -> None:
        def follow(url: str) -> list[str]:
            with fanfare.sync.connect(url) as connection:
                live = connection.subscribe("live:1")
                ids = []
                for one in live:
                    ids.append(one["id"])
                    if one["id"] == "c2":
                        live.close()
                return ids

        loop = asyncio.get_running_loop()
        ids: asyncio.Future[list[str]] = loop.create_future()
        # Not one of the loop's own, for which it would wait also when it fails.
        threading.Thread(target=lambda: loop.call_soon_threadsafe(ids.set_result, follow(self.server.url)), daemon=True).start()
        (stream := await self.next(self.server.streams)).open()
        stream.send("c1", "c2", "c3")
        self.assertEqual(await asyncio.wait_for(ids, 30), ["c1", "c2"])


if __name__ == "__main__":
    unittest.main()
