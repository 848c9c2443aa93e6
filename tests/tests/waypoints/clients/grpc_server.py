# A gRPC server of one service: what it is sent comes back. GRPC_PORT NAME
import concurrent.futures
import signal
import sys
import threading

import grpc


def say(request, context):
    context.set_trailing_metadata((("server", sys.argv[2]),))
    return request


def chat(requests, context):
    yield from requests


def fail(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as you asked: a/b %")


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return {
            "/suite.Echo/Say": grpc.unary_unary_rpc_method_handler(say),
            "/suite.Echo/Chat": grpc.stream_stream_rpc_method_handler(chat),
            "/suite.Echo/Fail": grpc.unary_unary_rpc_method_handler(fail),
        }.get(details.method)


server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
server.add_generic_rpc_handlers((Echo(),))
server.add_insecure_port(f"0.0.0.0:{sys.argv[1]}")
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
server.start()
ended.wait()
server.stop(5).wait()
