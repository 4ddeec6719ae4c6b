// Runs a series with socket.io-client over each transport: node socketio_client.mjs URL
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { io } from "socket.io-client";

const [url] = process.argv.slice(2);
const DEADLINE = 30_000;
let step = "starting";

async function connect(transports) {
  const socket = io(url, { transports, forceNew: true, reconnection: false });
  await Promise.race([
    once(socket, "connect"),
    // Its cause is in `description`; without it a failure says only "websocket error".
    once(socket, "connect_error").then(([error]) => {
      throw new Error(`${error.message} ${error.description?.message ?? error.description ?? ""}`);
    }),
  ]);
  return socket;
}

async function series(socket, transport) {
  assert.equal(socket.io.engine.transport.name, transport);
  const answer = await socket.timeout(5000).emitWithAck("ask", "which way?");
  assert.deepEqual(answer, { question: "which way?", transport });

  const said = once(socket, "said");
  const blob = randomBytes(512 * 1024);
  socket.emit("say", "wörds", { nested: [1, null] }, blob);
  const [text, nested, echoed] = await said;
  assert.deepEqual([text, nested], ["wörds", { nested: [1, null] }]);
  assert.ok(blob.equals(Buffer.from(echoed)), "other bytes came back");

  const numbers = [];
  const all = new Promise((resolve) => {
    socket.on("said", (number) => numbers.push(number) === 200 && resolve());
  });
  for (let number = 0; number < 200; number++) socket.emit("say", number);
  await all;
  assert.deepEqual(numbers, Array.from({ length: 200 }, (_, index) => index));
  socket.off("said");

  const other = await connect([transport]);
  const told = once(other, "told");
  socket.emit("tell all", transport);
  assert.deepEqual(await told, [transport]);
  other.disconnect();

  const gone = once(socket, "disconnect");
  socket.emit("leave me");
  const [reason] = await gone;
  assert.ok(["io server disconnect", "transport close"].includes(reason), `disconnected by: ${reason}`);
}

const steps = {
  "over WebSocket alone": async () => series(await connect(["websocket"]), "websocket"),
  "over long polling alone": async () => series(await connect(["polling"]), "polling"),
  "from long polling up to WebSocket": async () => {
    const socket = await connect(["polling", "websocket"]);
    // The upgrade may be through by the time that "connect" is told.
    if (socket.io.engine.transport.name === "polling") await once(socket.io.engine, "upgrade");
    await series(socket, "websocket");
  },
};

function fail(error) {
  console.error(`FAILED: ${step}: ${error.stack ?? error}`);
  process.exit(1);
}

setTimeout(() => fail(new Error(`not done within ${DEADLINE} ms`)), DEADLINE);
try {
  for (const [name, run] of Object.entries(steps)) {
    step = name;
    await run();
    console.log(`ok: ${name}`);
  }
  process.exit(0);
} catch (error) {
  fail(error);
}
