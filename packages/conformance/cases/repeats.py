"""What comes twice, and what does not come any more."""

from . import case


@case(topics=("live:1", "live:2"))
async def repeats(x):
    """A resume repeats what was seen, of two topics: each event is shown once, in order. The same `id` on another topic is another event."""
    s = await x.stream()
    x.require(sorted(s.topics) == ["live:1", "live:2"], f"it asked for {s.topics}")
    s.open()
    for topic in ("live:1", "live:2"):
        s.send("c1", "c2", topic=topic)
    await x.shown("c1", "c2", "c1", "c2")
    s.reset()
    again = await x.stream()
    again.open("t:2-0")
    for topic in ("live:1", "live:2"):
        again.send("c1", "c2", topic=topic)
    again.send("c3")
    again.send("c3", "c4", topic="live:2")
    await x.shown("c1", "c2", "c1", "c2", "c3", "c3", "c4")


@case()
async def repeats_in_between(x):
    """A comment comes again on an open stream, under the same `id` and behind others: it is shown once."""
    s = await x.stream()
    s.open()
    s.send("c1", "c2", "c1", "c3", "c2", "c4")
    await x.shown("c1", "c2", "c3", "c4")


@case()
async def sums(x):
    """What has a `count` is never a repeat, whatever its `id`: each one is shown, also those that come again after a resume."""
    s = await x.stream()
    s.open()
    s.send("l1", "l1", type="like", key="like", count=2, place=False)
    await x.shown("l1", "l1")
    s.reset()
    again = await x.stream()
    again.open()
    again.send("l1", type="like", key="like", count=2, place=False)
    again.send("c2")
    await x.shown("l1", "l1", "l1", "c2")


@case()
async def gap(x):
    """A resume reaches back too far, and `gap` says so: the client tells its user, and goes on."""
    s = await x.stream()
    s.open()
    s.send("c1")
    await x.shown("c1")
    s.reset()
    again = await x.stream()
    again.open("t:1-0")
    again.control("gap", topic="live:1", after="t:1-0")
    again.send("c9")
    await x.shown("c1", "c9")
    x.require(x.gaps == [{"topic": "live:1", "after": "t:1-0"}], f"it told its user of the gaps {x.gaps}")


@case()
async def gap_unknown(x):
    """A `gap` whose `after` is null."""
    s = await x.stream()
    s.open()
    s.control("gap", topic="live:1", after=None)
    s.send("c1")
    await x.shown("c1")
    x.require(x.gaps == [{"topic": "live:1", "after": None}], f"it told its user of the gaps {x.gaps}")
