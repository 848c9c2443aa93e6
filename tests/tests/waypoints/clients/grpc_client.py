# A gRPC client. grpc_client.py TARGET say|chat|fail|big|deadline|calls [FILE] [name=value…]
# `calls` goes on until FILE is there, or a call fails.
import os
import sys

import grpc

target, verb, words = sys.argv[1], sys.argv[2], sys.argv[3:]
metadata = [tuple(word.split("=", 1)) for word in words if "=" in word]
options = [("grpc.max_receive_message_length", 64 << 20), ("grpc.enable_retries", 0)]
TIMEOUT_SECONDS = 40


def say(channel, text, timeout=TIMEOUT_SECONDS):
    return channel.unary_unary("/suite.Echo/Say").with_call(text, timeout=timeout, metadata=metadata, wait_for_ready=True)


def chat(channel):
    said = [b"one", b"two", b"three"]
    heard = list(channel.stream_stream("/suite.Echo/Chat")(iter(said), timeout=TIMEOUT_SECONDS, metadata=metadata))
    assert heard == said, heard
    return len(heard)


with grpc.insecure_channel(target, options) as channel:
    try:
        if verb == "say":
            answer, call = say(channel, b"hello")
            print(answer.decode(), *(f"{name}={value}" for name, value in call.trailing_metadata()))
        elif verb == "chat":
            print(chat(channel))
        elif verb == "fail":
            channel.unary_unary("/suite.Echo/Fail")(b"", timeout=TIMEOUT_SECONDS)
        elif verb == "big":
            text = os.urandom(4_000_000)
            assert say(channel, text)[0] == text
            print(len(text))
        elif verb == "deadline":
            say(channel, b"hello", timeout=1)
        elif verb == "calls":
            calls = 0
            while not os.path.exists(words[0]):
                say(channel, b"hello")
                calls += 1
            print(calls)
    except grpc.RpcError as error:
        print(error.code().name, error.details())
        sys.exit(1 if verb in ("say", "chat", "calls") else 0)
