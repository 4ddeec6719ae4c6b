// A client of a feed on npm `ws`, with permessage-deflate: node node_ws_listener.mjs URL. See README.md for its orders.
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import WebSocket from "ws";

const socket = new WebSocket(process.argv[2], { perMessageDeflate: { threshold: 0 } });
const said = createInterface({ input: process.stdin });

socket.on("open", () => console.log(`open ${socket.extensions}`));
socket.on("message", (data, isBinary) => {
  const hash = createHash("sha256").update(data).digest("hex");
  console.log(`${isBinary ? "binary" : "text"} ${data.length} ${hash}`);
});
socket.on("pong", () => console.log("pong"));
socket.on("close", (code, reason) => {
  console.log(`close ${code} ${reason}`);
  process.exit(0);
});
socket.on("error", (error) => console.error(error));
said.on("line", (line) => (line === "ping" ? socket.ping("are you there?") : socket.send(line.slice("say ".length))));
said.on("close", () => socket.close(1000));
