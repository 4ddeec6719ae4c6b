// A server of Yjs documents on @y/websocket-server, without persistence. SIGTERM ends it as any Node program.
import { createServer } from "node:http";
import { getYDoc, setupWSConnection } from "@y/websocket-server/utils";
import { WebSocketServer } from "ws";
import { listen } from "./server.mjs";

const http = createServer((request, response) => response.end("ok\n"));
new WebSocketServer({ server: http }).on("connection", setupWSConnection);
// What only this server can have said: clients see by it that they hear a new one.
getYDoc("yjs/page").getMap("servers").set(String(process.pid), true);
listen(http);
