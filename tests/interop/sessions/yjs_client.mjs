// Two clients on y-websocket that edit one document: node yjs_client.mjs URL
import assert from "node:assert/strict";
import WebSocket from "ws";
import { WebsocketProvider } from "y-websocket";
import * as Y from "yjs";
import { obey, tell } from "./client.mjs";

const [url] = process.argv.slice(2);

function open(name) {
  const doc = new Y.Doc();
  const provider = new WebsocketProvider(`${url}/yjs`, "page", doc, { WebSocketPolyfill: WebSocket, disableBc: true });
  provider.awareness.setLocalState({ name });
  provider.on("connection-close", (event) => tell("closed", { code: event?.code, reason: event?.reason }));
  provider.on("connection-error", (error) => tell("error", { message: error?.message }));
  return { doc, provider, lines: doc.getArray("lines"), servers: doc.getMap("servers") };
}

const until = (shared, condition) =>
  new Promise((resolve) => {
    const look = () => condition() && (shared.unobserve(look), resolve());
    shared.observe(look);
    look();
  });
const has = ({ lines }, line) => until(lines, () => lines.toArray().includes(line));
const synced = ({ provider }) => new Promise((resolve) => provider.once("sync", resolve));

const ann = open("ann");
const bob = open("bob");
ann.provider.on("status", ({ status }) => status === "connecting" && tell("opened again"));
ann.servers.observe((event) => event.keysChanged.forEach((server) => tell("server", { server })));
Promise.all([synced(ann), synced(bob)]).then(() => tell("ready"));

let edits = 0;
obey({
  exchange: async () => {
    const edit = ++edits;
    ann.lines.push([`ann ${edit}`]);
    bob.lines.insert(0, [`bob ${edit}`]);
    await Promise.all([has(bob, `ann ${edit}`), has(ann, `bob ${edit}`)]);
  },
  /** Who comes new gets the same document. */
  end: async () => {
    const carl = open("carl");
    await synced(carl);
    await has(carl, `ann ${edits}`);
    await has(carl, `bob ${edits}`);
    assert.equal(carl.lines.length, 2 * edits);
    for (const each of [bob, carl]) assert.deepEqual(each.doc.toJSON(), ann.doc.toJSON());
    for (const each of [ann, bob, carl]) each.provider.destroy();
  },
});
