// A GraphQL server on graphql-ws and npm `ws`. SIGTERM disposes of it, which closes everybody with 1001.
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { buildSchema } from "graphql";
import { useServer } from "graphql-ws/use/ws";
import { WebSocketServer } from "ws";
import { listen } from "./server.mjs";

const server = process.pid;
const schema = buildSchema(`
  type Answer { text: String!, server: Int! }
  type Tick { server: Int!, n: Int!, asked: Int!, subscriptions: Int! }
  type Query { answer(text: String!): Answer!, slow(text: String!): Answer! }
  type Subscription { ticks(room: String!): Tick! }
`);
let asked = 0;
let subscriptions = 0;
let held = [];

const roots = {
  query: {
    answer: ({ text }) => {
      held.forEach((resolve) => resolve());
      held = [];
      return { text, server };
    },
    // Has no answer before somebody asks for one at once.
    slow: async ({ text }) => {
      asked++;
      await new Promise((resolve) => held.push(resolve));
      return { text, server };
    },
  },
  subscription: {
    ticks: async function* () {
      subscriptions++;
      try {
        for (let n = 1; ; n++) {
          await sleep(20);
          yield { ticks: { server, n, asked, subscriptions } };
        }
      } finally {
        subscriptions--;
      }
    },
  },
};

const http = createServer((request, response) => response.end("ok\n"));
const disposable = useServer({ schema, roots }, new WebSocketServer({ server: http, path: "/graphql" }));
process.on("SIGTERM", async () => {
  await disposable.dispose();
  process.exit(0);
});
listen(http);
