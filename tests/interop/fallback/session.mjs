// A session that outlives its page, by hand as docs/sessions.md has it. `?confirm=N`: it confirms each Nth message;
// `?detach`: it detaches when it is left, in place of the browser's own Close.
const query = new URLSearchParams(location.search);
const confirm = Number(query.get("confirm") ?? 50);
const none = () => ({ ticket: null, seen: 0, said: [], m: 0, last: null });
const kept = { ...none(), told: [], messages: 0, heard: 0, wrong: [], ...JSON.parse(sessionStorage.kept ?? "{}") };
const keep = () => (sessionStorage.kept = JSON.stringify(kept));
window.look = () => kept;
let say = () => {};
let leave = () => {};

function hello(data, nonce) {
  const { outrigger } = JSON.parse(data);
  if (outrigger.nonce !== nonce) kept.wrong.push(`the hello is not for us: ${data}`);
  if (!outrigger.resumed) Object.assign(kept, { ...none(), seen: outrigger.sequence });
  if (outrigger.sequence !== kept.seen) kept.wrong.push(`${outrigger.sequence} follows ${kept.seen}`);
  kept.ticket = outrigger.session;
  kept.told.push(outrigger.resumed ? "resumed" : "anew");
  kept.said = kept.said.filter((m) => m > outrigger.received);
  // The tab that this is a copy of may have said more.
  kept.m = Math.max(kept.m, outrigger.received);
  return outrigger.control;
}

function message({ connection, n, heard, wrong }) {
  kept.seen++;
  if (wrong) kept.wrong.push(`the server heard ${wrong}`);
  const isNext = kept.last ? connection === kept.last.connection && n === kept.last.n + 1 : n === 1;
  if (!isNext) kept.wrong.push(`${connection} says ${n} after ${JSON.stringify(kept.last)}`);
  Object.assign(kept, { last: { connection, n }, messages: kept.messages + 1, heard });
}

function connect() {
  const nonce = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(16))));
  const entry = nonce.replaceAll("+", "-").replaceAll("/", "_").slice(0, 22);
  const entries = ["outrigger.plain", "outrigger.v1", `outrigger.nonce.${entry}`];
  if (kept.ticket) entries.push(`outrigger.resume.${kept.ticket}.${kept.seen}`);
  const socket = new WebSocket(`ws://${location.host}/session`, entries);
  let control;
  socket.onmessage = ({ data }) => {
    if (control === undefined) {
      control = hello(data, entry);
      say = (m) => socket.send(JSON.stringify({ m }));
      leave = () => {
        socket.send(`${control}{"detach":true}`);
        socket.close(1000);
      };
      kept.said.forEach(say);
    } else if (data.startsWith(control)) {
      const { ack, bye, ping } = JSON.parse(data.slice(control.length));
      if (ack) kept.said = kept.said.filter((m) => m > ack);
      if (ping) socket.send(`${control}{"pong":${ping}}`);
      if (bye) kept.told.push(bye.why);
      if (bye && !bye.resume) kept.ticket = null;
    } else {
      message(JSON.parse(data));
      if (kept.seen % confirm === 0) socket.send(`${control}{"seen":${kept.seen}}`);
    }
    keep();
  };
  socket.onclose = ({ code }) => {
    say = leave = () => {};
    kept.told.push(code);
    keep();
    setTimeout(connect, 10);
  };
}

setInterval(() => {
  kept.said.push(++kept.m);
  keep();
  say(kept.m);
}, 20);
if (query.has("detach")) addEventListener("pagehide", () => leave());
connect();
