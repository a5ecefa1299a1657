"""Follows one topic with sseclient-py on requests, likes a video, and checks the event that comes back.

    pip install -r requirements.txt && python3 sse_client.py http://127.0.0.1:8080

Exits 0 when the event came as the design says, 1 with a message otherwise.
"""

import json
import os
import sys
import threading
import uuid

import requests
import sseclient

OVERALL_TIMEOUT_S = 30
REQUEST_TIMEOUT_S = 20
VIDEO = "7"
TOPIC = f"live:{VIDEO}"


class Failure(Exception):
    """What went wrong, in words for whoever reads the test's output."""


def is_count(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def faults(event: dict) -> list[str]:
    """What is wrong with a delivered event, as a list of sentences."""
    data = event.get("data") if isinstance(event.get("data"), dict) else {}
    checks = [
        ("topic", event.get("topic"), event.get("topic") == TOPIC, TOPIC),
        ("type", event.get("type"), event.get("type") == "like", "like"),
        ("key", event.get("key"), event.get("key") == "like", "the reaction like"),
        ("count", event.get("count"), is_count(event.get("count")) and event["count"] == 1, "1"),
        ("at", event.get("at"), is_count(event.get("at")), "a time in Unix milliseconds"),
        ("id", event.get("id"), isinstance(event.get("id"), str) and event["id"] != "", "a non-empty string"),
        ("data.reaction", data.get("reaction"), data.get("reaction") == "like", "like"),
        ("data.likes", data.get("likes"), is_count(data.get("likes")), "a count of at least 1"),
    ]
    return [f"{what} is {got!r}, not {wanted}" for what, got, ok, wanted in checks if not ok]


def like(base: str, member: str) -> None:
    answer = requests.post(
        f"{base}/v1/videos/{VIDEO}/likes",
        json={"member": member, "reaction": "like"},
        timeout=REQUEST_TIMEOUT_S,
    )
    if answer.status_code != 201:
        raise Failure(f"the like was answered {answer.status_code}, not 201: {answer.text}")
    if not is_count(answer.json().get("likes")):
        raise Failure(f"the like's answer has no count: {answer.text}")


def follow(base: str, member: str) -> None:
    # The usage that the package's own page shows, so that what works here works for its users.
    response = requests.get(
        f"{base}/v1/events",
        params={"topic": TOPIC},
        headers={"Accept": "text/event-stream"},
        stream=True,
        timeout=REQUEST_TIMEOUT_S,
    )
    content_type = response.headers.get("Content-Type", "")
    if response.status_code != 200 or not content_type.startswith("text/event-stream"):
        raise Failure(f"the stream was answered {response.status_code} {content_type}")
    connected = False
    for message in sseclient.SSEClient(response).events():
        if message.event == "connected":
            hello = json.loads(message.data)
            if not hello.get("connection") or not isinstance(hello.get("pending"), list):
                raise Failure(f"connected lacks its fields: {message.data}")
            if connected:
                raise Failure("connected came twice on one stream")
            connected = True
            like(base, member)
        elif message.event == "message":
            if not connected:
                raise Failure(f"an event came before connected: {message.data}")
            event = json.loads(message.data)
            # Others may like the same video while this runs.
            if not isinstance(event.get("data"), dict) or event["data"].get("member") != member:
                continue
            wrong = faults(event)
            if wrong:
                raise Failure(f"{'; '.join(wrong)}; the event was {message.data}")
            return
    raise Failure(f"the stream ended {'before the like came' if connected else 'before connected'}")


def give_up() -> None:
    print(f"sse_client: timed out after {OVERALL_TIMEOUT_S} s", file=sys.stderr, flush=True)
    # A read that blocks in the main thread cannot be interrupted more gently.
    os._exit(1)


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: sse_client.py BASE_URL", file=sys.stderr)
        return 1
    timer = threading.Timer(OVERALL_TIMEOUT_S, give_up)
    timer.daemon = True
    timer.start()
    member = f"sseclient-{uuid.uuid4()}"
    try:
        follow(sys.argv[1].rstrip("/"), member)
    except (Failure, requests.RequestException, ValueError) as problem:
        print(f"sse_client: {problem}", file=sys.stderr)
        return 1
    print(f"sse_client: ok, {TOPIC} delivered the like of {member}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
