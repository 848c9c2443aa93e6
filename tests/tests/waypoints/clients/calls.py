# Calls a URL without a pause until a file appears, and tries nothing twice: some connections are kept as long as the server
# keeps them, others are new each time, a few answers take seconds. Prints how many calls there were and which configurations they
# saw, or which one failed and ends.
#   calls.py HOST PORT FILE
import http.client
import json
import os
import sys
import threading
import time

HOST, PORT, FILE = sys.argv[1], int(sys.argv[2]), sys.argv[3]
TIMEOUT_SECONDS = 40
failed = threading.Event()
made, seen = [], set()


def call(connection, path, expected):
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise ValueError(f"{answer.status} {answer.headers} {body[:200]}")
    if expected and not body.endswith(expected):
        raise ValueError(f"cut short: {body[-40:]}")
    if not expected:
        check(answer, json.loads(body))
    return answer


# One configuration has set both of these headers, or none: who sees two configurations in one request sees half of each.
def check(answer, body):
    asked, told = body["headers"].get("x-configuration"), answer.headers.get("x-configuration")
    if asked != told:
        raise ValueError(f"half of {asked}, half of {told}")
    seen.add(told)


def caller(keep, path, expected):
    calls, connection = 0, None
    try:
        while not os.path.exists(FILE) and not failed.is_set():
            if connection is None or not keep:
                connection = http.client.HTTPConnection(HOST, PORT, timeout=TIMEOUT_SECONDS)
            call(connection, path, expected)
            calls += 1
            if not keep:
                connection.close()
    except Exception as error:
        failed.set()
        print(f"call {calls + 1} of {path} (kept: {keep}) at {time.time():.2f}: {error!r}", flush=True)
    made.append(calls)


threads = [threading.Thread(target=caller, args=words) for words in
           [(True, "/", None)] * 3 + [(False, "/", None)] * 2 + [(True, "/slow", b"39\n"), (False, "/slow", b"39\n")]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sum(made), *sorted(map(str, seen)))
sys.exit(failed.is_set())
