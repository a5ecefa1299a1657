"""One case: a server of its own, the client under test in a process of its own, and what is required of it."""

import asyncio
import contextlib
import json
import os
import signal

from faults import Server

# Generous: a case waits for what it names, and goes on at once when that is there.
PATIENCE_S = 45


class Failure(Exception):
    """What the client did wrong, in words for whoever wrote it."""


class Case:
    def __init__(self, command, log):
        self._command, self._log = command, log
        self.server = Server()
        self.events, self.gaps, self.states = [], [], []
        self._client, self._reading, self._news = None, None, asyncio.Event()

    # ---- the client

    async def start(self, *topics, token=False):
        """Starts the client, with one topic for the beginning."""
        await self.server.listen()
        words = [self.server.url, *(topics or ["live:1"]), *(["--token", f"{self.server.url}/token"] if token else [])]
        self._client = await asyncio.create_subprocess_exec(
            *self._command, *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=self._log,
            limit=1 << 20, start_new_session=True)
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self):
        async for text in self._client.stdout:
            line = json.loads(text)
            self._log.write(text)
            if "event" in line:
                self.events.append(line["event"])
            elif "gap" in line:
                self.gaps.append(line["gap"])
            elif "state" in line:
                self.states.append(line)
            self._news.set()
        self._news.set()

    def tell(self, **command):
        """A line of the client's standard input."""
        self._client.stdin.write(json.dumps(command).encode() + b"\n")

    async def close(self):
        self.server.close()
        if self._client is None:
            return
        with contextlib.suppress(ProcessLookupError):
            # Its own children, too, such as a browser.
            os.killpg(self._client.pid, signal.SIGKILL)
        await self._client.wait()
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading

    # ---- what is required

    async def until(self, what, fits):
        """Waits for something that the client prints."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not fits():
                    if self._reading.done():
                        self._reading.result()
                        raise Failure(f"waited for {what}, and the client ended")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise Failure(f"waited {PATIENCE_S} s for {what}; it printed {self.printed()}") from None

    def printed(self):
        return f"events {[event['id'] for event in self.events]}, gaps {self.gaps}, states {self.states}"

    async def stream(self):
        """The client's next request for a stream."""
        return await self._next(self.server.streams, "a request for a stream")

    async def poll(self):
        """The client's next poll."""
        return await self._next(self.server.polls, "a poll")

    async def post(self, end):
        """The client's next other request, whose path ends so."""
        request = await self._next(self.server.posts, f"a request to …{end}")
        self.require(request.path.endswith(end), f"it asked for {request.path}, not …{end}")
        return request

    async def _next(self, queue, what):
        try:
            return await asyncio.wait_for(queue.get(), PATIENCE_S)
        except TimeoutError:
            raise Failure(f"waited {PATIENCE_S} s for {what}; it printed {self.printed()}") from None

    def require(self, holds, otherwise):
        if not holds:
            raise Failure(otherwise)

    async def shown(self, *names):
        """These events are what the client gave its user, all of them, once each, in this order."""
        def got():
            return [event["id"] for event in self.events]
        await self.until(f"the event {names[-1]}", lambda: got().count(names[-1]) >= names.count(names[-1]))
        self.require(got() == list(names), f"it gave its user {got()}, not {list(names)}")

    async def state(self, name):
        await self.until(f"the state {name}", lambda: any(line["state"] == name for line in self.states))

    def resumes(self, request, place):
        self.require(request.last_id == place, f"it goes on from {request.last_id}, not from {place}")

    def after(self, request, moment, seconds):
        """The client has waited. Clocks of timers are coarse: a hundredth is given away."""
        waited = request.at - moment
        self.require(waited >= seconds - 0.01, f"it came back after {waited:.2f} s, not after {seconds} s or more")

    async def quiet(self, seconds):
        """The client asks for nothing: this one waits for what is not to happen."""
        with contextlib.suppress(TimeoutError):
            request = await asyncio.wait_for(self.server.streams.get(), seconds)
            raise Failure(f"it asked for {request.path} again, with last id {request.last_id} and token {request.token}")

    @staticmethod
    def now():
        return asyncio.get_running_loop().time()
