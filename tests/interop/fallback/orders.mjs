// What the clients of this folder share: a line of JSON on standard input is an order, and is answered by one.
import { createInterface } from "node:readline";

/** Does what the lines say, one after the other. */
export async function obey(orders) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { order, ...details } = JSON.parse(line);
    let answer;
    try {
      answer = { done: (await orders[order](details)) ?? null };
    } catch (error) {
      answer = { failed: `${error.stack ?? error}` };
    }
    console.log(JSON.stringify(answer));
  }
}
