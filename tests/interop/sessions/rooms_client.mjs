// A client of the rooms: node rooms_client.mjs URL [ws | partysocket | reconnecting-websocket]
import PartySocket from "partysocket";
import ReconnectingWebSocket from "reconnecting-websocket";
import WebSocket from "ws";
import { Answers, failed, obey, tell, Ticks } from "./client.mjs";

const [url, library = "ws"] = process.argv.slice(2);
const libraries = {
  ws: () => new WebSocket(`${url}/ws/app`),
  partysocket: () => new PartySocket({ host: new URL(url).host, basePath: "ws/app", protocol: "ws", WebSocket }),
  "reconnecting-websocket": () => new ReconnectingWebSocket(`${url}/ws/app`, [], { WebSocket }),
};

const socket = libraries[library]();
const say = (message) => socket.send(JSON.stringify(message));
const ticks = new Ticks(1);
const answers = new Answers();
const heard = new Set();
const once = (what) => (heard.has(what) ? failed(`${what} came again`) : heard.add(what));
let opened = 0;
let left = false;

socket.addEventListener("open", () => {
  if (++opened > 1) return tell("opened again");
  say({ type: "join", room: "lobby" });
  say({ type: "join", room: "elsewhere" });
});
socket.addEventListener("close", ({ code, reason }) => tell("closed", { code, reason }));
socket.addEventListener("error", (error) => tell("error", { message: error.message }));
socket.addEventListener("message", ({ data }) => {
  const { type, room, text, server, n } = JSON.parse(data);
  if (type === "tick" && room === "lobby") return ticks.heard(server, n);
  if (type === "tick") return left ? failed(`${room} was left, and ticks`) : undefined;
  if (type === "said") return answers.heard(text);
  once(`${type} ${room ?? ""}`);
  if (type === "joined" && room === "elsewhere") say({ type: "leave", room });
  if (type === "left") {
    left = true;
    tell("ready");
  }
});

obey({
  exchange: () => answers.to((text) => say({ type: "say", text })),
  end: () =>
    new Promise((resolve) => {
      socket.addEventListener("close", resolve);
      socket.close(1000);
    }),
});
