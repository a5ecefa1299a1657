"""Topics of an open stream, and its end."""

from . import case


async def added(x, s):
    """Adds `live:2` to an open stream."""
    x.tell(subscribe="live:2")
    post = await x.post("/v1/connections/c1/topics")
    x.require(post.json.get("add") == ["live:2"] and not post.json.get("remove"), f"it posted {post.body}")
    post.answer(200, {"topics": ["live:1", "live:2"], "pending": []})
    s.send("c1", topic="live:2")
    await x.shown("c1")


@case("topics")
async def topics_change(x):
    """A topic is added to an open stream, and taken off it: by a request each, without another stream, and nothing of it is shown after that.
    Cut, the client comes back with the topics that are wanted then."""
    s = await x.stream()
    s.open()
    await x.state("open")
    await added(x, s)
    x.tell(unsubscribe="live:1")
    post = await x.post("/v1/connections/c1/topics")
    x.require(post.json.get("remove") == ["live:1"] and not post.json.get("add"), f"it posted {post.body}")
    # It was on its way.
    s.send("c2", topic="live:1")
    post.answer(200, {"topics": ["live:2"], "pending": []})
    s.send("c3", topic="live:2")
    await x.shown("c1", "c3")
    x.require(x.server.streams.empty() and not s.gone.is_set(), "it began another stream")
    s.reset()
    again = await x.stream()
    x.require(again.topics == ["live:2"], f"it came back with the topics {again.topics}")


@case("topics")
async def connection_gone(x):
    """412 to a change of topics: the connection is gone, and the client begins another stream, from its place and with all topics."""
    s = await x.stream()
    s.open()
    s.send("c1")
    await x.shown("c1")
    x.tell(subscribe="live:2")
    (await x.post("/v1/connections/c1/topics")).answer(412, {"detail": "this connection is gone", "status": 412})
    again = await x.stream()
    x.require(sorted(again.topics) == ["live:1", "live:2"], f"it came back with the topics {again.topics}")
    x.resumes(again, "t:1-0")
    again.open("t:1-0", connection="c2")
    again.send("c2", topic="live:2")
    await x.shown("c1", "c2")


@case("topics")
async def topic_forbidden(x):
    """403 to a topic that is added: it is said to be closed, with the status, and the stream stays."""
    s = await x.stream()
    s.open()
    await x.state("open")
    x.tell(subscribe="live:2")
    (await x.post("/v1/connections/c1/topics")).answer(403, {"detail": "not yours", "status": 403})
    await x.until("live:2 to be closed", lambda: any(
        line["state"] == "closed" and line.get("topic") == "live:2" and line.get("status") == 403 for line in x.states))
    s.send("c1")
    await x.shown("c1")
    x.require(x.server.streams.empty() and not s.gone.is_set(), "it began another stream")


@case("topics")
async def topic_later(x):
    """429 with `Retry-After: 1` to a topic that is added: it is asked for again, no sooner, and the stream stays."""
    s = await x.stream()
    s.open()
    await x.state("open")
    x.tell(subscribe="live:2")
    (await x.post("/v1/connections/c1/topics")).answer(429, {"detail": "slowly", "status": 429}, Retry_After="1")
    moment = x.now()
    post = await x.post("/v1/connections/c1/topics")
    x.after(post, moment, 1)
    post.answer(200, {"topics": ["live:1", "live:2"], "pending": []})
    s.send("c1", topic="live:2")
    await x.shown("c1")


@case()
async def closed(x):
    """Told to close while it waits for its next try, the client says so, and asks no more."""
    s = await x.stream()
    s.open(retry=1_000)
    await x.state("open")
    s.reset()
    await x.state("reconnecting")
    x.tell(close=True)
    await x.state("closed")
    await x.quiet(2)
