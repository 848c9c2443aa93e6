# A WebSocket server that says everything back, and a client.
#   websocket.py serve PORT | talk URL | stay URL
import asyncio
import os
import signal
import sys

import websockets


async def serve(port):
    async def echo(socket):
        async for message in socket:
            await socket.send(message)

    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with websockets.serve(echo, "0.0.0.0", port, max_size=16 << 20, subprotocols=["suite"]):
        await ended.wait()


async def talk(url):
    async with websockets.connect(url, max_size=16 << 20, subprotocols=["suite"]) as socket:
        for message in ["hello", b"\0\1\2", os.urandom(3_000_000), "x" * 70_000]:
            await socket.send(message)
            assert await socket.recv() == message
        await (await socket.ping())
        print(socket.subprotocol, "ok")
    print("closed", socket.close_code)


# Says lines of its input, and what comes back.
async def stay(url):
    async with websockets.connect(url) as socket:
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            await socket.send(line.strip())
            print("websocket", await socket.recv(), flush=True)


verb, word = sys.argv[1], sys.argv[2]
try:
    asyncio.run(serve(int(word)) if verb == "serve" else talk(word) if verb == "talk" else stay(word))
except websockets.InvalidStatusCode as error:
    print("status", error.status_code)
