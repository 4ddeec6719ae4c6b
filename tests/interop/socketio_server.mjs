// A Socket.IO server as its documentation has it: long-polling and WebSocket.
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, { perMessageDeflate: { threshold: 0 }, maxHttpBufferSize: 4 * 1024 * 1024 });

io.on("connection", (socket) => {
  socket.on("ask", (question, answer) => answer({ question, transport: socket.conn.transport.name }));
  socket.on("say", (...what) => socket.emit("said", ...what));
  socket.on("tell all", (what) => io.emit("told", what));
  socket.on("leave me", () => socket.disconnect(true));
});

http.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => console.log(`listening ${http.address().port}`));
process.stdin.on("end", () => process.exit(0)).resume();
