// The rooms of rooms.py on npm `ws`. SIGTERM ends it as it ends any Node program: nobody is told.
import { createServer } from "node:http";
import { WebSocketServer } from "ws";
import { listen } from "./server.mjs";

const server = process.pid;
const http = createServer((request, response) => response.end("ok\n"));
const wss = new WebSocketServer({ server: http });

wss.on("connection", (socket) => {
  const rooms = new Map();
  const say = (message) => socket.send(JSON.stringify(message));
  socket.on("error", (error) => console.error(`socket: ${error.message}`));
  socket.on("close", () => rooms.forEach(clearInterval));
  socket.on("message", (data) => {
    const { type, room, text } = JSON.parse(data);
    if (type === "join") {
      let n = 0;
      say({ type: "joined", room, server });
      rooms.set(room, setInterval(() => say({ type: "tick", room, server, n: ++n }), 20));
    } else if (type === "leave") {
      clearInterval(rooms.get(room));
      rooms.delete(room);
      say({ type: "left", room, server });
    } else {
      say({ type: "said", text, server });
    }
  });
  say({ type: "welcome", server });
});

listen(http);
