// npm `eventsource`, by orders: see ../README.md.
import { EventSource } from "eventsource";
import { listen } from "./listening.mjs";
import { obey } from "./orders.mjs";

const listeners = new Map();

await obey({
  visit: () => {},
  listen: ({ name, url, options }) => void listeners.set(name, listen(EventSource, url, options)),
  look: ({ name }) => listeners.get(name).look(),
  leave: ({ name }) => listeners.get(name).leave(),
});
process.exit(0);
