// An EventSource and what it hears; runs in a page and in Node. Whatever must not be is in `wrong`.
export function listen(EventSource, url, options) {
  const source = new EventSource(url, options);
  const heard = { opened: 0, refusals: [], told: [], hellos: [], connections: [], messages: 0, closes: [], wrong: [] };
  // Where its last message stands in the log, and what the server has numbered it.
  let at;
  let last;

  const numbered = (lastEventId) => {
    const [, prefix, sequence] = /^(.+)\.(\d+)$/.exec(lastEventId) ?? [];
    if (prefix === undefined) heard.wrong.push(`no id: ${lastEventId}`);
    return { prefix, sequence: Number(sequence) };
  };
  source.addEventListener("open", () => heard.opened++);
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) heard.wrong.push("it is CLOSED");
  });
  source.addEventListener("close", ({ data }) => heard.closes.push(JSON.parse(data)));
  source.addEventListener("outrigger", ({ data, lastEventId }) => {
    const said = JSON.parse(data);
    if (said.error) return heard.refusals.push(said.error);
    if (!("resumed" in said)) return heard.told.push(said);
    const now = numbered(lastEventId);
    if (said.sequence !== now.sequence) heard.wrong.push(`${data} has the id ${lastEventId}`);
    if (said.resumed && now.sequence !== at?.sequence) heard.wrong.push(`${lastEventId} resumes what was at ${at?.sequence}`);
    if (said.resumed && said.epoch !== at?.epoch) heard.wrong.push(`${said.epoch} resumes ${at?.epoch}`);
    if (!said.resumed) last = undefined;
    at = { ...now, epoch: said.epoch };
    heard.hellos.push({ resumed: said.resumed, lost: said.lost, epoch: said.epoch, sequence: said.sequence });
  });
  source.addEventListener("message", ({ data, lastEventId }) => {
    const event = JSON.parse(data);
    const { prefix, sequence } = numbered(lastEventId);
    if (prefix !== at?.prefix || sequence !== at.sequence + 1) heard.wrong.push(`${lastEventId} after ${JSON.stringify(at)}`);
    if (event.sequenceNumber !== sequence) heard.wrong.push(`${event.sequenceNumber} has the id ${lastEventId}`);
    at = { ...at, sequence };
    const { connection, n } = event.data;
    if (connection !== last?.connection) {
      if (last && n !== 1) heard.wrong.push(`${connection} begins with ${n}`);
      heard.connections.push(connection);
    } else if (n !== last.n + 1) {
      heard.wrong.push(`${n} after ${last.n}`);
    }
    last = { connection, n };
    heard.messages++;
  });
  return {
    look: () => ({ ...heard, state: ["CONNECTING", "OPEN", "CLOSED"][source.readyState] }),
    leave: () => source.close(),
  };
}
