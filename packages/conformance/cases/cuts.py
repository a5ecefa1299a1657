"""Connections that break."""

import asyncio

from faults import block, event

from . import case


def cut(data, how="reset"):
    """A case: an event is whole, and the next one is cut in `data`, which stands behind what makes it one."""
    async def play(x):
        s = await x.stream()
        s.open()
        s.send("c1")
        await x.shown("c1")
        if how == "chunk":
            # The chunk says that more would come.
            s.bare(f"{len(data) + 10:x}\r\n".encode() + data)
            s.hang_up()
        else:
            s.raw(data)
            # So that the client has read it before the connection breaks.
            await asyncio.sleep(0.1)
            s.reset() if how == "reset" else s.end()
        again = await x.stream()
        x.resumes(again, "t:1-0")
        again.open("t:1-0")
        again.send("c1", "c2", "c3")
        await x.shown("c1", "c2", "c3")
    return play


SECOND = block(event("c2", data={"text": "🎉"}), place="t:2-0")
for name, data, how, says in [
    ("cut_in_line", SECOND[:30], "reset", "in a line"),
    ("cut_in_character", SECOND[:SECOND.index("🎉".encode()) + 2], "reset", "in a character"),
    ("cut_behind_id", SECOND[:SECOND.index(b"\n") + 1], "reset", "behind an `id:` line, whose event so never came"),
    ("cut_behind_data", SECOND[:-1], "reset", "between an event's last line and the empty one that ends it"),
    ("cut_in_chunk", SECOND[:30], "chunk", "in a chunk of HTTP"),
    ("cut_by_the_end", SECOND[:-1], "end", "by an end that HTTP finds in order"),
    ("cut_in_heartbeat", b":", "reset", "in a comment line"),
]:
    play = cut(data, how)
    play.__name__ = name
    play.__doc__ = f"The connection breaks {says}: what was not whole is not shown and does not count, and the client goes on from the last whole `id:`."
    case()(play)


@case()
async def cut_before_the_first(x):
    """The connection breaks before any event: the client goes on from the `id:` of `connected`."""
    s = await x.stream()
    x.require(s.last_id is None, f"it begins at {s.last_id}")
    s.open("t:7-0")
    await x.state("open")
    s.reset()
    again = await x.stream()
    x.resumes(again, "t:7-0")
    again.open("t:7-0")
    again.send("c8")
    await x.shown("c8")


@case()
async def cut_twice(x):
    """The connection breaks, and the next one before anything came of it: the place is not forgotten. An event without an `id:` is no place."""
    s = await x.stream()
    s.open()
    s.send("c1")
    s.send("l2", type="typing", place=False)
    await x.shown("c1", "l2")
    s.reset()
    for _ in range(2):
        s = await x.stream()
        x.resumes(s, "t:1-0")
        s.reset()
    s = await x.stream()
    x.resumes(s, "t:1-0")
    s.open("t:1-0")
    s.send("c3")
    await x.shown("c1", "l2", "c3")


@case()
async def nobody_there(x):
    """The node is gone for a second, and nobody takes connections: the client comes back."""
    s = await x.stream()
    s.open()
    s.send("c1")
    await x.shown("c1")
    await x.server.away()
    s.reset()
    await asyncio.sleep(1)
    await x.server.listen()
    again = await x.stream()
    x.resumes(again, "t:1-0")
    again.open("t:1-0")
    again.send("c2")
    await x.shown("c1", "c2")
