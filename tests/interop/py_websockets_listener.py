"""A client of a feed on PyPI `websockets`, with permessage-deflate: python py_websockets_listener.py URL. See
README.md for its orders.
"""

import asyncio
import hashlib
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def obey(socket):
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().rstrip("\n"):
        if line == "ping":
            await (await socket.ping("are you there?"))
            print("pong", flush=True)
        else:
            await socket.send(line.removeprefix("say "))
    await socket.close(1000)


async def main():
    options = {"compression": "deflate", "max_size": 16 * 1024 * 1024, "proxy": None}
    async with connect(sys.argv[1], **options) as socket:
        print("open", *(extension.name for extension in socket.protocol.extensions), flush=True)
        obeying = asyncio.create_task(obey(socket))
        try:
            while True:
                message = await socket.recv()
                kind = "text" if isinstance(message, str) else "binary"
                data = message.encode() if kind == "text" else message
                print(kind, len(data), hashlib.sha256(data).hexdigest(), flush=True)
        except ConnectionClosed as closed:
            end = closed.rcvd
            print("close", *((end.code, end.reason) if end else (1006, "")), flush=True)
        obeying.cancel()


asyncio.run(main())
