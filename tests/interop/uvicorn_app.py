"""An echo server on uvicorn and Starlette, with permessage-deflate. See README.md for its orders."""

import asyncio
import os
import socket
import sys
import threading

import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect


async def echo(websocket):
    offered = websocket.scope["subprotocols"]
    await websocket.accept(subprotocol="chat.v1" if "chat.v1" in offered else None)
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text, data = message.get("text"), message.get("bytes")
            if text is None:
                await websocket.send_bytes(data)
            elif text.startswith("close "):
                _, code, reason = text.split(" ", 2)
                await websocket.close(int(code), reason)
                return
            elif text == "tell target":
                query = websocket.scope["query_string"].decode()
                await websocket.send_text(websocket.scope["raw_path"].decode() + (f"?{query}" if query else ""))
            else:
                await websocket.send_text(text)
    except WebSocketDisconnect:
        return


async def plain(request):
    return PlainTextResponse(f"plain {request.method} {request.url.path}\n")


async def main():
    app = Starlette(routes=[Route("/{rest:path}", plain), WebSocketRoute("/{rest:path}", echo)])
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws_max_size=16 * 1024 * 1024))
    print(f"listening {listener.getsockname()[1]}", flush=True)
    await server.serve(sockets=[listener])


def end_with_stdin():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=end_with_stdin, daemon=True).start()
asyncio.run(main())
