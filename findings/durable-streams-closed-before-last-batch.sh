#!/bin/bash
# @durable-streams/client 0.2.7: `closed` of a response says that the session has ended, and resolves before the callback
# of `subscribeJson` has had the last answer. A program that awaits `closed` and then uses what it has collected leaves the
# last messages out. They come a moment later.
#
# Consequence: know the end by the messages, or wait for the callback of the batch whose `streamClosed` is true.
#
# Seen on 2026-12-02 with Node 20: ten answers of one item each, nine of them had when `closed` resolves. Exits with 1 if
# the behaviour has changed. Needs node and npm.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --ignore-scripts @durable-streams/client@0.2.7
cat > closed.mjs <<'JS'
import { createServer } from "node:http";
import { stream } from "@durable-streams/client";

// A stream of ten numbers, one in each answer; the last answer closes it.
const offset = (n) => String(n).padStart(4, "0");
const server = createServer((request, response) => {
  const asked = new URL(request.url, "http://host").searchParams.get("offset");
  const n = asked === "-1" ? 0 : Number(asked);
  response.writeHead(200, {
    "content-type": "application/json",
    "stream-next-offset": offset(n + 1),
    "stream-cursor": String(n + 1),
    "stream-up-to-date": "true",
    ...(n === 9 && { "stream-closed": "true" }),
  });
  response.end(JSON.stringify([n]));
});
server.listen(0, "127.0.0.1", async () => {
  const url = `http://127.0.0.1:${server.address().port}/stream`;
  const reading = await stream({ url, offset: "-1", live: "long-poll" });
  const had = [];
  let end;
  const last = new Promise((resolve) => (end = resolve));
  reading.subscribeJson((batch) => {
    had.push(...batch.items);
    if (batch.streamClosed) end();
  });
  await reading.closed;
  const whenClosed = had.length;
  await last;
  console.log(`${whenClosed} of ${had.length} items when closed resolves`);
  process.exit(whenClosed === 9 && had.length === 10 ? 0 : 1);
});
JS
if timeout 60 node closed.mjs; then
  echo "as described"
else
  echo "CHANGED"
  exit 1
fi
