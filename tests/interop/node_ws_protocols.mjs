// Offers subprotocols that are the proxy's own with npm `ws` and with the WebSocket that Node has built in, which fail a
// handshake in which none of the offered is chosen: node node_ws_protocols.mjs URL
import assert from "node:assert/strict";
import WS from "ws";

const [url] = process.argv.slice(2);
const nonce = "outrigger.nonce.abcdefghijklmnopqrstuv";
const resume = `outrigger.resume.${"A".repeat(60)}.41`;

// what is offered, what the server sees, what is chosen
const cases = [
  [["outrigger.plain", "outrigger.v1", nonce], "none", "outrigger.plain"],
  [["outrigger.v1", nonce, resume], "none", "outrigger.v1"],
  [["chat", "soap", "outrigger.plain", "outrigger.v1", nonce, resume], "chat,soap", "chat"],
  [["outrigger.bearer", "TOKEN"], "none", "outrigger.bearer"],
  [["chat"], "chat", "chat"],
  [[], "none", ""],
];

// Before version 22 Node has it with --experimental-websocket only.
for (const Socket of [WS, globalThis.WebSocket].filter(Boolean)) {
  for (const [offered, seen, chosen] of cases) {
    const socket = new Socket(`${url}/`, offered);
    const answer = await new Promise((resolve, reject) => {
      socket.onopen = () => socket.send("tell protocols");
      socket.onmessage = (event) => resolve(event.data);
      socket.onerror = (event) => reject(new Error(`${offered}: ${event.message ?? "it failed"}`));
    });
    assert.equal(answer.replaceAll(" ", ""), seen, `the server of ${offered}`);
    assert.equal(socket.protocol, chosen, `${offered}`);
    socket.close();
    console.log(`ok: ${Socket === WS ? "ws" : "built in"}: ${offered.length} offered, ${chosen || "nothing"} chosen`);
  }
}
process.exit(0);
