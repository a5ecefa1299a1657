"""The package as `packages/conformance/run` drives it; docs/conformance.md says what is written and printed.

    python3 conformance.py URL TOPIC… [--token URL]
"""

import asyncio
import json
import sys
from typing import Any

import fanfare
import httpx


def write(**line: Any) -> None:
    print(json.dumps(line), flush=True)


async def main(url: str, *words: str) -> None:
    topics, token_url = list(words), None
    if "--token" in topics:
        at = topics.index("--token")
        token_url, topics = topics[at + 1], topics[:at]

    async def token() -> str:
        async with httpx.AsyncClient() as client:
            return (await client.get(str(token_url))).text

    connection = fanfare.connect(url, token=token if token_url else None)
    subscriptions: dict[str, fanfare.Subscription] = {}

    def subscribe(topic: str) -> None:
        subscription = subscriptions[topic] = connection.subscribe(topic)
        subscription.on("event", lambda event: write(event=event))
        subscription.on("gap", lambda gap: write(gap=gap))
        subscription.on("state", lambda change: write(topic=topic, **change))

    for topic in topics:
        subscribe(topic)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async for line in lines:
        command = json.loads(line)
        if topic := command.get("subscribe"):
            subscribe(topic)
        if topic := command.get("unsubscribe"):
            subscriptions[topic].close()
        if command.get("close"):
            await connection.close()


asyncio.run(main(*sys.argv[1:]))
