// An echo server on npm `ws` that is stopped as servers often are: on SIGTERM it closes everybody with 1001 at
// once and exits. See README.md.
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const http = createServer((request, response) => response.end("ok\n"));
const wss = new WebSocketServer({ server: http });

wss.on("connection", (socket) => {
  socket.on("error", (error) => console.error(`socket: ${error.message}`));
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
});

process.on("SIGTERM", () => {
  for (const socket of wss.clients) socket.close(1001, "going away");
  wss.close();
  http.close(() => process.exit(0));
  http.closeAllConnections();
});

http.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => console.log(`listening ${http.address().port}`));
process.stdin.on("end", () => process.exit(0)).resume();
