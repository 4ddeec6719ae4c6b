"""The rooms of rooms.py on aiohttp; at its shutdown it closes its WebSockets, as its documentation has it."""

import socket
import weakref

import rooms
from aiohttp import WSCloseCode, WSMsgType, web

WEBSOCKETS = web.AppKey("websockets", weakref.WeakSet)


async def handle(request):
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    request.app[WEBSOCKETS].add(websocket)
    conversation = rooms.Conversation(websocket.send_str)
    try:
        await conversation.open()
        async for message in websocket:
            if message.type == WSMsgType.TEXT:
                await conversation.hear(message.data)
    finally:
        conversation.close()
        request.app[WEBSOCKETS].discard(websocket)
    return websocket


async def close_all(app):
    for websocket in set(app[WEBSOCKETS]):
        await websocket.close(code=WSCloseCode.GOING_AWAY, message=b"Server shutdown")


async def main():
    app = web.Application()
    app[WEBSOCKETS] = weakref.WeakSet()
    app.router.add_get("/{rest:.*}", handle)
    app.on_shutdown.append(close_all)
    return app


listener = socket.create_server(("127.0.0.1", rooms.port()))
rooms.listening(listener.getsockname()[1])
web.run_app(main(), sock=listener, print=None, access_log=None)
