// A client on graphql-ws: node graphql_client.mjs URL
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import { failed, obey, tell, Ticks } from "./client.mjs";

const client = createClient({
  url: `${process.argv[2]}/graphql`,
  webSocketImpl: WebSocket,
  lazy: false,
  retryAttempts: 0,
  onNonLazyError: (error) => tell("error", { message: error.reason ?? error.message ?? "" }),
});
const ticks = new Ticks(1);
let connected = 0;
let asked = 0;
let begun = 0;
let onTick = () => {};

client.on("connected", () => ++connected > 1 && tell("opened again"));
client.on("closed", ({ code, reason }) => tell("closed", { code, reason: String(reason) }));

/** The one result of a query. */
async function ask(field) {
  const text = `wörds ${++asked}`;
  const results = [];
  const query = `query ($text: String!) { answer: ${field}(text: $text) { text server } }`;
  for await (const result of client.iterate({ query, variables: { text } })) results.push(result);
  if (results.length !== 1) failed(`${results.length} results of one query`);
  if (results[0].data?.answer.text !== text) failed(`another answer: ${JSON.stringify(results[0])}`);
  return results[0].data.answer.server;
}

async function subscribe(room, heard) {
  const query = "subscription ($room: String!) { ticks(room: $room) { server n asked subscriptions } }";
  for await (const { data, errors } of client.iterate({ query, variables: { room } })) {
    if (errors) failed(JSON.stringify(errors));
    if (heard(data.ticks) === "enough") return;
  }
  if (room === "lobby") failed("the subscription is over");
}

subscribe("lobby", (tick) => {
  ticks.heard(tick.server, tick.n);
  if (ticks.servers > 1 && tick.subscriptions > 1) failed("a subscription that was completed is there again");
  begun = tick.asked;
  onTick(tick);
}).catch((error) => failed(error.stack ?? JSON.stringify(error)));
// One that was completed must not come back.
subscribe("elsewhere", () => "enough").then(() => tell("ready"));

obey({
  exchange: () => ask("answer"),
  /** A query that the server has begun to work on, and does not get done. */
  "be in flight": () =>
    new Promise((resolve) => {
      const [server, before] = [ticks.server, begun];
      ask("slow").then((answered) => tell("landed", { moved: answered !== server }), failed);
      onTick = ({ asked }) => asked > before && resolve();
    }),
  end: () => client.dispose(),
});
