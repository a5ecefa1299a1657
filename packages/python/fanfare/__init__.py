"""Fanfare's client: follows topics over Server-Sent Events, comes back by itself, resumes, drops repeats, renews its token.

    async with fanfare.connect("https://live.example") as connection:
        async for event in connection.subscribe("live:42"):
            print(event["type"], event.get("data"))

`fanfare.sync` has the same without `async`.
"""

from .connection import Connection, connect
from .events import Event, From, Gap, Refused, State, StateChange
from .subscription import Subscription

__all__ = ["Connection", "Event", "From", "Gap", "Refused", "State", "StateChange", "Subscription", "connect"]
