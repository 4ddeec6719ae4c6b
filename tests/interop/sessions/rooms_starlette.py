"""The rooms of rooms.py on uvicorn and Starlette, which is what FastAPI is made of; uvicorn handles SIGTERM."""

import asyncio
import socket

import rooms
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect


async def handle(websocket):
    await websocket.accept()
    conversation = rooms.Conversation(websocket.send_text)
    try:
        await conversation.open()
        while True:
            await conversation.hear(await websocket.receive_text())
    except WebSocketDisconnect:
        pass
    finally:
        conversation.close()


async def main():
    app = Starlette(routes=[WebSocketRoute("/{rest:path}", handle)])
    listener = socket.create_server(("127.0.0.1", rooms.port()))
    rooms.listening(listener.getsockname()[1])
    await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[listener])


asyncio.run(main())
