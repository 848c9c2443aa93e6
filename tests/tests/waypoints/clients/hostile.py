# Clients that nobody wants, over raw sockets. Prints one line of what became of them.
#   hostile.py HOST PORT abort COUNT | stall COUNT FILE PATH | pour COUNT BYTES PATH SECONDS | drip | header BYTES | headers COUNT
import concurrent.futures
import os
import re
import socket
import struct
import sys
import time

HOST, PORT, verb, words = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
TIMEOUT_SECONDS = 50
WORKERS = 50


def connect(small=False):
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    one.settimeout(TIMEOUT_SECONDS)
    if small:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.connect((socket.gethostbyname(HOST), PORT))
    return one


def head(line, *headers):
    return "\r\n".join([line, f"host: {HOST}", *headers, "", ""]).encode()


def status(one):
    text = b""
    while b"\r\n" not in text and (part := one.recv(4096)):
        text += part
    found = re.match(rb"HTTP/1\.1 (\d+)", text)
    return found[1].decode() if found else "none"


# Ends a connection at once, whatever waits to be sent: a server that does not read would never come to its end.
def reset(one):
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


# A download that is left after its first bytes, by a reset or in good order.
def abort(number):
    one = connect()
    one.sendall(head("GET /endless HTTP/1.1"))
    begun = status(one)
    one.close() if number % 2 else reset(one)
    return begun


def each(count, act):
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        results = list(pool.map(act, range(count)))
    return " ".join(f"{results.count(one)}x{one}" for one in sorted(set(results)))


if verb == "abort":
    print(each(int(words[0]), abort))
elif verb == "stall":
    # Answers that nobody reads, until a file is there.
    stalled = [connect(small=True) for _ in range(int(words[0]))]
    for one in stalled:
        one.sendall(head(f"GET {words[2]} HTTP/1.1"))
    end = time.time() + TIMEOUT_SECONDS
    while not os.path.exists(words[1]) and time.time() < end:
        time.sleep(0.1)
    for one in stalled:
        one.close()
elif verb == "pour":
    # A body that does not end: poured until nobody takes any of it for so many seconds, or it is as long as this.
    def pour(_):
        one = connect()
        one.sendall(head(f"POST {words[2]} HTTP/1.1", "transfer-encoding: chunked"))
        one.settimeout(float(words[3]))
        poured, chunk = 0, b"10000\r\n" + b"x" * 65536 + b"\r\n"
        try:
            while poured < int(words[1]):
                one.sendall(chunk)
                poured += 65536
        except TimeoutError:
            reset(one)
            return "blocked"
        one.settimeout(TIMEOUT_SECONDS)
        one.sendall(b"0\r\n\r\n")
        return status(one)

    print(each(int(words[0]), pour))
elif verb == "drip":
    # A head that comes byte by byte.
    one = connect()
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in head("GET / HTTP/1.1"):
        one.sendall(bytes([byte]))
        time.sleep(0.02)
    print(status(one))
elif verb == "header":
    one = connect()
    one.sendall(head("GET / HTTP/1.1", "x-long: " + "x" * int(words[0])))
    print(status(one))
elif verb == "headers":
    one = connect()
    one.sendall(head("GET / HTTP/1.1", *(f"x-{number}: 1" for number in range(int(words[0])))))
    print(status(one))
