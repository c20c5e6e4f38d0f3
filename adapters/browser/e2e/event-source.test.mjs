// A page without a client of ours: the browser's own `EventSource` and `fetch`, on a route that lets them in.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { close, elsewhere, eventually, numbers, onStage, onTestee, range } from './stage.mjs';

after(close);

const flags = ['--plain-http'];

/** Reads the session, and keeps what comes in `read`. */
const listen = (page, url = '/live') =>
  page.evaluate((url) => {
    const read = (globalThis.read = { got: [], named: [], opened: 0, source: new EventSource(url, { withCredentials: true }) });
    read.source.onopen = () => read.opened++;
    read.source.onmessage = ({ data }) => read.got.push(data);
    for (const name of ['session', 'gap', 'done', 'b64']) {
      read.source.addEventListener(name, ({ data }) => read.named.push([name, data]));
    }
  }, url);

/** Sends one message; the answer's status. */
const post = (page, body, headers = {}) =>
  page.evaluate(async ([body, headers]) => (await fetch('/live', { method: 'POST', body, headers })).status, [body, headers]);

const named = async (page, name) =>
  (await page.evaluate(() => read.named)).filter(([of]) => of === name).map(([, data]) => (name === 'b64' ? data : JSON.parse(data)));
const isClosed = (page) => page.waitForFunction(() => read.source.readyState === EventSource.CLOSED);
const hasRead = (page, n) => page.waitForFunction((n) => read.got.filter((data) => data.startsWith('e:')).length >= n, n, { timeout: 60_000 });
const isTold = (page, name, n = 1) => page.waitForFunction(([name, n]) => read.named.filter(([of]) => of === name).length >= n, [name, n]);

test('each message once, through cuts: `Last-Event-ID` says where to go on', onTestee, () =>
  onStage({ flags }, async ({ page: open, proxy, ask }) => {
    const page = await open();
    await listen(page);
    await isTold(page, 'session');
    assert.equal(await post(page, 'every 10 400'), 202);
    for (let i = 1; i <= 4; i++) {
      await hasRead(page, 40 * i);
      const { opened } = await page.evaluate(() => ({ opened: read.opened }));
      proxy.cut();
      await page.waitForFunction((opened) => read.opened > opened, opened);
      // On a slow machine all messages may be there, and the next cut would come before the event that says so.
      await isTold(page, 'session', 1 + i);
    }
    await hasRead(page, 400);
    assert.deepEqual(numbers(await page.evaluate(() => read.got)), range(0, 400));
    const [first, ...later] = await named(page, 'session');
    assert.equal(first.status, 'new');
    assert.ok(later.length >= 4, 'it was told again after each cut');
    assert.deepEqual(later.filter(({ session, status }) => session !== first.session || status !== 'resumed'), []);
    assert.deepEqual(await named(page, 'gap'), []);
    assert.equal((await ask('/')).body.session, first.session, 'the session is this browser’s');
    // What the format cannot carry as it is, and what it can.
    await post(page, 'say a\rb\n\nc: d');
    await page.evaluate(() => fetch('/live', { method: 'POST', body: new Blob([new Uint8Array([0, 255])], { type: 'application/octet-stream' }) }));
    await isTold(page, 'b64');
    assert.equal((await page.evaluate(() => read.got)).at(-1), 'a\nb\n\nc: d');
    assert.deepEqual(await named(page, 'b64'), ['AP8=']);
    assert.equal((await page.evaluate(() => read.got)).length, 401, 'no event of ours is a message');
  }));

test('through a server that is killed: what was said before, and after', onTestee, () =>
  onStage({ flags: [...flags, '--durability', 'exact'], store: true }, async ({ page: open, restart }) => {
    const page = await open();
    await listen(page);
    await isTold(page, 'session');
    assert.equal(await post(page, 'emit 100 10', { prefer: 'wait=20' }), 204);
    await hasRead(page, 100);
    await restart();
    await isTold(page, 'session', 2);
    assert.equal(await post(page, 'emit 100 10', { prefer: 'wait=20' }), 204);
    await hasRead(page, 200);
    assert.deepEqual(numbers(await page.evaluate(() => read.got)), range(0, 200));
    assert.deepEqual(await named(page, 'gap'), []);
  }));

test('a second page takes over, and the first does not come back', onTestee, () =>
  onStage({ flags }, async ({ page: open }) => {
    const [first, second] = [await open(), await open()];
    await listen(first);
    await isTold(first, 'session');
    await listen(second);
    await isTold(second, 'session');
    await isClosed(first);
    await post(first, 'say to the second');
    await second.waitForFunction(() => read.got.includes('to the second'));
    assert.equal(await second.evaluate(() => read.opened), 1);
    assert.deepEqual(await first.evaluate(() => read.got), []);
  }));

test('an end is told, and the page does not ask again', onTestee, () =>
  onStage({ flags }, async ({ page: open, server }) => {
    const page = await open();
    await listen(page);
    await isTold(page, 'session');
    await post(page, 'finish well');
    await isTold(page, 'done');
    await isClosed(page);
    assert.deepEqual((await named(page, 'done')).map(({ status }) => status), ['done']);
    const count = await (await fetch(`http://127.0.0.1:${server.port}/count`)).json();
    assert.equal(count.live, 0, 'no new session was begun');
  }));

test('a page on another origin of the same site takes over nothing, and says nothing', onTestee, () =>
  onStage({ flags }, async ({ page: open, context, front, origin, ask }) => {
    const page = await open();
    await listen(page);
    await isTold(page, 'session');
    assert.equal(await post(page, 'add 1', { prefer: 'wait=10' }), 204);
    // The same host, so that the cookie comes along, and another port.
    const foe = await context.newPage();
    await foe.goto(`http://127.0.0.1:${front.port}/page`);
    await foe.evaluate(async (url) => {
      const given = { mode: 'no-cors', credentials: 'include' };
      await fetch(url, { ...given, headers: { accept: 'text/event-stream' } });
      await fetch(url, { ...given, method: 'POST', body: 'add 10' });
    }, `${origin}/live`);
    await listen(foe, `${origin}/live`);
    await isClosed(foe);
    assert.equal(await post(page, 'add 1', { prefer: 'wait=10' }), 204);
    await page.waitForFunction(() => read.got.includes('total:2'));
    assert.equal(await page.evaluate(() => read.opened), 1);
    assert.equal((await ask('/')).body.total, 2);
  }));

// Beyond this machine browsers do not say what a request is for, unless it goes by https.
test('by http to another host: a reader reads, and a client of ours that only asks what the route is takes over nothing', onTestee, () =>
  onStage({ flags, host: elsewhere }, async ({ page: open, front }) => {
    const reader = await open();
    await listen(reader);
    await isTold(reader, 'session');
    front.block('refuse');
    const page = await open();
    await page.evaluate(() => start({ transports: ['websocket'], backoff: { initial: 0.1, max: 0.1 } }));
    await eventually('three attempts', () => page.evaluate(() => seen.offers.length >= 3));
    const stopped = await page.evaluate(() => seen.statuses.filter(({ status }) => !['connecting', 'disconnected', 'waiting'].includes(status)));
    assert.deepEqual(stopped, []);
    await post(reader, 'say still here');
    await reader.waitForFunction(() => read.got.includes('still here'));
    assert.equal(await reader.evaluate(() => read.opened), 1);
  }));
