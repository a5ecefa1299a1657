"""What a stream tells, and its words for it."""

from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict


class Event(TypedDict):
    """One thing that happened on a topic."""

    id: str
    topic: str
    type: str
    #: When the first Fanfare node took it, Unix ms by the server's clock.
    at: int
    key: NotRequired[str]
    #: How many events it stands for; of class `sum` only.
    count: NotRequired[int]
    #: How many of each key, where not all are of `key`; what has no key is the rest of `count`.
    counts: NotRequired[dict[str, int]]
    #: Some of whom it speaks, where it stands for several.
    members: NotRequired[list[str]]
    #: So many of its topic and type were left out before it.
    skipped: NotRequired[int]
    #: It comes only since all of its type was asked for.
    shown: NotRequired[Literal[False]]
    data: NotRequired[Any]


class Gap(TypedDict):
    """Events of class `every` of this topic may be missing, behind this place; None if that is not known."""

    topic: str
    after: str | None


State = Literal["connecting", "open", "reconnecting", "closed"]


class StateChange(TypedDict):
    """`status` and `detail` are what the server answered; with `closed` it refused, and is not asked again."""

    state: State
    #: In how many seconds the next try is; only where one waits.
    retry_s: NotRequired[float]
    status: NotRequired[int]
    detail: NotRequired[str]


#: "earliest": all that history has; a number below 0: so many of the newest; a time, also in Unix ms: what came since.
From = Literal["earliest"] | int | float | datetime


class Refused(Exception):
    """The server does not let this client have what it asked for."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status, self.detail = status, detail
