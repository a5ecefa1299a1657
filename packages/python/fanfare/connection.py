"""One stream for all subscriptions. It comes back by itself until it is closed or refused."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Any, Literal, overload

import httpx

from .blocks import Block, Blocks
from .events import Event, From, Gap, State, StateChange
from .seen import Seen
from .server import Answer, Server, Token, answer_of, backoff
from .subscription import Handlers, Subscription, logger

RETRY_S_MAX = 300.0
#: `connected` comes a second after the request at the latest; the rest is for slow networks.
CONNECT_S_MAX = 20.0
#: A stream that lived shorter than this does not count as a success, or a server that falls over at once is hammered.
STABLE_S = 10.0
#: Heartbeats may come a quarter late; after two of them are missed the connection is dead.
HEARTBEATS_MISSED_MAX = 2
#: Types of which a server tells the newest value to each new subscriber: it is told once for all subscriptions of a topic.
LATEST = {"likes", "viewers", "receipt", "presence", "rules"}
LATEST_MAX = 256


def normal(topic: str) -> str:
    """As the server writes a topic: two spellings are one (RFC 3986, 6.2.2)."""

    def one(escape: re.Match[str]) -> str:
        character = chr(int(escape[0][1:], 16))
        return character if re.fullmatch(r"[A-Za-z0-9_.~-]", character) else escape[0].upper()

    return re.sub("%[0-9a-fA-F]{2}", one, topic)


class Topic:
    """What is known of a topic that is wanted."""

    def __init__(self) -> None:
        self.subscriptions: list[Subscription] = []
        self.seen = Seen()
        self.newest: dict[tuple[str, str, str], Event] = {}


class Again(Exception):
    """The stream is over, and another one is wanted after a while."""

    def __init__(self, answer: Answer | None = None, retry_s: float | None = None, detail: str | None = None) -> None:
        self.retry_s = answer.retry_s if answer else retry_s
        self.status = answer.status if answer else None
        self.detail = answer.detail if answer else detail


class Connection:
    """Made by `connect`; see there."""

    def __init__(self, url: str, token: Token | None, member: str | None, all: Iterable[str], client: httpx.AsyncClient | None) -> None:
        self._client = client or httpx.AsyncClient(follow_redirects=True)
        self._owns_client = client is None
        self._server = Server(url, token, self._client)
        self._more = [*(("all", type) for type in all), *([("member", member)] if member else [])]
        self._picky = bool(list(all))
        self._handlers = Handlers()
        # What is wanted; what the open stream has; what a stream had before, so is not what the server refuses; what is
        # asked for where not everything can be had.
        self._topics: dict[str, Topic] = {}
        self._served: set[str] = set()
        # The newest values of topics that nobody wants and the open stream has still.
        self._left: dict[str, dict[tuple[str, str, str], Event]] = {}
        self._good: set[str] = set()
        self._only: set[str] | None = None
        self._state: State = "connecting"
        self._ended = False
        self._attempts = 0
        self._opened_at: float | None = None
        self._pause_s = 0.0
        self._connection = ""
        self._silence_s: float | None = None
        self._position = ""
        self._asked = False
        self._changes = asyncio.Event()
        # Those that read a subscription's past.
        self._beginning: set[asyncio.Task[None]] = set()
        self._running = asyncio.create_task(self._run())

    @property
    def state(self) -> State:
        return self._state

    @overload
    def on(self, name: Literal["event"], handler: Callable[[Event], None]) -> Callable[[], None]: ...
    @overload
    def on(self, name: Literal["gap"], handler: Callable[[Gap], None]) -> Callable[[], None]: ...
    @overload
    def on(self, name: Literal["state"], handler: Callable[[StateChange], None]) -> Callable[[], None]: ...
    @overload
    def on(self, name: Literal["connected", "token", "bye"], handler: Callable[[dict[str, Any]], None]) -> Callable[[], None]: ...
    def on(self, name: str, handler: Callable[[Any], None]) -> Callable[[], None]:
        """As of a subscription, for all of them: each event once. Also `connected`, `token` and `bye`, as the stream has them."""
        return self._handlers.on(name, handler)

    def subscribe(self, topic: str, *, types: Iterable[str] | None = None, from_: From | None = None) -> Subscription:
        """
        Follows a topic, or all topics that begin so (`chat:crew.*`), up to 100 on one connection: `types` that are wanted, default all;
        `from_` where to begin in the past, with events of class `every`, default now, and not of a prefix.
        """
        if self._ended:
            raise RuntimeError("The connection is closed.")
        name = normal(topic)
        subscription = Subscription(name, types, from_, self._leave)
        known = self._topics.setdefault(name, Topic())
        known.subscriptions.append(subscription)
        if self._state == "open" and name in self._served:
            known.newest = self._left.pop(name, known.newest)
            # The server has told what is newest; handlers are there in a moment.
            asyncio.get_running_loop().call_soon(self._join, subscription, known)
        self._changed()
        return subscription

    def reconnect(self) -> None:
        """Connects anew at once: after a sign-in, or to try again what was refused. Does nothing once closed by `close`."""
        if not self._ended:
            self._running.cancel()
            self._attempts, self._asked = 0, False
            self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._ended:
            return
        self._ended = True
        tasks = {self._running, *self._beginning}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._set({"state": "closed"})
        if self._owns_client:
            await self._client.aclose()

    async def __aenter__(self) -> "Connection":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        await self.close()

    # ---- the life of a stream

    async def _run(self) -> None:
        """Stream after stream."""
        while True:
            again = Again()
            try:
                if not await self._attempt():
                    return
            except* Again as reasons:
                again = next(reason for reason in reasons.exceptions if isinstance(reason, Again))
            except* TimeoutError:
                again = Again(detail="The server fell silent, or did not answer in time.")
            except* (httpx.HTTPError, OSError) as errors:
                again = Again(detail=f"The connection broke: {errors.exceptions[0]!r}")
            except* Exception as errors:
                # Something that no server sends. Who waits is not left to wait for a stream that nobody reads.
                logger.exception("the stream could not be read")
                again = Again(detail=f"The stream could not be read: {errors.exceptions[0]!r}")
            if self._ended or asyncio.current_task() is not self._running:
                # A group of tasks that fails in the moment in which it is cancelled only fails (CPython 3.11 and 3.12).
                return
            wait_s = self._wait(again.retry_s)
            change: StateChange = {"state": "reconnecting", "retry_s": wait_s}
            if again.status is not None:
                change["status"] = again.status
            if again.detail is not None:
                change["detail"] = again.detail
            self._set(change)
            await asyncio.sleep(wait_s)

    def _wait(self, retry_s: float | None) -> float:
        """The backoff, and not before what the server asked for."""
        if self._opened_at is not None and time.monotonic() - self._opened_at >= STABLE_S:
            self._attempts = 0
        self._opened_at = None
        asked = min(RETRY_S_MAX, self._pause_s if retry_s is None else max(0.0, retry_s))
        # The server's `retry:` is another one for each client, so it spreads those that were cut; from then on chance does.
        spread = retry_s is None and self._pause_s > 0 and self._attempts == 0
        wait_s = asked if spread else max(asked, backoff(self._attempts))
        self._attempts += 1
        return wait_s

    async def _attempt(self) -> bool:
        """One request for a stream, to the stream's end, and what is done beside it. False: it is refused."""
        async with asyncio.TaskGroup() as self._beside:
            # Until `connected`, and then until the next bytes.
            async with asyncio.timeout(CONNECT_S_MAX) as limit:
                try:
                    await self._server.token()
                except Exception as error:
                    raise Again(detail=f"No token could be had: {error!r}") from error
                # Topics that are added in the same turn go with the request.
                await asyncio.sleep(0)
                topics = [topic for topic in self._topics if self._only is None or topic in self._only]
                query = [*(("topic", topic) for topic in topics), *self._more]
                async with self._server.stream(query, self._position) as response:
                    if response.status_code != 200:
                        await response.aread()
                        return self._refused(answer_of(response), topics)
                    if not response.headers.get("Content-Type", "").lower().startswith("text/event-stream"):
                        # Some network's own page, say, that wants somebody to sign in.
                        raise Again(Answer(200, "What answered is no stream."))
                    await self._read(response.aiter_bytes(), topics, limit)
            raise Again

    async def _read(self, stream: AsyncIterator[bytes], topics: list[str], limit: asyncio.Timeout) -> None:
        blocks, now = Blocks(), asyncio.get_running_loop().time
        async for data in stream:
            for block in blocks.push(data):
                self._hear(block, topics)
            if self._opened_at is None:
                continue
            # Who reads slowly is not to take that for the server's silence.
            limit.reschedule(None)
            for topic in list(self._topics.values()):
                for subscription in list(topic.subscriptions):
                    await subscription._room()
            limit.reschedule(None if self._silence_s is None else now() + self._silence_s)

    def _hear(self, block: Block, topics: list[str]) -> None:
        if block.retry_ms is not None:
            self._pause_s = min(RETRY_S_MAX, block.retry_ms / 1_000)
        if block.place is not None:
            self._position = block.place
        try:
            data = json.loads("\n".join(block.data))
        except ValueError:
            return
        if not isinstance(data, dict):
            return
        if block.name in ("", "message"):
            self._receive(data, block.place is not None)  # type: ignore[arg-type]
        elif block.name == "connected":
            self._opened(data, topics)
        elif block.name == "gap":
            self._lacks({"topic": data.get("topic", ""), "after": data.get("after")})
        elif block.name == "token":
            self._handlers.emit("token", data)
            if self._server.renews:
                self._beside.create_task(self._renew())
        elif block.name == "bye":
            if data.get("reason") == "token":
                self._server.forget()
            self._handlers.emit("bye", data)
            raise Again(retry_s=float(data.get("retry_ms") or 0) / 1_000)

    def _opened(self, data: dict[str, Any], topics: list[str]) -> None:
        self._connection = str(data.get("connection"))
        heartbeat_ms = data.get("heartbeat_ms")
        self._silence_s = HEARTBEATS_MISSED_MAX * heartbeat_ms / 1_000 if heartbeat_ms else None
        self._opened_at = time.monotonic()
        self._left.clear()
        self._served, self._good = set(topics), set(topics)
        self._asked = False
        self._set({"state": "open"})
        self._begin(topics)
        self._handlers.emit("connected", data)
        self._beside.create_task(self._sync())

    def _refused(self, answer: Answer, topics: list[str]) -> bool:
        """What was asked for is not given. False: that is the end."""
        if answer.status == 401 and self._server.renews and not self._asked:
            # The token may have ended while this device slept. Once is enough: a fresh one that is refused stays refused.
            self._asked = True
            self._server.forget()
            raise Again(answer)
        if answer.passing:
            raise Again(answer)
        if answer.status in (400, 403) and topics and not self._picky:
            # One topic refuses the whole request: what was good before goes on, and the others are added one by one.
            good = [topic for topic in topics if topic in self._good]
            self._only = set(good) if len(good) < len(topics) else set()
            if not self._only:
                # What is added to a stream begins anew.
                for topic in good:
                    self._lacks({"topic": topic, "after": self._position or None})
            raise Again(retry_s=0)
        self._set({"state": "closed", "status": answer.status, "detail": answer.detail})
        return False

    def _set(self, change: StateChange) -> None:
        if change["state"] == self._state and "retry_s" not in change:
            return
        self._state = change["state"]
        for name, topic in list(self._topics.items()):
            if self._state != "open" or name in self._served:
                for subscription in list(topic.subscriptions):
                    subscription._moved(change)
        self._handlers.emit("state", change)

    # ---- topics

    def _join(self, subscription: Subscription, topic: Topic) -> None:
        if self._state == "open":
            self._begin_one(subscription)
            for event in list(topic.newest.values()):
                subscription._take(event)

    def _leave(self, subscription: Subscription) -> None:
        topic = self._topics.get(subscription.topic)
        if topic and subscription in topic.subscriptions:
            topic.subscriptions.remove(subscription)
            if not topic.subscriptions:
                del self._topics[subscription.topic]
                self._left[subscription.topic] = topic.newest
                self._changed()

    def _begin(self, topics: Iterable[str]) -> None:
        """These are on the stream."""
        for name in topics:
            topic = self._topics.get(name)
            for subscription in list(topic.subscriptions) if topic else ():
                self._begin_one(subscription)

    def _begin_one(self, subscription: Subscription) -> None:
        subscription._moved({"state": "open"})
        task = asyncio.create_task(subscription._begin(self._server))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    def _changed(self) -> None:
        self._changes.set()
        # What was refused was another set of topics.
        if self._state == "closed" and not self._ended:
            self.reconnect()

    async def _sync(self) -> None:
        """Changes the open stream's topics until they are what is wanted, one request at a time."""
        tries, most = 0, 100
        while True:
            add = [topic for topic in self._topics if topic not in self._served][:most]
            remove = [topic for topic in self._served if topic not in self._topics]
            if not add and not remove:
                self._only, most = None, 100
                self._changes.clear()
                await self._changes.wait()
                continue
            answer = await self._server.post(self._path("topics"), {"add": add, "remove": remove})
            if answer.status == 200:
                self._served.update(add)
                self._served.difference_update(remove)
                self._good = set(self._served)
                if self._only is not None:
                    self._only.update(add)
                for topic in remove:
                    self._left.pop(topic, None)
                self._begin(add)
                tries = 0
            elif answer.passing:
                await asyncio.sleep(max(answer.retry_s, backoff(tries)))
                tries += 1
            elif answer.status in (401, 412) or not add:
                # The connection is gone, or its token: a new stream has the full set.
                raise Again(answer)
            elif len(add) > 1:
                # One forbidden topic refuses the whole request; alone, the others are taken.
                most = 1
            else:
                refused = self._topics.pop(add[0], Topic()).subscriptions
                for subscription in refused:
                    subscription._end({"state": "closed", "status": answer.status, "detail": answer.detail})

    # ---- events

    def _receive(self, event: Event, placed: bool) -> None:
        # Events of a removed topic can be on their way still.
        topics = self._of(event.get("topic", "")) if {"id", "type", "at"} <= event.keys() else []
        topics = [topic for topic in topics if topic.seen.take(event, placed)]
        for topic in topics:
            if event["type"] in LATEST:
                name = (event["topic"], event["type"], event.get("key", ""))
                topic.newest.pop(name, None)
                topic.newest[name] = event
                if len(topic.newest) > LATEST_MAX:
                    del topic.newest[next(iter(topic.newest))]
            for subscription in list(topic.subscriptions):
                subscription._take(event)
        if topics:
            self._handlers.emit("event", event)

    def _of(self, name: str) -> list[Topic]:
        """What is wanted that an event of this topic is of: the topic, and prefixes of it."""
        return [topic for wanted, topic in self._topics.items() if wanted == name or (wanted.endswith("*") and name.startswith(wanted[:-1]))]

    def _lacks(self, gap: Gap) -> None:
        for topic in self._of(gap["topic"]):
            for subscription in list(topic.subscriptions):
                subscription._lacks(gap)
        self._handlers.emit("gap", gap)

    # ---- requests

    async def _renew(self) -> None:
        """Renews an open stream's rights."""
        tries = 0
        while True:
            try:
                answer = await self._server.post(self._path("token"), {"token": await self._server.fresh()})
            except Exception as error:
                answer = Answer(0, f"No token could be had: {error!r}")
            if answer.status == 204:
                return
            if not answer.passing:
                # Gone, or the token of another member: only a new stream can have it.
                raise Again(answer)
            # If it stays away until the token ends, `bye` says so.
            await asyncio.sleep(max(answer.retry_s, backoff(tries)))
            tries += 1

    def _path(self, what: str) -> str:
        return f"/v1/connections/{self._connection}/{what}"


def connect(
    url: str,
    *,
    token: Token | None = None,
    member: str | None = None,
    all: Iterable[str] = (),
    client: httpx.AsyncClient | None = None,
) -> Connection:
    """
    Opens a connection to `url`, where Fanfare is; to be called where an event loop runs.

    `token`, or a function that gives one: asked at first, before the token ends, and when the server no longer takes it. `member`: who
    watches, where the server has `--auth none`. `all`: types with a pace of which every event is wanted, for who may moderate the topics.
    `client`: one with settings of yours; it is not closed.
    """
    return Connection(url, token, member, list(all), client)
