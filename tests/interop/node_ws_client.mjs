// Runs a series of exchanges against an echo server with npm `ws`: node node_ws_client.mjs URL [--skip-ping-me]
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import WebSocket from "ws";

const [url, ...flags] = process.argv.slice(2);
const DEADLINE = 30_000;

/** A connection whose messages can be awaited one by one, in order. */
async function open(path, options = {}) {
  const socket = new WebSocket(url + path, ["chat.v2", "chat.v1"], { perMessageDeflate: { threshold: 0 }, ...options });
  const waiting = [];
  const arrived = [];
  const closed = once(socket, "close");
  socket.on("message", (data, isBinary) => {
    const message = isBinary ? data : data.toString();
    if (waiting.length > 0) waiting.shift()(message);
    else arrived.push(message);
  });
  socket.next = () => (arrived.length > 0 ? arrived.shift() : new Promise((resolve) => waiting.push(resolve)));
  socket.closed = async () => {
    const [code, reason] = await closed;
    return { code, reason: reason.toString() };
  };
  await Promise.race([
    once(socket, "open"),
    once(socket, "unexpected-response").then(([, response]) => assert.fail(`HTTP ${response.statusCode}`)),
  ]);
  return socket;
}

const big = randomBytes(1024 * 1024);

const steps = {
  "the subprotocol and permessage-deflate are agreed on": async (socket) => {
    assert.equal(socket.protocol, "chat.v1");
    assert.match(socket.extensions, /permessage-deflate/);
  },
  "the server sees path and query as they were sent": async (socket) => {
    socket.send("tell target");
    assert.equal(await socket.next(), "/echo/r%C3%B6om?a=1&b=%20x");
  },
  "text and binary messages come back": async (socket) => {
    socket.send("hello, wörld");
    assert.equal(await socket.next(), "hello, wörld");
    socket.send(Buffer.from([0, 1, 254, 255]));
    assert.deepEqual(await socket.next(), Buffer.from([0, 1, 254, 255]));
  },
  "empty messages come back": async (socket) => {
    socket.send("");
    assert.equal(await socket.next(), "");
    socket.send(Buffer.alloc(0));
    assert.deepEqual(await socket.next(), Buffer.alloc(0));
  },
  "a megabyte comes back, of noise and of text": async (socket) => {
    socket.send(big);
    assert.ok(big.equals(await socket.next()), "other bytes came back");
    const text = "many words, often the same. ".repeat(40_000);
    socket.send(text);
    assert.ok((await socket.next()) === text, "another text came back");
  },
  "a message in fragments comes back whole": async (socket) => {
    socket.send("one, ", { fin: false });
    socket.send("two, ", { fin: false });
    socket.ping("between fragments");
    socket.send("three", { fin: true });
    assert.equal(await socket.next(), "one, two, three");
  },
  "a ping is answered": async (socket) => {
    const pong = once(socket, "pong");
    socket.ping("are you there?");
    assert.equal((await pong).toString(), "are you there?");
  },
  "the server's ping is answered": async (socket) => {
    socket.send("ping me");
    assert.equal(await socket.next(), "pong from the server");
  },
  "200 messages in flight come back in order": async (socket) => {
    const messages = Array.from({ length: 200 }, (_, index) => `${index}:${"x".repeat((index * 37) % 2000)}`);
    for (const message of messages) socket.send(message);
    for (const message of messages) assert.equal(await socket.next(), message);
  },
  "our close comes back with its code and reason": async (socket) => {
    socket.close(4001, "that was all");
    assert.deepEqual(await socket.closed(), { code: 4001, reason: "that was all" });
  },
  "the server's close arrives with its code and reason": async () => {
    const socket = await open("/");
    socket.send("close 4002 enough, thank you");
    assert.deepEqual(await socket.closed(), { code: 4002, reason: "enough, thank you" });
  },
  "without compression it works as well": async () => {
    const socket = await open("/", { perMessageDeflate: false });
    assert.equal(socket.extensions, "");
    socket.send(big);
    assert.ok(big.equals(await socket.next()), "other bytes came back");
    socket.close(1000);
    assert.equal((await socket.closed()).code, 1000);
  },
};

if (flags.includes("--skip-ping-me")) delete steps["the server's ping is answered"];

let step = "connecting";
setTimeout(() => fail(new Error(`nothing within ${DEADLINE} ms`)), DEADLINE);

function fail(error) {
  console.error(`FAILED: ${step}: ${error.stack ?? error}`);
  process.exit(1);
}

try {
  const socket = await open("/echo/r%C3%B6om?a=1&b=%20x");
  for (const [name, run] of Object.entries(steps)) {
    step = name;
    await run(socket);
    console.log(`ok: ${name}`);
  }
  process.exit(0);
} catch (error) {
  fail(error);
}
