"""Follows a stream with one of Python's SSE clients, and prints what it hears as JSON, a line each.

    python3 sse_followers.py httpx-sse|requests-sse|sseclient-py 'http://127.0.0.1:8080/v1/events?topic=live:42' [TOKEN_FILE]

Each is used as its own page shows, with the loop around it that an application needs. Ends with its standard input.
"""

import json
import os
import random
import sys
import threading
import time

import httpx
import httpx_sse
import requests
import requests_sse
import sseclient

# Above the time between two heartbeats: a stream that is silent for longer is dead.
SILENCE_S = 60

who, url, *token_file = sys.argv[1:]
if not token_file:
    url += f"&member={who}"
last = ""


def say(**line):
    print(json.dumps({"who": who, **line}), flush=True)


def headers():
    wanted = {"Accept": "text/event-stream"}
    if last:
        wanted["Last-Event-ID"] = last
    if token_file:
        with open(token_file[0]) as file:
            wanted["Authorization"] = f"Bearer {file.read()}"
    return wanted


def heard(name, ident, data):
    global last
    if ident:
        last = ident
    say(name=name, id=ident or "", data=data)


def with_httpx_sse():
    with httpx.Client(timeout=httpx.Timeout(10, read=SILENCE_S)) as client:
        with httpx_sse.connect_sse(client, "GET", url, headers=headers()) as source:
            for event in source.iter_sse():
                heard(event.event, event.id, event.data)


def with_requests_sse():
    wanted = headers()
    wanted.pop("Accept")
    # It waits twice as long from failure to failure: the loop below does that better.
    more = {"headers": wanted, "latest_event_id": last or None, "timeout": SILENCE_S, "max_connect_retry": 0}
    with requests_sse.EventSource(url, **more) as source:
        for event in source:
            heard(event.type, event.last_event_id, event.data)


def with_sseclient():
    answer = requests.get(url, headers=headers(), stream=True, timeout=SILENCE_S)
    answer.raise_for_status()
    for event in sseclient.SSEClient(answer).events():
        heard(event.event, event.id, event.data)


def end_with_input():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=end_with_input, daemon=True).start()
follow = {"httpx-sse": with_httpx_sse, "requests-sse": with_requests_sse, "sseclient-py": with_sseclient}[who]
# What these libraries raise where a stream cannot be had, or breaks.
BROKEN = (
    httpx.HTTPError,
    httpx_sse.SSEError,
    requests.RequestException,
    requests_sse.InvalidStatusCodeError,
    requests_sse.InvalidContentTypeError,
)
while True:
    try:
        follow()
    except BROKEN:
        pass
    say(own=True)
    time.sleep(1 + random.random())
