# An HTTP server for the suites. Told to end, it goes on for a moment and says on each answer that it is its connection's last, as
# servers do that are rolled out without a lost request.
#   GET /             what arrived, as JSON
#   GET /slow         a few bytes at a time, over some seconds
#   GET /endless      bytes without an end
#   GET /silent       nothing until the client is gone
#   GET /vast         headers without an end
#   GET /torn         less than it promised
#   POST /            how many bytes came
#   POST /unread      no answer, and the body is never read; it gives up in the end, or when the client is gone
#   GET /under-way    how many requests are being answered beside this one
import http.server
import json
import os
import select
import signal
import sys
import threading
import time

PORT, NAME, GRACE_SECONDS, UNREAD_SECONDS = int(sys.argv[1]), sys.argv[2], 4, 30
ending = threading.Event()
under_way = 0
counting = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def begin(self, *headers):
        self.send_response(200)
        for name, value in headers:
            self.send_header(name, value)
        if ending.is_set():
            self.send_header("connection", "close")
            self.close_connection = True
        self.end_headers()

    def whole(self, text):
        body = text.encode()
        self.begin(("content-length", str(len(body))))
        self.wfile.write(body)

    def chunk(self, chunk):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))

    def until_gone(self, seconds=None):
        gone = select.poll()
        gone.register(self.connection, select.POLLRDHUP)
        gone.poll(seconds and seconds * 1000)
        self.close_connection = True

    def do_GET(self):
        if self.path.startswith("/slow"):
            self.begin(("transfer-encoding", "chunked"))
            for part in range(40):
                self.chunk(b"%d\n" % part)
                time.sleep(0.1)
            self.chunk(b"")
        elif self.path.startswith("/endless"):
            self.begin(("transfer-encoding", "chunked"))
            while True:
                self.chunk(b"x" * 65536)
        elif self.path.startswith("/silent"):
            self.until_gone()
        elif self.path.startswith("/vast"):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                self.wfile.write(b"x-more: " + b"x" * 65536 + b"\r\n")
        elif self.path.startswith("/torn"):
            self.begin(("content-length", "1000"))
            self.wfile.write(b"begun")
            self.close_connection = True
        elif self.path.startswith("/under-way"):
            self.whole(str(under_way - 1))
        else:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.whole(json.dumps({"server": NAME, "path": self.path, "headers": headers}))

    def do_POST(self):
        if self.path.startswith("/unread"):
            self.until_gone(UNREAD_SECONDS)
            return
        read = 0
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                read += len(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        else:
            left = int(self.headers.get("content-length", 0))
            while left and (part := self.rfile.read(min(left, 65536))):
                left, read = left - len(part), read + len(part)
        self.whole(str(read))

    # Between requests a connection is nobody's.
    def parse_request(self):
        global under_way
        parsed = super().parse_request()
        if parsed:
            with counting:
                under_way += 1
            self.counted = True
        return parsed

    def handle_one_request(self):
        global under_way
        self.counted = False
        try:
            super().handle_one_request()
        except OSError:
            # The client is gone.
            self.close_connection = True
        finally:
            if self.counted:
                with counting:
                    under_way -= 1


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True

    def handle_error(self, *_):
        pass


def end(*_):
    ending.set()
    threading.Timer(GRACE_SECONDS, os._exit, [0]).start()


signal.signal(signal.SIGTERM, end)
threading.stack_size(256 * 1024)
Server(("", PORT), Handler).serve_forever()
