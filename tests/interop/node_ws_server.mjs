// An echo server on npm `ws`, with permessage-deflate. See README.md for its orders.
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const http = createServer((request, response) => response.end(`plain ${request.method} ${request.url}\n`));
const wss = new WebSocketServer({
  server: http,
  perMessageDeflate: { threshold: 0 },
  maxPayload: 16 * 1024 * 1024,
  handleProtocols: (offered) => (offered.has("chat.v1") ? "chat.v1" : false),
});

wss.on("connection", (socket, request) => {
  socket.on("error", (error) => console.error(`socket: ${error.message}`));
  socket.on("pong", (payload) => socket.send(`pong ${payload}`));
  socket.on("message", (data, isBinary) => {
    const text = isBinary ? "" : data.toString();
    const close = /^close (\d+) (.*)$/s.exec(text);
    if (close) socket.close(Number(close[1]), close[2]);
    else if (text === "tell target") socket.send(request.url);
    else if (text === "ping me") socket.ping("from the server");
    else socket.send(data, { binary: isBinary });
  });
});

http.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => console.log(`listening ${http.address().port}`));
process.stdin.on("end", () => process.exit(0)).resume();
