// A client on socket.io-client, which comes back by itself: node socketio_client.mjs URL
import { io } from "socket.io-client";
import { obey, tell } from "./client.mjs";

const url = process.argv[2].replace(/^ws/, "http");
const socket = io(url, { transports: ["websocket"] });

socket.on("connect", () => tell("ready", { server: socket.id }));
socket.on("disconnect", (reason) => tell("closed", { reason }));

obey({
  exchange: () => socket.timeout(5000).emitWithAck("ask", "which way?"),
  end: async () => socket.disconnect(),
});
