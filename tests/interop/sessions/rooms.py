"""A small application with state in its connections, for whichever library: what a client has joined ticks.

Welcomes whoever connects; `join` is answered by `joined` and begins a room's ticks, numbered from 1; `leave` is
answered by `left` and ends them; `say` is answered by `said`.
"""

import asyncio
import json
import os
import sys
import threading

SERVER = os.getpid()


class Conversation:
    """One client's. `send` takes a text, and is awaited."""

    def __init__(self, send):
        self.send = send
        self.rooms = {}

    async def say(self, kind, **fields):
        await self.send(json.dumps({"type": kind, "server": SERVER} | fields))

    async def open(self):
        await self.say("welcome")

    async def hear(self, text):
        message = json.loads(text)
        room = message.get("room")
        match message["type"]:
            case "join":
                await self.say("joined", room=room)
                self.rooms[room] = asyncio.create_task(self.tick(room))
            case "leave":
                self.rooms.pop(room).cancel()
                await self.say("left", room=room)
            case _:
                await self.say("said", text=message["text"])

    async def tick(self, room):
        number = 0
        while True:
            await asyncio.sleep(0.02)
            number += 1
            await self.say("tick", room=room, n=number)

    def close(self):
        for ticking in self.rooms.values():
            ticking.cancel()


def port():
    return int(sys.argv[1]) if len(sys.argv) > 1 else 0


def listening(number):
    """Says so, and has the process end with its standard input."""

    def end_with_stdin():
        sys.stdin.read()
        os._exit(0)

    print(f"listening {number}", flush=True)
    threading.Thread(target=end_with_stdin, daemon=True).start()
