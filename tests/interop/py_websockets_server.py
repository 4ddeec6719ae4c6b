"""An echo server on PyPI `websockets`, with permessage-deflate. See README.md for its orders."""

import asyncio
import os
import sys
import threading

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def handle(connection):
    try:
        async for message in connection:
            await answer(connection, message)
    except ConnectionClosed:
        # Every code but 1000 and 1001 arrives as an exception; here they are all in order.
        pass


async def answer(connection, message):
    words = message.split(" ", 2) if isinstance(message, str) else []
    if words[:1] == ["close"] and len(words) == 3:
        await connection.close(int(words[1]), words[2])
    elif message == "tell target":
        await connection.send(connection.request.path)
    elif message == "ping me":
        await (await connection.ping("from the server"))
        await connection.send("pong from the server")
    else:
        await connection.send(message)


def select_subprotocol(_connection, offered):
    return "chat.v1" if "chat.v1" in offered else None


async def main():
    options = {"select_subprotocol": select_subprotocol, "max_size": 16 * 1024 * 1024}
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    async with serve(handle, "127.0.0.1", port, **options) as server:
        print(f"listening {server.sockets[0].getsockname()[1]}", flush=True)
        await asyncio.get_running_loop().create_future()


def end_with_stdin():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=end_with_stdin, daemon=True).start()
asyncio.run(main())
