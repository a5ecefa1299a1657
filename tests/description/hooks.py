"""What schemathesis does not know by itself: bodies of lines, and answers that do not end by themselves, or not soon."""

import json
import os
import threading
import time

import requests
import schemathesis

VIDEO = "polled"

send = requests.Session.send


def send_and_end(self, request, **options):
    """Of a stream the first bytes are its answer."""
    answer = send(self, request, **{**options, "stream": True})
    if answer.headers.get("Content-Type", "").startswith("text/event-stream") and request.method != "HEAD":
        answer._content = next(answer.iter_content(None), b"")
        answer.close()
    else:
        answer.content
    return answer


requests.Session.send = send_and_end


@schemathesis.serializer("application/x-ndjson")
def as_it_is(context, lines):
    return {"data": lines if isinstance(lines, bytes) else str(lines).encode()}


@schemathesis.hook.apply_to(operation_id="publishLines")
def map_body(context, body):
    """Some of the lines will do, and some will not."""
    topics, types = ["live:42", "control:members", "nothing"], ["score", "comment", "viewers", "no type"]
    events = [{"topic": topic, "type": type, "data": str(body)} for topic in topics for type in types]
    return "\n".join([str(body), *map(json.dumps, events)])


@schemathesis.hook
def before_call(context, case, options):
    """The header has a token, and two are refused."""
    if "FANFARE_TOKEN" in os.environ:
        (case.query or {}).pop("access_token", None)


@schemathesis.hook.apply_to(operation_id="poll")
def map_query(context, query):
    """A poll is answered once there is something new on one of its topics, as there is on this one."""
    query = dict(query or {})
    topics = query.get("topic", [])
    query["topic"] = [*(topics if isinstance(topics, list) else [topics]), f"live:{VIDEO}"]
    return query


@schemathesis.hook.apply_to(operation_id="revokeTokens")
def map_path_parameters(context, parameters):
    """The tokens of whoever asks all this are to go on counting."""
    return {**(parameters or {}), "member": "nobody"}


def publish_on_and_on():
    """Something new on the topic of polls, five times a second."""
    url = f"{os.environ['FANFARE_URL']}/v1/videos/{VIDEO}/comments"
    token = os.environ.get("FANFARE_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    while True:
        requests.post(url, json={"member": "ana", "text": "Goal!"}, headers=headers)
        time.sleep(0.2)


threading.Thread(target=publish_on_and_on, daemon=True).start()
