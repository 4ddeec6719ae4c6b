// An MQTT broker: npm aedes, over WebSocket. SIGTERM ends it as any Node program: nobody is told.
import { createServer } from "node:http";
import { Aedes } from "aedes";
import { createWebSocketStream, WebSocketServer } from "ws";
import { listen } from "./server.mjs";

const broker = await Aedes.createBroker();
const http = createServer((request, response) => response.end("ok\n"));
const wss = new WebSocketServer({ server: http, handleProtocols: () => "mqtt" });
wss.on("connection", (socket, request) => broker.handle(createWebSocketStream(socket), request));
listen(http);
