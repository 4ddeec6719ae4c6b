// An echo server on npm `ws` as its documentation begins: it chooses the first subprotocol whatever it is.
import { WebSocketServer } from "ws";

const wss = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2] ?? 0) });
wss.on("connection", (socket, request) => {
  socket.on("message", (data, isBinary) => {
    const isOrder = !isBinary && data.toString() === "tell protocols";
    socket.send(isOrder ? (request.headers["sec-websocket-protocol"] ?? "none") : data, { binary: isBinary });
  });
});
wss.on("listening", () => console.log(`listening ${wss.address().port}`));
process.stdin.on("end", () => process.exit(0)).resume();
