"""What is refused, and tokens."""

import asyncio
import json

from . import case


@case()
async def forbidden(x):
    """403, whatever is asked for: the client says that it is closed, with the status, and asks no more than three times."""
    s = await x.stream()
    asked = 1
    s.answer(403, {"detail": "the token lacks the right", "status": 403})
    while not any(line["state"] == "closed" for line in x.states):
        x.require(asked <= 3, f"it asked {asked} times for what it may not have")
        more = asyncio.ensure_future(x.server.streams.get())
        ends = asyncio.ensure_future(x.state("closed"))
        await asyncio.wait([more, ends], return_when=asyncio.FIRST_COMPLETED)
        if more.done():
            more.result().answer(403, {"detail": "the token lacks the right", "status": 403})
            asked += 1
        if ends.done():
            ends.result()
        more.cancel()
        ends.cancel()
    closed = [line for line in x.states if line["state"] == "closed"][0]
    x.require(closed.get("status") == 403, f"it says {closed}, without the status 403")
    await x.quiet(3)


@case("token", token=True)
async def token_refused(x):
    """401, since the token ended while nobody looked: the client asks its token function for another one, once, and goes on."""
    s = await x.stream()
    x.require(s.token == "token-1", f"its token is {s.token}, not what the function gave")
    s.answer(401, {"detail": "the token has expired", "status": 401})
    again = await x.stream()
    x.require(again.token == "token-2", f"its token is {again.token}, not a new one")
    again.open()
    again.send("c1")
    await x.shown("c1")


@case("token", token=True)
async def token_refused_again(x):
    """401 also for a fresh token: the client says that it is closed, with the status, and asks no more."""
    for _ in range(2):
        s = await x.stream()
        s.answer(401, {"detail": "nobody of that name", "status": 401})
    await x.state("closed")
    closed = [line for line in x.states if line["state"] == "closed"][0]
    x.require(closed.get("status") == 401, f"it says {closed}, without the status 401")
    await x.quiet(3)
    x.require(x.server.tokens == 2, f"it asked for {x.server.tokens} tokens")


@case("token", token=True)
async def token_ends_soon(x):
    """`token` says that the token ends: the client asks its function, posts the new one, and its stream stays. Cut later, it comes with the new one."""
    s = await x.stream()
    s.open(connection="c/1")
    s.control("token", expires_at=1_732_313_191_000)
    post = await x.post("/v1/connections/c/1/token")
    x.require("token-2" in (post.token, json.loads(post.body or "{}").get("token")), f"it posted {post.body} as {post.token}")
    post.answer(204)
    s.send("c1")
    await x.shown("c1")
    x.require(x.server.streams.empty() and not s.gone.is_set(), "it began another stream")
    s.reset()
    again = await x.stream()
    x.require(again.token == "token-2", f"it came back with the token {again.token}")


@case("token", token=True)
async def token_ended(x):
    """`bye` with the reason `token`: the client comes back with a new token, no sooner than it says."""
    s = await x.stream()
    s.open()
    s.send("c1")
    await x.shown("c1")
    moment = x.now()
    s.bye("token", 1_000)
    again = await x.stream()
    x.after(again, moment, 1)
    x.require(again.token == "token-2", f"it came back with the token {again.token}")
    x.resumes(again, "t:1-0")
