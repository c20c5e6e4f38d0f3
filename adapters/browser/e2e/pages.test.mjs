// What happens to pages: tabs, reloads, freezes, caches, busy threads.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { close, exact, inChromium, lacks, numbers, onStage, range, shot, statuses, talk, until } from './stage.mjs';

after(close);

const FAST = { backoff: { initial: 0.1, max: 0.5 } };

test('a reload is a new client of the same session, which gets what the page before did not take', () =>
  onStage({}, async ({ context, origin }) => {
    const page = await context.newPage();
    await page.goto(`${origin}/page?start={}`);
    await until(page, 'open');
    const before = await page.evaluate(() => {
      addEventListener('pagehide', () => sessionStorage.setItem('got', JSON.stringify(seen.got)));
      socket.send('every 5 300');
      return [socket.session, seen.offers[0]];
    });
    await page.waitForFunction(() => seen.got.length > 50);
    await page.reload();
    await page.waitForFunction(() => globalThis.socket?.session);
    const after = await page.evaluate(() => [socket.session, seen.offers[0]]);
    assert.equal(after[0], before[0]);
    assert.notEqual(after[1], before[1]);
    assert.ok((await statuses(page)).includes('reused'));
    await page.waitForFunction(() => seen.got.some((data) => data.startsWith('e:299:')));
    const [first, second] = await page.evaluate(() => [JSON.parse(sessionStorage.getItem('got')), seen.got]);
    const from = numbers(second)[0];
    assert.ok(from <= first.length, `${first.length} taken, and on from ${from}`);
    assert.deepEqual([numbers(first), numbers(second)], [range(0, first.length), range(from, 300)]);
  }));

test('a duplicated tab takes over, the first may take back', () =>
  onStage({}, async ({ context, origin }) => {
    const page = await context.newPage();
    await page.goto(`${origin}/page?start={}`);
    await page.waitForFunction(() => globalThis.socket?.session);
    // `window.open` copies sessionStorage, as duplicating a tab does.
    const [copy] = await Promise.all([context.waitForEvent('page'), page.evaluate(() => void window.open(location.href))]);
    await copy.waitForFunction(() => globalThis.socket?.session);
    await page.getByRole('status').getByText('in use in another window').waitFor();
    await shot(page, 'superseded');
    const offers = [await page.evaluate(() => seen.offers), await copy.evaluate(() => seen.offers)];
    assert.notEqual(offers[0][0], offers[1][0]);
    assert.deepEqual(offers.map((list) => list.length), [1, 1], 'neither fights');
    await page.bringToFront();
    await page.getByRole('button', { name: 'Use it here' }).click();
    await until(page, 'open');
    await until(copy, 'superseded');
  }));

test('two tabs that take over from each other: what each of them sent counts once', () =>
  onStage({}, async ({ page: open }) => {
    const add = (page) =>
      page.evaluate(() => {
        globalThis.added = 0;
        const timer = setInterval(() => {
          if (added === 300) return clearInterval(timer);
          // While another tab has the session there is no sending.
          if (socket.readyState !== 1) return;
          socket.send('add 1');
          added++;
        }, 2);
      });
    const added = (page, n) => page.waitForFunction((n) => added >= n, n);
    const takeBack = async (page) => {
      await page.bringToFront();
      await page.getByRole('button', { name: 'Use it here' }).click();
      await until(page, 'open');
    };
    const one = await open({ ...FAST, whileHidden: true });
    await add(one);
    await added(one, 100);
    const other = await open({ ...FAST, whileHidden: true });
    await until(one, 'superseded');
    await add(other);
    await added(other, 150);
    await takeBack(one);
    await until(other, 'superseded');
    await added(one, 300);
    await one.waitForFunction(() => socket.bufferedAmount === 0);
    await takeBack(other);
    await added(other, 300);
    await other.waitForFunction(() => socket.bufferedAmount === 0);
    await other.evaluate(() => socket.send('add 0'));
    await other.waitForFunction(() => seen.got.at(-1) === 'total:600' && seen.got.at(-2) === 'total:600');
    for (const page of [one, other]) assert.ok(!(await statuses(page)).includes('lost'));
  }));

test('in share two tabs both get everything through each other’s drops', inChromium, () =>
  onStage({ attach: 'share' }, async ({ page: open, proxy }) => {
    const pages = [await open({ ...FAST, whileHidden: true }), await open({ ...FAST, whileHidden: true })];
    await pages[0].evaluate(() => socket.send('every 10 200'));
    await pages[1].waitForFunction(() => seen.got.length > 50);
    proxy.cut();
    for (const page of pages) {
      await page.waitForFunction(() => seen.got.length >= 200);
      const got = await page.evaluate(() => seen.got.map((data) => Number(data.split(':')[1])));
      assert.deepEqual(got, Array.from({ length: 200 }, (_, i) => i));
    }
  }));

test('a page frozen and thawed goes on', lacks({ firefox: 'freezes no page', webkit: 'freezes no page' }), () =>
  onStage({}, async ({ page: open, context, proxy }) => {
    const page = await open(FAST);
    await talk(page, 20, 200);
    await page.waitForFunction(() => seen.got.length > 20);
    const cdp = await context.newCDPSession(page);
    await cdp.send('Page.setWebLifecycleState', { state: 'frozen' });
    proxy.cut();
    await cdp.send('Page.setWebLifecycleState', { state: 'active' });
    await exact(page, 200);
  }));

test('a page that comes back from the back-forward cache resumes', lacks({ firefox: 'keeps no page that has an open WebSocket' }), () =>
  onStage({}, async ({ page: open }) => {
    const page = await open(FAST);
    await page.evaluate(() => {
      globalThis.alive = true;
      addEventListener('pageshow', ({ persisted }) => (globalThis.persisted = persisted));
    });
    await page.locator('#away').click();
    await page.waitForURL('**/away');
    // A page from the cache loads nothing, so there is no load event to wait for.
    await page.goBack({ waitUntil: 'commit' });
    await page.waitForFunction(() => globalThis.socket || true);
    assert.equal(await page.evaluate(() => globalThis.alive), true, 'this browser keeps no page');
    await page.waitForFunction(() => seen.statuses.some(({ status }) => status === 'resumed'));
    await talk(page, 10, 50);
    await exact(page, 50);
  }));

test('a main thread blocked for 5 s during a burst loses nothing', inChromium, () =>
  onStage({}, async ({ page: open }) => {
    const page = await open(FAST);
    await page.evaluate(() => talk(10, 300));
    await page.waitForFunction(() => seen.got.length > 20);
    await page.evaluate(() => {
      // More than the server's outbox holds.
      socket.send('emit 3000 500');
      const end = performance.now() + 5000;
      while (performance.now() < end);
    });
    await exact(page, 300, 3000);
  }));

test('staying on a page that asks before it is left keeps reconnecting', lacks({ webkit: 'the driver tells of no dialog' }), () =>
  onStage({}, async ({ page: open, proxy }) => {
    const page = await open(FAST);
    await page.locator('#field').click();
    await page.evaluate(() => addEventListener('beforeunload', (event) => event.preventDefault()));
    page.on('dialog', (dialog) => dialog.dismiss());
    const dialog = page.waitForEvent('dialog');
    await page.locator('#away').click({ noWaitAfter: true });
    await dialog;
    proxy.cut();
    await page.waitForFunction(() => seen.statuses.some(({ status }) => status === 'resumed'));
  }));
