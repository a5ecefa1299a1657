"""Requests to a server, with the token that they need."""

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

Token = str | Callable[[], str | Awaitable[str]]

BACKOFF_S = 2.0
BACKOFF_S_MAX = 30.0
REQUEST_S_MAX = 15.0


def backoff(attempt: int) -> float:
    """Full jitter: a crowd that was cut together comes back spread over the whole time."""
    return random.random() * min(BACKOFF_S_MAX, BACKOFF_S * 2.0**attempt)


@dataclass
class Answer:
    """`status` 0: there was none. `body`: the JSON of a 200, else None."""

    status: int
    detail: str
    retry_s: float = 0.0
    body: dict[str, Any] | None = None

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in (0, 408, 425, 429) or self.status >= 500


def answer_of(response: httpx.Response) -> Answer:
    """Of a response that was read."""
    try:
        body = response.json()
    except ValueError:
        body = None
    body = body if isinstance(body, dict) else {}
    detail = body.get("detail") or body.get("title") or f"The server answered {response.status_code}."
    ok = response.status_code == 200
    return Answer(response.status_code, str(detail), retry_after(response.headers.get("Retry-After")), body if ok else None)


def retry_after(text: str | None) -> float:
    """Seconds or a date (RFC 9110, 10.2.3)."""
    if text is None or text.isdecimal():
        return float(text or 0)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, (date.replace(tzinfo=date.tzinfo or timezone.utc) - datetime.now(timezone.utc)).total_seconds())


class Server:
    def __init__(self, url: str, token: Token | None, client: httpx.AsyncClient) -> None:
        self._base, self._client = url.rstrip("/"), client
        self._token = token if isinstance(token, str) else None
        self._ask = None if isinstance(token, str) else token
        self._asking: asyncio.Task[str] | None = None

    @property
    def renews(self) -> bool:
        """Whether there is a function to ask for another token."""
        return self._ask is not None

    async def token(self) -> str | None:
        """The token for the next request, if one is needed. What the function raises is raised."""
        return self._token or (await self.fresh() if self.renews else None)

    def forget(self) -> None:
        """The token is no good any more. One that is just text stays, since there is no other."""
        if self.renews:
            self._token = None

    async def fresh(self) -> str:
        """Asks the token function, once for all who need one now."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_now())
        # Who stops waiting takes the answer from nobody else.
        return await asyncio.shield(self._asking)

    async def _ask_now(self) -> str:
        ask = self._ask
        assert ask is not None, "only those that renew are asked"
        try:
            # One that is not a coroutine may block, for which this thread has no time.
            found = ask() if inspect.iscoroutinefunction(ask) else await asyncio.to_thread(ask)
            self._token = await found if inspect.isawaitable(found) else found
            return self._token
        finally:
            self._asking = None

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def stream(self, query: Sequence[tuple[str, str]], last_id: str) -> AbstractAsyncContextManager[httpx.Response]:
        headers = {**self._headers, "Accept": "text/event-stream", "Cache-Control": "no-store"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        # Who reads knows how long to wait.
        return self._client.stream("GET", f"{self._base}/v1/events", params=httpx.QueryParams(list(query)), headers=headers, timeout=None)

    async def get(self, path: str, query: dict[str, str]) -> Answer:
        return await self._request("GET", path, params=query)

    async def post(self, path: str, body: dict[str, Any]) -> Answer:
        return await self._request("POST", path, json=body)

    async def _request(self, method: str, path: str, **more: Any) -> Answer:
        """Never raises."""
        try:
            url = self._base + path
            return answer_of(await self._client.request(method, url, headers=self._headers, timeout=REQUEST_S_MAX, **more))
        except httpx.HTTPError as error:
            return Answer(0, f"The server cannot be reached: {error!r}")
