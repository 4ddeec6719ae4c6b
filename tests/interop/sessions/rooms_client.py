"""A client of the rooms on PyPI `websockets`: python rooms_client.py URL"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


def tell(event, **fields):
    print(json.dumps({"event": event} | fields), flush=True)


def failed(why):
    tell("failed", why=why)


class Client:
    def __init__(self, socket):
        self.socket = socket
        self.server = None
        self.last = 0
        self.heard_once = set()
        self.is_left = False
        self.awaited = {}
        self.asked = 0

    async def say(self, kind, **fields):
        await self.socket.send(json.dumps({"type": kind} | fields))

    async def listen(self):
        await self.say("join", room="lobby")
        await self.say("join", room="elsewhere")
        async for text in self.socket:
            await self.hear(json.loads(text))

    async def hear(self, message):
        kind, room = message["type"], message.get("room")
        if kind == "tick" and room == "lobby":
            self.tick(message["server"], message["n"])
        elif kind == "tick" and self.is_left:
            failed(f"{room} was left, and ticks")
        elif kind == "said":
            answer = self.awaited.pop(message["text"], None)
            answer.set_result(None) if answer else failed(f"an answer that nobody waits for: {message}")
        elif kind != "tick":
            if (kind, room) in self.heard_once:
                failed(f"{kind} {room} came again")
            self.heard_once.add((kind, room))
            if (kind, room) == ("joined", "elsewhere"):
                await self.say("leave", room=room)
            if kind == "left":
                self.is_left = True
                tell("ready")

    def tick(self, server, number):
        if server != self.server:
            self.server, self.last = server, 0
            tell("server", server=server)
        if number != self.last + 1:
            failed(f"tick {number} after {self.last}")
        self.last = number

    async def exchange(self):
        self.asked += 1
        text = f"wörds {self.asked}"
        self.awaited[text] = asyncio.get_running_loop().create_future()
        await self.say("say", text=text)
        await self.awaited[text]
        tell("done", order="exchange")


async def main():
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with connect(f"{sys.argv[1]}/ws/app", proxy=None) as socket:
        client = Client(socket)

        async def listen():
            try:
                await client.listen()
            except ConnectionClosed:
                pass
            closed = socket.protocol
            tell("closed", code=closed.close_code, reason=closed.close_reason)

        listening = asyncio.create_task(listen())
        exchanges = set()
        while order := (await lines.readline()).decode().strip():
            if order == "end":
                await socket.close(1000)
                await listening
                tell("done", order=order)
                return
            exchanges.add(asyncio.create_task(client.exchange()))


asyncio.run(main())
