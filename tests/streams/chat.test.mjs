// useChat of the AI SDK has its chats in sessions: answers go on through what happens to its pages.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { Browser, Page } from "./chat-page.mjs";
import { start } from "./testee.mjs";

// Answers outlive pages, and a user's devices find them by the chat's id.
const FLAGS = ["--overflow", "drop-oldest", "--retain", "checkpoint", "--shared-key"];

/** What never comes fails its test, and does not hold it up for ever. */
const LIMIT = { timeout: 60_000 };

/** What the testee answers, in 1 s. */
const whole = (said) => `assistant: ${said}: ${Array.from({ length: 49 }, (_, n) => `${n + 1} `).join("")}`;

/** Waits until the condition holds. */
async function until(condition) {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** Waits until this much of an answer is shown. */
const underWay = (page, part = " 5 ") => until(() => page.shown.at(-1)?.includes(part));

/** A network whose connections can be cut. */
async function network(t, to) {
  const sockets = new Set();
  const server = createServer((near) => {
    const far = connect(to, "127.0.0.1");
    for (const [socket, other] of [[near, far], [far, near]]) {
      sockets.add(socket);
      socket.on("error", () => other.destroy()).on("close", () => other.destroy());
      socket.pipe(other);
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const cut = () => sockets.forEach((socket) => socket.destroy());
  t.after(() => {
    cut();
    server.close();
  });
  return { cut, base: `http://127.0.0.1:${server.address().port}` };
}

for (const framework of ["axum", "warp"]) {
  describe(framework, { concurrency: true }, () => {
    let testee;
    before(async () => {
      testee = await start("--framework", framework, ...FLAGS);
    });
    after(() => testee.kill());

    /** Opens a page that ends with the test. */
    function open(t, options) {
      const page = new Page({ base: testee.base, browser: new Browser(), id: t.name.replaceAll(/\W+/g, "-"), ...options });
      t.after(() => page.leave());
      return page;
    }

    /** Opens a page of a new chat, once it has asked for an answer under way. */
    async function begin(t, options) {
      const page = open(t, options);
      await until(() => page.status === "ready" && page.answers.length > 0);
      return page;
    }

    async function isWhole(page, ...lines) {
      await until(() => page.status === "ready" && page.shown.length >= lines.length);
      assert.deepEqual(page.shown, lines);
      assert.equal(page.chat.error, undefined);
    }

    test("no chat: nothing is shown", LIMIT, async (t) => {
      const page = await begin(t);
      await isWhole(page);
      assert.deepEqual([...new Set(page.answers)], ["GET 204"]);
    });

    test("an answer and the next one", LIMIT, async (t) => {
      const page = await begin(t);
      page.say("one");
      await until(() => page.status === "ready" && page.shown.length === 2);
      page.say("two");
      await isWhole(page, "user: one", whole("one"), "user: two", whole("two"));
    });

    for (const [kept, name] of [[1, "with the question alone"], [2, "with a part of the answer"]]) {
      test(`a reload in mid-answer, ${name}`, LIMIT, async (t) => {
        const browser = new Browser();
        const page = await begin(t, { browser });
        page.say("hello");
        await underWay(page);
        const messages = page.kept.slice(0, kept);
        page.leave();
        const again = open(t, { browser, messages });
        await underWay(again, " 7 ");
        assert.equal(again.status, "streaming");
        await isWhole(again, "user: hello", whole("hello"));
        assert.ok(again.answers.every((answer) => answer === "GET 200"), again.answers.join());
        // Once more: the answer is whole, and the page has it.
        const messagesNow = again.kept;
        again.leave();
        const last = await begin(t, { browser, messages: messagesNow });
        await isWhole(last, "user: hello", whole("hello"));
      });
    }

    test("a second device sees the same", LIMIT, async (t) => {
      const page = await begin(t);
      page.say("hello");
      await underWay(page);
      const device = open(t, { messages: page.kept.slice(0, 1) });
      await underWay(device, " 7 ");
      await Promise.all([page, device].map((each) => isWhole(each, "user: hello", whole("hello"))));
      assert.deepEqual(device.kept.at(-1), page.kept.at(-1));
    });

    test("a POST that the network cuts is resumed", LIMIT, async (t) => {
      const { cut, base } = await network(t, new URL(testee.base).port);
      const page = await begin(t, { base });
      page.say("hello");
      await underWay(page);
      cut();
      await until(() => page.status === "error");
      assert.notEqual(page.shown.at(-1), whole("hello"));
      void page.chat.resumeStream();
      await isWhole(page, "user: hello", whole("hello"));
      assert.deepEqual(page.answers.slice(-2), ["POST 200", "GET 200"]);
    });

    test("a server that is killed in mid-answer goes on with it", LIMIT, async (t) => {
      const dir = await mkdtemp(join(tmpdir(), "chat-"));
      const flags = ["--framework", framework, ...FLAGS, "--store", join(dir, "sessions.redb"), "--durability", "exact"];
      let server = await start(...flags);
      t.after(async () => {
        await server.kill();
        await rm(dir, { recursive: true });
      });
      const browser = new Browser();
      const page = await begin(t, { browser, base: server.base });
      page.say("hello");
      await underWay(page);
      await server.kill();
      await until(() => page.status === "error");
      const partly = page.shown.at(-1);
      assert.notEqual(partly, whole("hello"));
      server = await start(...flags, "--listen", server.address);
      // The page that saw it, and one that is loaded anew: nobody posts.
      const again = open(t, { browser, base: server.base, messages: page.kept.slice(0, 1) });
      void page.chat.resumeStream();
      await Promise.all([page, again].map((each) => isWhole(each, "user: hello", whole("hello"))));
      assert.equal(page.answers.at(-1), "GET 200");
      assert.ok(whole("hello").startsWith(partly), partly);
      // The answer is over, and no chat begins that nobody has begun.
      const last = await begin(t, { browser, base: server.base, messages: again.kept });
      await isWhole(last, "user: hello", whole("hello"));
      assert.deepEqual([...new Set(last.answers)], ["GET 204"]);
      again.say("more");
      await isWhole(again, "user: hello", whole("hello"), "user: more", whole("more"));
    });

    test("a POST that the page aborts is resumed", LIMIT, async (t) => {
      const page = await begin(t);
      page.say("hello");
      await underWay(page);
      await page.chat.stop();
      const stopped = page.shown.at(-1);
      await page.chat.resumeStream();
      assert.notEqual(stopped, whole("hello"));
      await isWhole(page, "user: hello", whole("hello"));
    });
  });
}
