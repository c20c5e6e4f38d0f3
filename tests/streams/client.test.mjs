// @durable-streams/client reads a session from the door.
import assert from "node:assert/strict";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { stream } from "@durable-streams/client";

import { start as startTestee } from "./testee.mjs";

const FLAGS = ["--door", "json", "--plain-http", "--retain", "done"];

/** A message that never comes fails its test, and does not hold it up for ever. */
const LIMIT = { timeout: 60_000 };

/** Starts a testee that ends with the test, also with one that fails: Node waits for each child. */
async function start(t, ...flags) {
  const testee = await startTestee(...flags);
  t.after(() => testee.kill());
  return testee;
}

/** What a reader gets; `all`: it has had this many items. `closed` alone may come before the last of them. */
function items(reading, count) {
  const had = [];
  const all = new Promise((resolve) => {
    reading.subscribeJson((batch) => {
      had.push(...batch.items);
      if (had.length >= count) resolve();
    });
  });
  return { had, all };
}

/** A browser without a page: it says things to its session, and knows where that is read. */
async function browser(testee) {
  const jar = { cookie: "" };
  const say = async (text) => {
    const headers = { "content-type": "text/plain", prefer: "wait=25", cookie: jar.cookie };
    const answer = await fetch(`${testee.base}/live`, { method: "POST", body: text, headers });
    assert.equal(answer.status, 204, text);
    for (const cookie of answer.headers.getSetCookie()) jar.cookie = cookie.split(";")[0];
  };
  await say("say 0");
  const listed = await fetch(`${testee.base}/sessions`, { headers: { cookie: jar.cookie } });
  const [{ session }] = (await listed.json()).sessions;
  return { say, headers: { cookie: jar.cookie }, url: `${testee.base}/streams/${session}` };
}

test("it catches up, and goes on from its offset", LIMIT, async (t) => {
  const testee = await start(t, ...FLAGS);
  const { say, headers, url } = await browser(testee);
  await say('say {"n":1}');
  const first = await stream({ url, headers, live: false });
  assert.deepEqual(await first.json(), [0, { n: 1 }]);
  await say("say 2");
  const second = await stream({ url, headers, offset: first.offset, live: false });
  assert.deepEqual(await second.json(), [2]);
  await assert.rejects(stream({ url, live: false }), "without the cookie there is no such session");
});

for (const live of ["long-poll", "sse"]) {
  test(`it reads along by ${live}, to the end of the session`, LIMIT, async (t) => {
    const testee = await start(t, ...FLAGS);
    const { say, headers, url } = await browser(testee);
    const reading = await stream({ url, headers, offset: "-1", live });
    const { had, all } = items(reading, 20);
    for (let n = 1; n < 20; n += 1) await say(`say ${n}`);
    await say("finish well");
    await Promise.all([reading.closed, all]);
    assert.deepEqual(had, Array.from({ length: 20 }, (_, n) => n));
    assert.equal(reading.streamClosed, true);
  });
}

test("it goes on through a kill", LIMIT, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "streams-"));
  const exact = ["--durability", "exact", "--store", join(folder, "sessions.redb"), "--secret", "5".repeat(128)];
  const killed = await start(t, ...FLAGS, ...exact);
  const { say, headers, url } = await browser(killed);
  const reading = await stream({ url, headers, offset: "-1", live: "long-poll" });
  const { had, all } = items(reading, 20);
  for (let n = 1; n < 10; n += 1) await say(`say ${n}`);
  await killed.kill();
  const testee = await start(t, ...FLAGS, ...exact, "--listen", killed.address);
  for (let n = 10; n < 20; n += 1) await say(`say ${n}`);
  await say("finish well");
  await Promise.all([reading.closed, all]);
  assert.deepEqual(had, Array.from({ length: 20 }, (_, n) => n));
});
