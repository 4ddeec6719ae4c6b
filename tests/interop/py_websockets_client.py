"""Runs a series of exchanges against an echo server with PyPI `websockets`:
python py_websockets_client.py URL [--skip-ping-me]
"""

import asyncio
import os
import sys
import traceback

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

DEADLINE = 30.0
BIG = os.urandom(1024 * 1024)

url, *flags = sys.argv[1:]


def open_at(path, **options):
    options = {"compression": "deflate", "max_size": 16 * 1024 * 1024, "proxy": None} | options
    return connect(url + path, subprotocols=["chat.v2", "chat.v1"], **options)


def same(actual, expected):
    if actual != expected:
        raise AssertionError(f"{str(actual)[:200]!r} came, {str(expected)[:200]!r} was due")


async def agreed(socket):
    """the subprotocol and permessage-deflate are agreed on"""
    same(socket.subprotocol, "chat.v1")
    same([extension.name for extension in socket.protocol.extensions], ["permessage-deflate"])


async def target(socket):
    """the server sees path and query as they were sent"""
    await socket.send("tell target")
    same(await socket.recv(), "/echo/r%C3%B6om?a=1&b=%20x")


async def text_and_binary(socket):
    """text and binary messages come back"""
    for message in ["hello, wörld", bytes([0, 1, 254, 255])]:
        await socket.send(message)
        same(await socket.recv(), message)


async def empty(socket):
    """empty messages come back"""
    for message in ["", b""]:
        await socket.send(message)
        same(await socket.recv(), message)


async def megabyte(socket):
    """a megabyte comes back, of noise and of text"""
    for message in [BIG, "many words, often the same. " * 40_000]:
        await socket.send(message)
        same(await socket.recv(), message)


async def fragments(socket):
    """a message in fragments comes back whole"""
    await socket.send(["one, ", "two, ", "three"])
    same(await socket.recv(), "one, two, three")


async def our_ping(socket):
    """a ping is answered"""
    await (await socket.ping("are you there?"))


async def their_ping(socket):
    """the server's ping is answered"""
    await socket.send("ping me")
    same(await socket.recv(), "pong from the server")


async def in_flight(socket):
    """200 messages in flight come back in order"""
    messages = [f"{index}:{'x' * (index * 37 % 2000)}" for index in range(200)]
    sending = asyncio.gather(*(socket.send(message) for message in messages))
    for message in messages:
        same(await socket.recv(), message)
    await sending


async def our_close(socket):
    """our close comes back with its code and reason"""
    await socket.close(4001, "that was all")
    # What the server answered, not what we said.
    answer = socket.protocol.close_rcvd
    same((answer.code, answer.reason), (4001, "that was all"))


async def their_close(_socket):
    """the server's close arrives with its code and reason"""
    async with open_at("/") as socket:
        await socket.send("close 4002 enough, thank you")
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            same((closed.rcvd.code, closed.rcvd.reason), (4002, "enough, thank you"))
        else:
            raise AssertionError("a message came instead of the close")


async def uncompressed(_socket):
    """without compression it works as well"""
    async with open_at("/", compression=None) as socket:
        same(socket.protocol.extensions, [])
        await socket.send(BIG)
        same(await socket.recv(), BIG)


STEPS = [
    agreed,
    target,
    text_and_binary,
    empty,
    megabyte,
    fragments,
    our_ping,
    *([] if "--skip-ping-me" in flags else [their_ping]),
    in_flight,
    our_close,
    their_close,
    uncompressed,
]


async def main():
    name = "connecting"
    try:
        async with open_at("/echo/r%C3%B6om?a=1&b=%20x") as socket:
            for step in STEPS:
                name = step.__doc__
                await asyncio.wait_for(step(socket), DEADLINE)
                print(f"ok: {name}", flush=True)
    except Exception:
        print(f"FAILED: {name}: {traceback.format_exc()}", file=sys.stderr)
        sys.exit(1)


asyncio.run(main())
