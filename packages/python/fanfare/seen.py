"""Which events came already. A resume repeats what came in the ten seconds before it, of another data center in the minute before it."""

from .events import Event

SEEN_MIN = 1_000
SEEN_MS = 70_000
SEEN_MAX = 20_000


class Seen:
    """What came of one topic."""

    def __init__(self) -> None:
        # Names, with the server's time, and the types whose events have places.
        self._names: dict[str, int] = {}
        self._placed: set[str] = set()

    def take(self, event: Event, placed: bool) -> bool:
        """Whether this one is new, which it then no longer is; `placed`: it had an `id:` line, and so is of class `every`."""
        if placed:
            self._placed.add(event["type"])
        # A sum has the id of the newest event in it, and another one may begin with the same.
        if event["type"] not in self._placed or "count" in event:
            return True
        # A type has one class, so with the type in its name only an event of class `every` is ever taken for a repeat.
        names, name = self._names, f"{event['type']} {event['id']}"
        if name in names:
            return False
        names[name] = event["at"]
        while len(names) > SEEN_MIN:
            oldest = next(iter(names))
            if len(names) <= SEEN_MAX and names[oldest] > event["at"] - SEEN_MS:
                break
            del names[oldest]
        return True
