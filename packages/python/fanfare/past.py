"""What history has of a topic, for who subscribes from a place in the past."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from urllib.parse import quote

from .events import Event, From
from .server import Server, backoff

#: The server lists no more at once.
PAGE_MAX = 200
#: More than this is no stream's beginning, and would be held in memory.
EVENTS_MAX = 10_000


@dataclass
class Start:
    count: int
    since: float

    def __init__(self, where: From) -> None:
        if isinstance(where, datetime):
            where = where.timestamp() * 1_000
        if not isinstance(where, (int, float)) and where != "earliest":
            raise ValueError(f'from_ must be "earliest", -100 (events) or a time, not {where!r}')
        number = 0 if where == "earliest" else where
        self.count = min(EVENTS_MAX, -int(number)) if number < 0 else EVENTS_MAX
        self.since = max(0, number)


async def past(server: Server, topic: str, start: Start) -> tuple[list[Event], bool]:
    """
    Reads from the newest event back to where it is to begin. Gives the events in their order; False says that some may be missing, since
    they were too many or history could not be had.
    """
    found: list[dict[str, Any]] = []
    tries = 0
    while True:
        query = {"limit": str(min(PAGE_MAX, start.count - len(found)))} | ({"before": found[0]["position"]} if found else {})
        answer = await server.get(f"/v1/topics/{quote(topic, safe='')}/events", query)
        if answer.body is None:
            if not answer.passing:
                return events(found), False
            await asyncio.sleep(max(answer.retry_s, backoff(tries)))
            tries += 1
            continue
        listed, more = answer.body["events"], answer.body["more"]
        found = listed + found
        earlier = bool(found) and found[0]["at"] < start.since
        if len(found) >= start.count or earlier or not more or not listed:
            return events([one for one in found if one["at"] >= start.since]), not more or start.count < EVENTS_MAX or earlier


def events(found: list[dict[str, Any]]) -> list[Event]:
    """As they are on a stream."""
    return [cast(Event, {name: value for name, value in one.items() if name != "position"}) for one in found]
