// A client on @stomp/stompjs: node stomp_client.mjs URL
import { Client } from "@stomp/stompjs";
import WebSocket from "ws";
import { Answers, failed, obey, tell, Ticks } from "./client.mjs";

const ticks = new Ticks();
const answers = new Answers();
let connected = 0;
let left = false;

const client = new Client({
  webSocketFactory: () => new WebSocket(`${process.argv[2]}/stomp`, ["v12.stomp", "v11.stomp", "v10.stomp"]),
  reconnectDelay: 100,
  heartbeatIncoming: 4000,
  heartbeatOutgoing: 4000,
  onStompError: (frame) => failed(`ERROR: ${frame.headers.message}`),
  onWebSocketClose: ({ code, reason }) => tell("closed", { code, reason }),
  onWebSocketError: (error) => tell("error", { message: error.message }),
  // What was on its way when it was unsubscribed comes from the first one.
  onUnhandledMessage: () => ticks.servers > 1 && failed("a subscription that is over is there again"),
  onConnect: () => {
    if (++connected > 1) return tell("opened again");
    client.subscribe("/answers", ({ body }) => answers.heard(decodeURI(body)));
    const elsewhere = client.subscribe("/ticks", () => {
      if (left) return;
      left = true;
      elsewhere.unsubscribe();
    });
    client.subscribe("/ticks", ({ body }) => {
      const { server, n } = JSON.parse(body);
      ticks.heard(server, n);
      if (left === true) tell("ready");
      if (left) left = "told";
    });
  },
});
client.activate();

obey({
  // In ASCII: the broker says the length of what it sends in characters, which STOMP has in bytes.
  exchange: () => answers.to((text) => client.publish({ destination: "/questions", body: encodeURI(text) })),
  end: () => client.deactivate(),
});
