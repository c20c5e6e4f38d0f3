// What is typed without a connection, and a page that is loaded anew.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { close, eventually, lacks, onMock, onStage } from './stage.mjs';

after(close);

const NO_DIALOGS = lacks({ firefox: 'the driver answers no dialogs of a page that is left', webkit: 'the driver answers no dialogs of a page that is left' });
const OPTIONS = { keepUnsent: true, backoff: { initial: 0.1, max: 0.5 } };
const address = (origin, options) => `${origin}/page?start=${encodeURIComponent(JSON.stringify(options))}`;
const ready = (page) => page.waitForFunction(() => globalThis.socket);
const echoed = (page) => page.evaluate(() => seen.got.filter((data) => data.startsWith('echo:')));

test('what was not sent survives reloads, and arrives once', onMock, () =>
  onStage({}, async ({ context, origin, proxy, server }) => {
    const page = await context.newPage();
    await page.goto(address(origin, OPTIONS));
    await page.waitForFunction(() => globalThis.socket?.session);
    await page.evaluate(() => socket.send('echo first'));
    await page.waitForFunction(() => socket.bufferedAmount === 0);
    const id = await page.evaluate(() => seen.offers[0]);
    // Nothing gets through, and nobody is told; from then on the server takes nobody.
    proxy.deaf();
    await page.evaluate(() => ['echo a', 'echo b'].forEach((text) => socket.send(text)));
    await sleep(200);
    server.model.refusal = [4113, 'try again later'];
    proxy.up();
    for (const text of ['echo c', 'echo d']) {
      await page.reload();
      await ready(page);
      assert.ok((await page.evaluate(() => socket.kept)).length >= 2, 'the page is told');
      assert.equal(await page.evaluate(() => sessionStorage.length), 0, 'not there while a page is');
      await page.evaluate((text) => socket.send(text), text);
    }
    assert.deepEqual(await page.evaluate(() => socket.kept), ['echo a', 'echo b', 'echo c']);
    server.model.refusal = null;
    await page.waitForFunction(() => socket.bufferedAmount === 0 && seen.got.length >= 4, null, { timeout: 60_000 });
    assert.deepEqual((await echoed(page)).filter((text) => text !== 'echo:first'), ['a', 'b', 'c', 'd'].map((name) => `echo:${name}`));
    assert.equal((await page.evaluate(() => seen.offers[0])).split('.')[1], id.split('.')[1], 'the same client');
    assert.deepEqual(await page.evaluate(() => seen.statuses.filter(({ status }) => status === 'lost')), []);
  }));

test('a tab that is duplicated while something is unsent is a client of its own', () =>
  onStage({ attach: 'share' }, async ({ context, origin, proxy }) => {
    const page = await context.newPage();
    await page.goto(address(origin, OPTIONS));
    await page.waitForFunction(() => globalThis.socket?.session);
    await page.evaluate(() => socket.send('echo unsent'));
    const [copy] = await Promise.all([context.waitForEvent('page'), page.evaluate(() => void window.open(location.href))]);
    await copy.waitForFunction(() => globalThis.socket?.session);
    assert.deepEqual(await copy.evaluate(() => socket.kept), []);
    assert.notEqual(await copy.evaluate(() => seen.offers[0]), await page.evaluate(() => seen.offers[0]));
    // Browsers slow the timers of a page that is hidden.
    await page.bringToFront();
    proxy.cut();
    await eventually('all is sent', () => page.evaluate(() => socket.bufferedAmount === 0));
    assert.deepEqual(await echoed(page), ['echo:unsent']);
  }));

test('leaving is asked about while something is unsent, if the page wants that', NO_DIALOGS, () =>
  onStage({}, async ({ context, origin, proxy }) => {
    const page = await context.newPage();
    await page.goto(address(origin, { ...OPTIONS, keepUnsent: false, confirmLeave: true }));
    await page.waitForFunction(() => globalThis.socket?.session);
    // Browsers ask only where the user has done something.
    await page.locator('#field').click();
    const asked = [];
    page.on('dialog', (dialog) => {
      asked.push(dialog.type());
      dialog.dismiss();
    });
    proxy.deaf();
    await page.evaluate(() => socket.send('x'));
    await page.locator('#away').click({ noWaitAfter: true });
    await eventually('the user is asked', () => asked.length === 1);
    assert.deepEqual(asked, ['beforeunload']);
    assert.match(page.url(), /\/page/);
    proxy.up();
    await page.waitForFunction(() => socket.bufferedAmount === 0, null, { timeout: 60_000 });
    await page.locator('#away').click();
    await page.waitForURL('**/away');
    assert.equal(asked.length, 1);
  }));
