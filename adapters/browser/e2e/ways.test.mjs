// Where WebSockets are blocked: streams and polls, in a real browser, against a real server.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { close, eventually, exact, inChromium, onStage, onTestee, statuses, talk, talkThroughBreaks, until } from './stage.mjs';

after(close);

/** The server and the network in front of it are what these are about; elsewhere they take minutes. */
const here = { skip: onTestee.skip || inChromium.skip };

const FAST = { backoff: { initial: 0.1, max: 0.5 } };
const transport = (page) => page.evaluate(() => socket.transport);
/** From the first attempt to the hello, in milliseconds. */
const took = (page) => page.evaluate(() => seen.statuses.find(({ status }) => status === 'open').at - seen.statuses[0].at);
const uses = (page, way) => page.waitForFunction((way) => socket.transport === way, way);

for (const way of ['sse', 'poll']) {
  test(`${way} alone: exact both ways, through drops, and the cookie is the same`, here, () =>
    onStage({}, async ({ page: open, proxy, ask }) => {
      const page = await open({ ...FAST, transports: [way] });
      assert.equal(await transport(page), way);
      assert.equal(await page.evaluate(() => seen.transports.at(-1)), way, 'the status says so, too');
      await talk(page, 5, 200);
      for (let i = 0; i < 5; i++) {
        await page.waitForFunction((n) => seen.got.length > n, 40 + i * 60);
        proxy.cut();
      }
      await exact(page, 200);
      assert.deepEqual((await statuses(page)).filter((status) => ['resumed', 'gap', 'lost'].includes(status)), [], 'a pipe outlives its requests');
      // What a stream cannot carry as it is.
      const odd = ['echo \r\n\u0000\ufeff', 'echo ', 'echo \u0001{"ack":1}', 'echo a\n\nb: c'];
      await page.evaluate((odd) => odd.forEach((text) => socket.send(text)), odd);
      await eventually('odd texts', async () => (await page.evaluate(() => seen.got.length)) === 404);
      assert.deepEqual(await page.evaluate(() => seen.got.slice(400)), odd.map((text) => `echo:${text.slice(5)}`));
      const { status } = await ask(`/sessions/${await page.evaluate(() => socket.session)}`);
      assert.equal(status, 202, 'the session is this browser’s');
    }));
}

for (const transports of [['sse'], ['poll'], ['websocket', 'sse', 'poll']]) {
  test(`a network that breaks at any byte, over ${transports}: exact both ways`, here, () =>
    onStage({}, async ({ page: open, proxy }) => {
      const page = await open({ backoff: { initial: 0.02, max: 0.2 }, connectTimeout: 5, transports });
      await talkThroughBreaks(page, proxy, 7);
    }));
}

test('a WebSocket that is refused: a stream, at once, and remembered', here, () =>
  // No heartbeat is missed while a slow browser opens pages.
  onStage({ ping: 10_000 }, async ({ page: open, front, context }) => {
    front.block('refuse');
    const page = await open(FAST);
    assert.equal(await transport(page), 'sse');
    assert.ok((await took(page)) < 4000, `${await took(page)} ms`);
    // A look has failed meanwhile, and something more comes from the same server.
    await page.waitForFunction(() => seen.offers.includes('at.probe'));
    await page.evaluate(() => socket.send('echo there'));
    await page.waitForFunction(() => localStorage['session-resume']);
    const kept = await page.evaluate(() => JSON.parse(localStorage['session-resume'])[location.origin]);
    assert.equal(kept.path, 'sse');
    // The next page does not try: HTTP first.
    const second = await context.newPage();
    await second.goto(page.url());
    await second.waitForFunction(() => globalThis.start);
    await second.evaluate(() => start());
    await until(second, 'open');
    assert.equal(await transport(second), 'sse');
    assert.deepEqual(await second.evaluate(() => seen.offers.filter((offer) => offer !== 'at.probe')), []);
    // WebSockets pass again: found when the page looks, 5 s after its hello.
    front.block(null);
    await uses(second, 'websocket');
    assert.equal(await second.evaluate(() => JSON.parse(localStorage['session-resume'])[location.origin] ?? null), null);
  }));

test('a WebSocket that fails once, as while a server is restarted, is no verdict: a WebSocket again, at once', here, () =>
  onStage({ ping: 10_000 }, async ({ page: open, front }) => {
    front.block('refuse one');
    const page = await open(FAST);
    await uses(page, 'websocket');
    const [first, ...later] = await page.evaluate(() => seen.statuses.filter(({ status }) => status === 'open').map(({ at }) => at));
    assert.ok(later[0] - first < 3000, `${later[0] - first} ms on HTTP`);
    await talk(page, 5, 50);
    await exact(page, 50);
    assert.equal(await page.evaluate(() => JSON.parse(localStorage['session-resume'] ?? '{}')[location.origin] ?? null), null);
  }));

for (const how of ['mute', 'hang']) {
  test(`a WebSocket that is ${how}: HTTP within four seconds`, here, () =>
    onStage({}, async ({ page: open, front }) => {
      front.block(how);
        const page = await open(FAST);
      assert.ok((await took(page)) < 4500, `${await took(page)} ms`);
      assert.equal(await transport(page), 'sse');
      await talk(page, 5, 50);
      await exact(page, 50);
    }));
}

test('a stream that is held back to its end: polls on the same pipe, within four seconds', here, () =>
  onStage({}, async ({ page: open, front }) => {
    front.block('buffer');
    const page = await open({ ...FAST, transports: ['sse', 'poll'] });
    assert.ok((await took(page)) < 4500, `${await took(page)} ms`);
    assert.equal(await transport(page), 'poll');
    await talk(page, 5, 50);
    await exact(page, 50);
    assert.deepEqual((await statuses(page)).filter((status) => status === 'resumed'), []);
  }));

test('W, S, P, W every 200 ms under 1,000 messages each way: exact', here, () =>
  onStage({}, async ({ page: open }) => {
    const page = await open();
    await page.evaluate((fast) => {
      globalThis.turn = 0;
      globalThis.env = { forced: () => ['websocket', 'sse', 'poll'][turn % 3] };
      start(fast);
    }, FAST);
    await until(page, 'open');
    await page.evaluate(() => {
      const timer = setInterval(() => {
        turn++;
        if (seen.got.length < 2000) socket.reconnect();
        else clearInterval(timer);
      }, 200);
    });
    await talk(page, 5, 1000);
    await exact(page, 1000);
    const used = await page.evaluate(() => [...new Set(seen.transports)].sort());
    assert.deepEqual(used, ['poll', 'sse', 'websocket']);
    assert.deepEqual((await statuses(page)).filter((status) => ['gap', 'lost', 'expired'].includes(status)), []);
  }));

test('a page that goes says so: the server need not wait', here, () =>
  onStage({ flags: ['--absent', '60000'] }, async ({ page: open, ask }) => {
    const page = await open({ ...FAST, transports: ['sse'] });
    const attached = async () => (await ask('/sessions')).body.sessions[0].attached;
    assert.equal(await attached(), 1);
    await page.goto('about:blank');
    await eventually('detached', async () => (await attached()) === 0);
  }));

test('12 tabs of one browser: all live, posts within a second', { skip: here.skip || (!process.env.LONG && 'takes long, and measures time: with LONG=1') }, () =>
  onStage({ attach: 'share' }, async ({ page: open }) => {
    const pages = [];
    for (let i = 0; i < 12; i++) pages.push(await open({ ...FAST, transports: ['sse', 'poll'] }));
    for (const [i, page] of pages.entries()) {
      const took = await page.evaluate(async (i) => {
        const began = performance.now();
        socket.send(`echo tab${i}`);
        while (!seen.got.includes(`echo:tab${i}`)) await new Promise((resolve) => setTimeout(resolve, 10));
        return performance.now() - began;
      }, i);
      // And a second for the poll that brings the answer.
      assert.ok(took < 2500, `tab ${i}: ${took} ms`);
    }
  }));
