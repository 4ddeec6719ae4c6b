// A small server of Phoenix channels, in the second version of their protocol, on npm `ws`: arrays of join_ref, ref,
// topic, event and payload. SIGTERM closes everybody with 1012.
import { createServer } from "node:http";
import { WebSocketServer } from "ws";
import { listen } from "./server.mjs";

const server = process.pid;
const http = createServer((request, response) => response.end("ok\n"));
const wss = new WebSocketServer({ server: http, path: "/socket/websocket" });

wss.on("connection", (socket, request) => {
  if (new URL(request.url, "http://x").searchParams.get("vsn") !== "2.0.0") return socket.close(1002);
  const channels = new Map();
  const push = (...message) => socket.send(JSON.stringify(message));
  socket.on("error", (error) => console.error(`socket: ${error.message}`));
  socket.on("close", () => channels.forEach(({ ticking }) => clearInterval(ticking)));
  socket.on("message", (data) => {
    const [joinRef, ref, topic, event, payload] = JSON.parse(data);
    const reply = (status, response) => push(joinRef, ref, topic, "phx_reply", { status, response });
    const channel = channels.get(topic);
    if (event === "heartbeat") return reply("ok", {});
    if (event === "phx_join") {
      clearInterval(channel?.ticking);
      let n = 0;
      const ticking = setInterval(() => push(joinRef, null, topic, "tick", { server, n: ++n }), 20);
      channels.set(topic, { joinRef, ticking });
      return reply("ok", {});
    }
    // As Phoenix answers what is for a channel that nobody has joined.
    if (!channel || channel.joinRef !== joinRef) return reply("error", { reason: "unmatched topic" });
    if (event === "phx_leave") {
      clearInterval(channel.ticking);
      channels.delete(topic);
      reply("ok", {});
      return push(joinRef, ref, topic, "phx_close", {});
    }
    reply("ok", { text: payload.text, server });
  });
});

process.on("SIGTERM", () => {
  for (const socket of wss.clients) socket.close(1012);
  wss.close(() => process.exit(0));
});
listen(http);
