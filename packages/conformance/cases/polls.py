"""Networks that hold streams back."""

import asyncio

from faults import event

from . import case

# The client is on polls this soon, in seconds.
SOON_S = 10
# A stream is tried again this soon.
AGAIN_S = 100


async def first_poll(x):
    """A stream that is taken, and of which nothing comes through: gives the first poll."""
    s = await x.stream()
    p = await x.poll()
    x.require(p.at - s.at <= SOON_S, f"it polls after {p.at - s.at:.1f} s, not within {SOON_S} s")
    x.require(p.topics == ["live:1"], f"it polls for {p.topics}")
    return p


@case("poll")
async def held_back(x):
    """A stream is taken, and nothing of it comes through, while everything else is answered: within 10 s the client asks `GET /v1/poll`, again and
    again, each time at once and from the `last_event_id` of the answer before. It says that it is open, shows each event once, and tells of gaps."""
    p = await first_poll(x)
    x.require(p.last_id is None, f"it begins at {p.last_id}")
    p.polled("c1", "c2", place="t:2-0@7")
    await x.state("open")
    p = await x.poll()
    x.resumes(p, "t:2-0@7")
    p.polled("c2", "c3", place="t:3-0@8", more=[{"type": "gap", "topic": "live:1", "after": "t:2-0"}])
    p = await x.poll()
    x.resumes(p, "t:3-0@8")
    await asyncio.sleep(3)
    x.require(not p.gone.is_set(), "it gave a poll up that was not answered for three seconds")
    p.polled("c4", place="t:4-0@9")
    await x.shown("c1", "c2", "c3", "c4")
    x.require(x.gaps == [{"topic": "live:1", "after": "t:2-0"}], f"it told of {x.gaps}")
    x.require(not any(line["state"] == "reconnecting" for line in x.states), "it said that it was away")


@case("poll")
async def held_back_then_through(x):
    """The same, and streams come through later: while it polls, the client tries one, within 100 s the first time. When `connected` comes, it goes on
    with the stream, asks for no poll any more, and nothing is lost or shown twice."""
    p, seen = await first_poll(x), 0

    async def answers():
        nonlocal p, seen
        while True:
            seen += 1
            p.polled(f"c{seen}", place=f"t:{seen}-0@7")
            p = await x.poll()
            await asyncio.sleep(1)

    answering = asyncio.ensure_future(answers())
    async with asyncio.timeout(AGAIN_S):
        s = await x.server.streams.get()
    answering.cancel()
    place = int(s.last_id.split("@")[0].removeprefix("t:").removesuffix("-0"))
    s.open(f"t:{place}-0")
    s.send(*(f"c{number}" for number in range(place, seen + 3)))
    await x.shown(*(f"c{number}" for number in range(1, seen + 3)))
    while not x.server.polls.empty():
        x.server.polls.get_nowait()
    await asyncio.sleep(2)
    x.require(x.server.polls.empty(), "it polls still")
    s.reset()
    x.resumes(await x.stream(), f"t:{seen + 2}-0")


@case("poll", "topics")
async def held_back_topics(x):
    """A topic is added while a poll waits: the client does not wait for the answer to poll for both, from the same place."""
    (await first_poll(x)).polled("c1", place="t:1-0@7")
    await x.poll()
    x.tell(subscribe="live:2")
    p = await x.poll()
    x.require(sorted(p.topics) == ["live:1", "live:2"], f"it polls for {p.topics}")
    x.require((p.last_id or "").split("@")[0] == "t:1-0", f"it goes on from {p.last_id}")
    p.polled("c1", event("c2", topic="live:2"), place="t:2-0@8")
    await x.shown("c1", "c2")


@case("poll", "token", token=True)
async def held_back_refused(x):
    """A poll is answered 503 with `Retry-After: 2`, and the next one 401: the client comes back no sooner, and then with another token."""
    p = await first_poll(x)
    x.require(p.token == "token-1", f"it polls with the token {p.token}")
    p.polled("c1", place="t:1-0@7")
    (p := await x.poll()).answer(503, {"status": 503, "detail": "ask again later"}, Retry_After="2")
    moment = x.now()
    p = await x.poll()
    x.after(p, moment, 2)
    x.resumes(p, "t:1-0@7")
    p.answer(401, {"status": 401, "detail": "the token has ended"})
    p = await x.poll()
    x.require(p.token == "token-2", f"it comes back with the token {p.token}")
    x.resumes(p, "t:1-0@7")
    p.polled("c2", place="t:2-0@8")
    await x.shown("c1", "c2")
