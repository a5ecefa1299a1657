"""When to come back."""

from . import case


@case()
async def retry(x):
    """`connected` has `retry: 1500`, and the connection breaks: the client comes back no sooner."""
    s = await x.stream()
    s.open(retry=1_500)
    s.send("c1")
    await x.shown("c1")
    moment = x.now()
    s.reset()
    again = await x.stream()
    x.after(again, moment, 1.5)
    x.resumes(again, "t:1-0")


@case()
async def drain(x):
    """`bye` with the reason `drain`, and the end: the client comes back no sooner than `retry_ms` says, and goes on from its place."""
    s = await x.stream()
    s.open()
    s.send("c1")
    await x.shown("c1")
    moment = x.now()
    s.bye("drain", 1_500)
    again = await x.stream()
    x.after(again, moment, 1.5)
    x.resumes(again, "t:1-0")
    again.open("t:1-0")
    again.send("c2")
    await x.shown("c1", "c2")


@case()
async def busy(x):
    """In place of 429 or 503 a client that accepts `text/event-stream` gets a stream of `bye` `busy`: it is no open stream, and the client
    comes back no sooner than it says."""
    s = await x.stream()
    s.begin()
    moment = x.now()
    s.bye("busy", 1_500)
    again = await x.stream()
    x.after(again, moment, 1.5)
    x.require(not any(line["state"] == "open" for line in x.states), "it took that for an open stream")
    again.open()
    again.send("c1")
    await x.shown("c1")


def status(code, retry_after):
    async def play(x):
        s = await x.stream()
        s.open()
        s.send("c1")
        await x.shown("c1")
        s.reset()
        turned_away = await x.stream()
        headers = {"Retry-After": str(retry_after)} if retry_after else {}
        body = "<h1>nobody is there</h1>" if code == 502 else {"title": "later", "status": code, "detail": "ask again later"}
        turned_away.answer(code, body, **headers)
        moment = x.now()
        again = await x.stream()
        x.after(again, moment, retry_after)
        x.resumes(again, "t:1-0")
        again.open("t:1-0")
        again.send("c2")
        await x.shown("c1", "c2")
    return play


for code, retry_after in [(429, 2), (503, 1), (502, 0)]:
    play = status(code, retry_after)
    play.__name__ = f"status_{code}"
    after = " of a proxy, with a page in place of a reason: the client comes back"
    if retry_after:
        after = f" with `Retry-After: {retry_after}`: the client comes back no sooner"
    play.__doc__ = f"{code}{after}, and goes on from its place."
    case()(play)


@case()
async def not_a_stream(x):
    """200 with somebody's page, such as a network's that wants people to sign in: it is no open stream, and the client comes back."""
    s = await x.stream()
    s.answer(200, "<p>Sign in, please.</p>", Content_Type="text/html")
    again = await x.stream()
    x.require(not any(line["state"] == "open" for line in x.states), "it took that for an open stream")
    again.open()
    again.send("c1")
    await x.shown("c1")


@case()
async def falls_over(x):
    """Each stream breaks as soon as it is open, for five seconds: the client asks ten times at most, and shows what comes then."""
    s, asked, until = await x.stream(), 1, x.now() + 5
    while x.now() < until:
        s.open(retry=50)
        s.reset()
        s, asked = await x.stream(), asked + 1
    x.require(asked <= 10, f"it asked {asked} times in five seconds")
    s.open()
    s.send("c1")
    await x.shown("c1")
