"""What one part of a program hears of a topic."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Literal, overload

from .events import Event, From, Gap, Refused, State, StateChange
from .past import Start, past
from .server import Server

logger = logging.getLogger("fanfare")

#: Events that wait for who iterates. When as many do the stream is not read on, so that the server merges what comes.
WAITING_MAX = 1_000


class Handlers:
    """Who wants to hear what, by name."""

    def __init__(self) -> None:
        self._handlers: dict[str, list[Callable[[Any], None]]] = {}

    def on(self, name: str, handler: Callable[[Any], None]) -> Callable[[], None]:
        handlers = self._handlers.setdefault(name, [])
        handlers.append(handler)
        return lambda: handlers.remove(handler) if handler in handlers else None

    def emit(self, name: str, detail: Any) -> None:
        for handler in list(self._handlers.get(name, ())):
            try:
                handler(detail)
            except Exception:
                # A handler's mistake stops neither the stream nor another handler.
                logger.exception("a handler of %r failed", name)


class Subscription:
    """Gives its events to handlers, and to one `async for`, which ends when it is closed and raises `Refused` when it is refused."""

    def __init__(self, topic: str, types: Iterable[str] | None, from_: From | None, left: "Callable[[Subscription], None]") -> None:
        #: As the server writes it.
        self.topic = topic
        self._types = None if types is None else set(types)
        self._start = None if from_ is None else Start(from_)
        # What comes while the past is read.
        self._held: list[Event] | None = None if from_ is None else []
        self._left = left
        self._handlers = Handlers()
        self._state: State = "connecting"
        self._ended = False
        self._waiting: asyncio.Queue[Event | None] = asyncio.Queue()
        self._iterated = False
        self._roomy = asyncio.Event()
        self._roomy.set()
        self._refused: Refused | None = None

    @property
    def state(self) -> State:
        return self._state

    @overload
    def on(self, name: Literal["event"], handler: Callable[[Event], None]) -> Callable[[], None]: ...
    @overload
    def on(self, name: Literal["gap"], handler: Callable[[Gap], None]) -> Callable[[], None]: ...
    @overload
    def on(self, name: Literal["state"], handler: Callable[[StateChange], None]) -> Callable[[], None]: ...
    def on(self, name: str, handler: Callable[[Any], None]) -> Callable[[], None]:
        """Calls `handler` until the function that is given is called."""
        return self._handlers.on(name, handler)

    def close(self) -> None:
        """Nothing more of it reaches a handler. The last one of a topic takes the topic off the stream."""
        if not self._ended:
            while not self._waiting.empty():
                self._waiting.get_nowait()
            self._end({"state": "closed"})
            self._left(self)

    def __aiter__(self) -> "Subscription":
        self._iterated = True
        return self

    async def __anext__(self) -> Event:
        event = None if self._ended and self._waiting.empty() else await self._waiting.get()
        self._roomy.set()
        if event is not None:
            return event
        if self._refused:
            raise self._refused
        raise StopAsyncIteration

    # ---- for the connection

    def _end(self, change: StateChange) -> None:
        """For good."""
        self._moved(change)
        self._ended = True
        self._roomy.set()

    def _moved(self, change: StateChange) -> None:
        if self._ended or (change["state"] == self._state and "retry_s" not in change):
            return
        self._state = change["state"]
        if self._state == "closed":
            if "status" in change:
                self._refused = Refused(change["status"], change.get("detail", ""))
            self._waiting.put_nowait(None)
        self._handlers.emit("state", change)

    def _lacks(self, gap: Gap) -> None:
        if not self._ended:
            self._handlers.emit("gap", gap)

    def _take(self, event: Event) -> None:
        if self._held is not None:
            self._held.append(event)
        elif not self._ended and (self._types is None or event["type"] in self._types):
            # Before somebody iterates, events wait for that, too: as many as may wait.
            if self._iterated or self._waiting.qsize() < WAITING_MAX:
                self._waiting.put_nowait(event)
            self._handlers.emit("event", event)

    async def _room(self) -> None:
        """Until more can wait for who iterates."""
        while self._iterated and not self._ended and self._waiting.qsize() >= WAITING_MAX:
            self._roomy.clear()
            await self._roomy.wait()

    async def _begin(self, server: Server) -> None:
        """The topic is on the stream, so that between the past and the present nothing is missing."""
        if self._start is None:
            return
        start, self._start = self._start, None
        events, whole = await past(server, self.topic, start)
        held, self._held = self._held or [], None
        if not whole:
            self._lacks({"topic": self.topic, "after": None})
        known = {(event["type"], event["id"]) for event in events}
        for event in events:
            if event.get("shown") is not False:
                self._take(event)
        for event in held:
            if "count" in event or (event["type"], event["id"]) not in known:
                self._take(event)
