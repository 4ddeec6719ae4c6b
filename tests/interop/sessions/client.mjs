// What the clients of this folder share: orders on standard input, and what they saw as lines of JSON. See ../README.md.
import { createInterface } from "node:readline";

export function tell(event, fields = {}) {
  console.log(JSON.stringify({ event, ...fields }));
}

export function failed(why) {
  tell("failed", { why: String(why) });
}

/** Does what the lines of standard input say, each beside the others, and ends with it. */
export function obey(orders) {
  const lines = createInterface({ input: process.stdin });
  lines.on("line", async (order) => {
    try {
      await orders[order]();
      tell("done", { order });
      if (order === "end") process.exit(0);
    } catch (error) {
      failed(`${order}: ${error.stack ?? error}`);
    }
  });
  lines.on("close", () => process.exit(0));
  process.on("uncaughtException", (error) => failed(error.stack));
}

/** A stream that each server numbers without a gap; `first` is the number that it begins with, where that is known. */
export class Ticks {
  #first;
  #server;
  #last;
  #servers = new Set();

  constructor(first) {
    this.#first = first;
  }

  get server() {
    return this.#server;
  }

  /** How many it has heard. */
  get servers() {
    return this.#servers.size;
  }

  heard(server, number) {
    if (server !== this.#server) {
      if (this.#servers.has(server)) failed(`tick ${number} of a server that is gone`);
      if (this.#first !== undefined && number !== this.#first) failed(`the first tick of a server is ${number}`);
      this.#servers.add(server);
      this.#server = server;
      tell("server", { server });
    } else if (number !== this.#last + 1) {
      failed(`tick ${number} after ${this.#last}`);
    }
    this.#last = number;
  }
}

/** Answers that are awaited by a text of their own: each may come once. */
export class Answers {
  #awaited = new Map();
  #asked = 0;

  /** Calls `ask` with a new text, and resolves when that is answered. */
  to(ask) {
    const text = `wörds ${++this.#asked}`;
    return new Promise((resolve) => {
      this.#awaited.set(text, resolve);
      ask(text);
    });
  }

  heard(text) {
    const resolve = this.#awaited.get(text);
    if (!resolve) failed(`an answer that nobody waits for: ${text}`);
    this.#awaited.delete(text);
    resolve?.();
  }
}
