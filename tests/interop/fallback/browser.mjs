// Chromium, by orders, and a server for its pages: node browser.mjs PROFILE. See ../README.md.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import puppeteer from "puppeteer-core";
import { obey } from "./orders.mjs";

const files = {
  "/asking.html": "text/html",
  "/listening.html": "text/html",
  "/listening.mjs": "text/javascript",
  "/session.html": "text/html",
  "/session.mjs": "text/javascript",
};
const http = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, "http://pages");
  if (!files[pathname]) return response.writeHead(404).end();
  const file = await readFile(new URL(`.${pathname}`, import.meta.url));
  response.writeHead(200, { "Content-Type": files[pathname], "Cache-Control": "no-store" }).end(file);
});
await new Promise((listening) => http.listen(0, "127.0.0.1", listening));

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  userDataDir: process.argv[2],
  // It ends with this process, however that ends.
  pipe: true,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
  ],
});
const pages = new Map();
const inPage = ({ page }, script, ...parameters) => pages.get(page).evaluate(script, ...parameters);

await obey({
  port: () => http.address().port,
  visit: async ({ page, url }) => {
    const opened = pages.get(page) ?? (await browser.newPage());
    pages.set(page, opened);
    const answer = await opened.goto(url);
    return { status: answer.status(), reason: answer.headers()["x-outrigger-reason"] ?? null };
  },
  run: ({ page, script }) => inPage({ page }, script),
  reload: async ({ page }) => void (await pages.get(page).reload()),
  duplicate: async ({ page, as }) => {
    const opened = new Promise((resolve) => pages.get(page).once("popup", resolve));
    await inPage({ page }, () => void window.open(location.href));
    pages.set(as, await opened);
  },
  close: ({ page }) => pages.get(page).close(),
  listen: (order) => inPage(order, (name, url, options) => window.listen(name, url, options), order.name, order.url, order.options),
  look: (order) => inPage(order, (name) => window.listeners[name].look(), order.name),
  leave: (order) => inPage(order, (name) => window.listeners[name].leave(), order.name),
});
await browser.close();
process.exit(0);
