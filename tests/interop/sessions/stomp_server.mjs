// A STOMP 1.1 broker: npm stomp-broker-js. SIGTERM ends it as any Node program: nobody is told.
import { createServer } from "node:http";
import StompServer from "stomp-broker-js";
import { listen } from "./server.mjs";

const http = createServer((request, response) => response.end("ok\n"));
const broker = new StompServer({ server: http, path: "/stomp", heartbeat: [4000, 4000] });
let n = 0;

broker.subscribe("/questions", (body) => broker.send("/answers", {}, body));
setInterval(() => broker.send("/ticks", {}, JSON.stringify({ server: process.pid, n: ++n })), 20);
listen(http);
