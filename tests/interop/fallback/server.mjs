// A server on npm `ws` that numbers what it says to each connection, and wants what it hears numbered. See ../README.md.
import { createServer } from "node:http";
import { WebSocketServer } from "ws";
import { listen } from "../sessions/server.mjs";

const http = createServer((request, response) => response.end("ok\n"));
const wss = new WebSocketServer({ server: http });
let connections = 0;

wss.on("connection", (socket) => {
  const connection = `${process.pid}.${++connections}`;
  let n = 0;
  let heard = 0;
  const say = (message) => socket.send(JSON.stringify({ connection, n: ++n, heard, ...message }));
  const ticking = setInterval(say, 20);
  socket.on("error", (error) => console.error(`socket: ${error.message}`));
  socket.on("close", () => clearInterval(ticking));
  socket.on("message", (data) => {
    const { m } = JSON.parse(data);
    if (m !== heard + 1) say({ wrong: `${m} after ${heard}` });
    heard = m;
  });
});

listen(http);
