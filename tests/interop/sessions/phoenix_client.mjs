// The client of Phoenix channels, from npm: node phoenix_client.mjs URL
import { Socket } from "phoenix";
import WebSocket from "ws";
import { Answers, failed, obey, tell, Ticks } from "./client.mjs";

const socket = new Socket(`${process.argv[2]}/socket`, { transport: WebSocket, heartbeatIntervalMs: 5000 });
const ticks = new Ticks(1);
const answers = new Answers();
let opened = 0;
let left = false;

socket.onOpen(() => ++opened > 1 && tell("opened again"));
socket.onClose(({ code, reason }) => tell("closed", { code, reason }));
socket.onError((error) => tell("error", { message: error.message }));
socket.connect();

const joined = (channel) =>
  new Promise((resolve, reject) => {
    channel.join().receive("ok", resolve).receive("error", reject).receive("timeout", reject);
  });
const lobby = socket.channel("room:lobby");
const elsewhere = socket.channel("room:elsewhere");
lobby.on("tick", ({ server, n }) => ticks.heard(server, n));
lobby.onError((why) => tell("error", { message: `the channel: ${JSON.stringify(why)}` }));
elsewhere.onMessage = (event, payload) => {
  if (left) failed(`a channel that was left: ${event}`);
  return payload;
};
Promise.all([joined(lobby), joined(elsewhere)])
  .then(() => new Promise((resolve) => elsewhere.leave().receive("ok", resolve)))
  .then(() => {
    left = true;
    tell("ready");
  }, failed);

obey({
  exchange: () =>
    answers.to((text) => {
      const push = lobby.push("say", { text });
      push.receive("ok", (answer) => answers.heard(answer.text)).receive("error", (why) => failed(JSON.stringify(why)));
      push.receive("timeout", () => failed(`no answer to ${text}`));
    }),
  end: () => new Promise((resolve) => socket.disconnect(resolve, 1000)),
});
