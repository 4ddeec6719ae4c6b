"""The rooms of rooms.py on PyPI `websockets`; SIGTERM closes the server, as its documentation has it."""

import asyncio
import signal

import rooms
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def handle(socket):
    conversation = rooms.Conversation(socket.send)
    try:
        await conversation.open()
        async for text in socket:
            await conversation.hear(text)
    except ConnectionClosed:
        pass
    finally:
        conversation.close()


async def main():
    async with serve(handle, "127.0.0.1", rooms.port()) as server:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
        rooms.listening(server.sockets[0].getsockname()[1])
        await server.wait_closed()


asyncio.run(main())
