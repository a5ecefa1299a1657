"""The same for programs without an event loop: it runs in a thread of its own.

    with fanfare.sync.connect("https://live.example") as connection:
        for event in connection.subscribe("live:42"):
            print(event["type"], event.get("data"))
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from . import connection as streams
from . import subscription as subscriptions
from .events import Event, From, State
from .server import Token

T = TypeVar("T")


class Subscription:
    """Handlers are called in the connection's thread."""

    def __init__(self, owner: "Connection", inner: subscriptions.Subscription) -> None:
        self._owner, self._inner = owner, inner

    @property
    def topic(self) -> str:
        return self._inner.topic

    @property
    def state(self) -> State:
        return self._inner.state

    def on(self, name: Any, handler: Callable[[Any], None]) -> Callable[[], None]:
        return self._inner.on(name, handler)

    def close(self) -> None:
        self._owner._call(self._inner.close)

    def __iter__(self) -> Iterator[Event]:
        aiter(self._inner)
        while True:
            try:
                yield self._owner._wait(self._inner.__anext__())
            except StopAsyncIteration:
                return


class Connection:
    def __init__(self, url: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fanfare", daemon=True)
        self._thread.start()
        self._inner = self._call(lambda: streams.connect(url, **options))

    @property
    def state(self) -> State:
        return self._inner.state

    def on(self, name: Any, handler: Callable[[Any], None]) -> Callable[[], None]:
        return self._inner.on(name, handler)

    def subscribe(self, topic: str, *, types: Iterable[str] | None = None, from_: From | None = None) -> Subscription:
        return Subscription(self, self._call(lambda: self._inner.subscribe(topic, types=types, from_=from_)))

    def reconnect(self) -> None:
        self._call(self._inner.reconnect)

    def close(self) -> None:
        if self._thread.is_alive():
            self._wait(self._inner.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _call(self, act: Callable[[], T]) -> T:
        async def in_loop() -> T:
            return act()

        return self._wait(in_loop())


def connect(
    url: str, *, token: Token | None = None, member: str | None = None, all: Iterable[str] = ()
) -> Connection:
    """As `fanfare.connect`."""
    return Connection(url, token=token, member=member, all=list(all))
