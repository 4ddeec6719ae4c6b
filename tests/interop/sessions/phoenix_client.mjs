// The client of Phoenix channels, from npm: node phoenix_client.mjs URL
import { Socket } from "phoenix";
import WebSocket from "ws";
import { Answers, failed, obey, tell, Ticks } from "./client.mjs";

const socket = new Socket(`${process.argv[2]}/socket`, { transport: WebSocket, heartbeatIntervalMs: 5000 });
const ticks = new Ticks(1);
const answers = new Answers();
let opened = 0;
let left = false;
let replies = 0;

socket.onOpen(() => ++opened > 1 && tell("opened again"));
socket.onClose(({ code, reason }) => tell("closed", { code, reason }));
socket.onError((error) => tell("error", { message: error.message }));
socket.onMessage(({ topic, event, ref, join_ref: joinRef }) => {
  if (topic === "room:elsewhere" && left) failed(`a channel that was left: ${event}`);
  if (topic === "room:elsewhere" && event === "phx_close") {
    left = true;
    tell("ready");
  }
  if (topic === "room:lobby" && event === "phx_reply" && ref === joinRef && ++replies > 1) {
    failed("the join is answered again");
  }
});
socket.connect();

const joined = (channel) =>
  new Promise((resolve, reject) => {
    channel.join().receive("ok", resolve).receive("error", reject).receive("timeout", reject);
  });
const lobby = socket.channel("room:lobby");
const elsewhere = socket.channel("room:elsewhere");
lobby.on("tick", ({ server, n }) => ticks.heard(server, n));
lobby.onError((why) => tell("error", { message: `the channel: ${JSON.stringify(why)}` }));
Promise.all([joined(lobby), joined(elsewhere)]).then(() => elsewhere.leave(), failed);

obey({
  exchange: () =>
    answers.to((text) => {
      const push = lobby.push("say", { text });
      push.receive("ok", (answer) => answers.heard(answer.text)).receive("error", (why) => failed(JSON.stringify(why)));
      push.receive("timeout", () => failed(`no answer to ${text}`));
    }),
  end: () => new Promise((resolve) => socket.disconnect(resolve, 1000)),
});
