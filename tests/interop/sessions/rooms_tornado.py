"""The rooms of rooms.py on Tornado. SIGTERM ends it as it ends any Python program: nobody is told."""

import asyncio

import rooms
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketClosedError, WebSocketHandler


class Handler(WebSocketHandler):
    async def open(self, *_):
        self.conversation = rooms.Conversation(self.say)
        await self.conversation.open()

    async def say(self, text):
        try:
            await self.write_message(text)
        except WebSocketClosedError:
            self.conversation.close()

    async def on_message(self, text):
        await self.conversation.hear(text)

    def on_close(self):
        self.conversation.close()

    def check_origin(self, origin):
        return True


async def main():
    sockets = bind_sockets(rooms.port(), "127.0.0.1")
    HTTPServer(Application([(r"/.*", Handler)])).add_sockets(sockets)
    rooms.listening(sockets[0].getsockname()[1])
    await asyncio.get_running_loop().create_future()


asyncio.run(main())
