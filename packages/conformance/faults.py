"""A server that does what the case says, byte by byte: it knows HTTP only as far as clients need it, and answers nothing by itself
but what every case takes for granted."""

import asyncio
import contextlib
import json
import socket
import struct
from urllib.parse import parse_qs, unquote, urlsplit

REASONS = {200: "OK", 204: "No Content", 401: "Unauthorized", 403: "Forbidden", 412: "Precondition Failed",
           429: "Too Many Requests", 502: "Bad Gateway", 503: "Service Unavailable"}
# As the server's pages do it, so that clients in browsers can be tried, too.
CORS = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*, Authorization",
        "Access-Control-Expose-Headers": "Retry-After"}


def event(name, topic="live:1", type="comment", **more):
    """An event as the stream has it."""
    return {"id": name, "topic": topic, "type": type, "at": 1_732_313_131_000, "data": {"text": name}, **more}


def block(data, name=None, place=None, retry=None, end="\n"):
    """The lines of one block: `place` is its `id:`."""
    lines = [(f"retry: {retry}", retry), (f"id: {place}", place), (f"event: {name}", name)]
    lines = [line for line, there in lines if there is not None]
    return (end.join([*lines, f"data: {json.dumps(data, ensure_ascii=False)}", "", ""])).encode()


class Request:
    """A request, and the connection that it came on."""

    def __init__(self, method, target, headers, body, writer):
        url = urlsplit(target)
        self.method, self.path, self.headers, self.body = method, unquote(url.path), headers, body
        self.query = parse_qs(url.query, keep_blank_values=True)
        self.at = asyncio.get_running_loop().time()
        self._writer = writer
        self.answered, self.gone = asyncio.Event(), asyncio.Event()

    @property
    def topics(self):
        return self.query.get("topic", [])

    @property
    def last_id(self):
        """From where the client goes on, in the header or in the query."""
        for name in ("last_event_id", "lastEventId", "lastEventID", "Last-Event-ID"):
            if self.query.get(name, [""])[0]:
                return self.query[name][0]
        return self.headers.get("last-event-id") or None

    @property
    def token(self):
        """In the header or in the query."""
        return self.headers.get("authorization", "").removeprefix("Bearer ") or self.query.get("access_token", [None])[0]

    @property
    def json(self):
        return json.loads(self.body)

    def answer(self, status, body="", **headers):
        """A whole answer; a body that is no text is JSON. Names of headers have `_` for `-`."""
        text = body if isinstance(body, str) else json.dumps(body)
        kind = "application/json" if status < 400 else "application/problem+json"
        fields = {"Content-Type": kind, **CORS, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if status != 204:
            fields["Content-Length"] = len(text.encode())
        if self.path == "/v1/events":
            fields["Connection"] = "close"
        self.head(status, fields)
        self._writer.write(text.encode())
        self.answered.set()

    def head(self, status, fields):
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._writer.write(f"HTTP/1.1 {status} {REASONS.get(status, 'Whatever')}\r\n{lines}\r\n".encode())

    def polled(self, *names, place, more=()):
        """The answer to a poll: these events, and such as are none of a topic's."""
        events = [*more, *(name if isinstance(name, dict) else event(name) for name in names)]
        self.answer(200, {"events": events, "last_event_id": place, "retry_ms": 50})

    # ---- a stream

    def begin(self, kind="text/event-stream; charset=utf-8"):
        """The head of a stream."""
        self.head(200, {"Content-Type": kind, "Cache-Control": "no-store", "Transfer-Encoding": "chunked", **CORS})

    def open(self, place="t:1-0", retry=50, heartbeat_ms=60_000, connection="c1", **more):
        """The head, and `connected`."""
        self.begin()
        hello = {"connection": connection, "node": "n1", "heartbeat_ms": heartbeat_ms, "pending": [], **more}
        self.raw(block(hello, "connected", place, retry))

    def raw(self, data):
        """Bytes of the stream, in a chunk of their own."""
        self._writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def bare(self, data):
        """Bytes of the connection."""
        self._writer.write(data)

    def send(self, *names, place=True, **more):
        """Events, each with the place `t:<its number>-0` where it has one."""
        for name in names:
            number = "".join(letter for letter in name if letter.isdigit())
            self.raw(block(event(name, **more), place=f"t:{number}-0" if place else None))

    def control(self, name, **data):
        self.raw(block(data, name))

    def bye(self, reason, retry_ms):
        """The farewell, and the end of the stream."""
        self.raw(block({"reason": reason, "retry_ms": retry_ms}, "bye", retry=retry_ms))
        self.end()

    def end(self):
        """The stream ends as HTTP has it."""
        self._writer.write(b"0\r\n\r\n")
        self.hang_up()

    def hang_up(self):
        """What was written still arrives, and then the end of the connection."""
        with contextlib.suppress(OSError):
            self._writer.close()
        self.answered.set()

    def reset(self):
        """The connection breaks. What was written before and not read yet may be lost."""
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        self.answered.set()


class Server:
    """Takes requests; streams, polls and the others wait each in a queue of their own for the case to answer them."""

    def __init__(self):
        self.streams, self.polls, self.posts = asyncio.Queue(), asyncio.Queue(), asyncio.Queue()
        self.port, self._server, self._writers = 0, None, set()
        self.seen, self.tokens = [], 0

    async def listen(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def away(self):
        """Nobody listens any more; connections that are there stay."""
        self._server.close()

    def close(self):
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader, writer):
        self._writers.add(writer)
        try:
            while (request := await self._read(reader, writer)) is not None:
                await self._take(request)
                if request.path == "/v1/events":
                    # Nothing follows on its connection: either side closes it.
                    gone = asyncio.ensure_future(reader.read(1))
                    answered = asyncio.ensure_future(request.answered.wait())
                    await asyncio.wait([gone, answered], return_when=asyncio.FIRST_COMPLETED)
                    gone.cancel()
                    answered.cancel()
                    request.gone.set()
                    break
                await request.answered.wait()
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # The client is gone, or the case over.
            pass
        finally:
            self._writers.discard(writer)
            with contextlib.suppress(OSError):
                writer.close()

    async def _read(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = line.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, value in (field.split(":", 1) for field in fields)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Request(method, target, headers, body, writer)

    async def _take(self, request):
        self.seen.append(request)
        if request.method == "OPTIONS":
            request.answer(204, Access_Control_Allow_Methods="GET, POST")
        elif request.path == "/v1/events":
            await self.streams.put(request)
        elif request.path == "/v1/poll":
            await self.polls.put(request)
        elif request.path == "/token":
            self.tokens += 1
            request.answer(200, f"token-{self.tokens}", Content_Type="text/plain")
        elif request.path == "/v1/time":
            request.answer(200, {"now": 1_732_313_131_000})
        elif request.path == "/v1/received":
            request.answer(204)
        else:
            await self.posts.put(request)
