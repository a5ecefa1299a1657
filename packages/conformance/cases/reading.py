"""How a stream is read, and when it counts as dead."""

import asyncio
import json

from faults import block, event

from . import case


@case()
async def bytes_apart(x):
    """Each byte comes by itself, also those of one character: events are the same."""
    s = await x.stream()
    s.open()
    text = "zażółć 🎉"
    for byte in block(event("c1", data={"text": text}), place="t:1-0"):
        s.raw(bytes([byte]))
        await asyncio.sleep(0.001)
    s.send("c2")
    await x.shown("c1", "c2")
    x.require(x.events[0]["data"] == {"text": text}, f"the text became {x.events[0]['data']}")


@case()
async def one_piece(x):
    """Many events come in one piece, the first with `connected`: each is shown."""
    s = await x.stream()
    names = [f"c{number}" for number in range(1, 201)]
    s.begin()
    hello = {"connection": "c1", "node": "n1", "heartbeat_ms": 60_000, "pending": []}
    s.raw(block(hello, "connected", "t:0-0", 50) + b"".join(block(event(name), place=f"t:{name[1:]}-0") for name in names))
    await x.shown(*names)


@case()
async def other_lines(x):
    """Lines that end in CR LF, data in two lines, fields without a space or a value, comments, events and fields of names that nobody
    knows: what is no event is passed over, and ends nothing."""
    s = await x.stream()
    s.open()
    s.raw(block(event("c1"), place="t:1-0", end="\r\n"))
    await x.shown("c1")
    s.raw(b":\n: a comment\nnonsense: 1\nretry: soon\ndata\n\n")
    s.raw(block({"what": "is this"}, "news"))
    first, second = json.dumps(event("c2")).split(", ", 1)
    s.raw(f"id:t:2-0\ndata:{first},\ndata: {second}\n\n".encode())
    for data in (b"{", b"null", b"7", b"[]"):
        s.raw(b"data: " + data + b"\n\n")
    s.send("c3")
    await x.shown("c1", "c2", "c3")


@case()
async def heartbeats(x):
    """Comment lines come in time for much longer than `heartbeat_ms`: they are no events, and the stream stays."""
    s = await x.stream()
    s.open(heartbeat_ms=1_500)
    for _ in range(9):
        await asyncio.sleep(0.5)
        s.raw(b":\n")
    s.send("c1")
    await x.shown("c1")
    x.require(not s.gone.is_set() and x.server.streams.empty(), "it gave up a stream whose heartbeats came")


@case()
async def slow(x):
    """One event takes longer than two heartbeats, a few bytes at a time: the stream is not silent, and stays."""
    s = await x.stream()
    s.open(heartbeat_ms=1_500)
    data = block(event("c1"), place="t:1-0")
    for at in range(0, len(data), 12):
        s.raw(data[at:at + 12])
        await asyncio.sleep(0.5)
    await x.shown("c1")
    x.require(not s.gone.is_set() and x.server.streams.empty(), "it gave up a stream that was only slow")


@case()
async def silent(x):
    """Nothing comes any more, also no comment line, though `heartbeat_ms` said so; the connection stands. The client gives it up (by
    itself, after two or three heartbeats; a fixed time limit above 25 s is enough in earnest, and fails here) and resumes."""
    s = await x.stream()
    s.open(heartbeat_ms=400)
    s.send("c1")
    again = await x.stream()
    x.resumes(again, "t:1-0")
    again.open(heartbeat_ms=60_000)
    again.send("c2")
    await x.shown("c1", "c2")


@case()
async def silent_at_first(x):
    """The request is taken and never answered: the client gives it up within 45 s, and asks again."""
    await x.stream()
    again = await x.stream()
    again.open()
    again.send("c1")
    await x.shown("c1")
