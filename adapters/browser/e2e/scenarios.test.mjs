// A real browser, a real network stack, and everything that happens to pages.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { close, eventually, exact, forget, numbers, onMock, onStage, onTestee, range, shot, statuses, talk, told, until } from './stage.mjs';

after(close);

const FAST = { backoff: { initial: 0.1, max: 0.5 } };

test('a drop in the middle of a two-way stream: exact, and nobody notices', () =>
  onStage({}, async ({ page: open, proxy }) => {
    const page = await open(FAST);
    await talk(page, 10, 300);
    for (let i = 0; i < 3; i++) {
      await page.waitForFunction((n) => seen.got.length > n, 60 + i * 150);
      proxy.cut();
    }
    await exact(page, 300);
    assert.ok((await statuses(page)).filter((status) => status === 'resumed').length >= 3);
    assert.equal(await page.getByRole('status').textContent(), '', 'no banner for a short drop');
  }));

for (const seed of [1, 2, 3]) {
  test(`a network that breaks at any byte, seed ${seed}: exact both ways`, () =>
    onStage({}, async ({ page: open, proxy }) => {
      const page = await open({ backoff: { initial: 0.02, max: 0.2 }, connectTimeout: 2 });
      proxy.chaos(seed, 6000);
      // Large ones, so that most breaks are in the middle of a frame.
      await page.evaluate(() => socket.send('emit 200 700'));
      await talk(page, 5, 400);
      await eventually('20 breaks', () => proxy.breaks >= 20 || page.evaluate(() => seen.got.length >= 1000));
      assert.ok(proxy.breaks >= 20, `only ${proxy.breaks} breaks`);
      proxy.calm();
      await exact(page, 400, 600);
      assert.ok((await statuses(page)).filter((status) => status === 'resumed').length >= 5);
      assert.deepEqual((await statuses(page)).filter((status) => ['gap', 'lost', 'expired', 'new'].includes(status)), ['new']);
    }));
}

test('a server gone for 5 s: exact, a countdown, and typing is not disturbed', () =>
  onStage({}, async ({ page: open, proxy }) => {
    const page = await open({ backoff: [3, 3, 3, 3] }, { delay: 0.2 });
    await talk(page, 20, 200);
    await page.waitForFunction(() => seen.got.length > 20);
    await page.locator('#field').focus();
    await page.keyboard.type('before ');
    proxy.down();
    await page.getByRole('status').getByText('Connection lost').waitFor();
    await shot(page, 'waiting');
    assert.match(await page.locator('[part=countdown]').textContent(), /^[123] s$/);
    await page.keyboard.type('during ');
    await page.waitForFunction(() => seen.statuses.filter(({ status }) => status === 'waiting').length === 2);
    proxy.up();
    await until(page, 'open');
    await page.getByRole('status').getByText('Connected again.').waitFor();
    await shot(page, 'success');
    await page.keyboard.type('after');
    assert.equal(await page.locator('#field').inputValue(), 'before during after');
    await exact(page, 200);
    await page.locator('[part~=idle]').waitFor({ state: 'attached' });
  }));

test('a server gone for good: a final prompt that the keyboard reaches', () =>
  onStage({}, async ({ page: open, proxy }) => {
    const page = await open({ backoff: [0.05, 0.05] });
    proxy.down();
    await page.getByRole('alert').getByText('cannot be reached').waitFor();
    await shot(page, 'failed');
    await page.locator('#away').focus();
    await page.keyboard.press('Tab');
    proxy.up();
    await page.keyboard.press('Enter');
    await until(page, 'open');
    assert.ok((await statuses(page)).includes('resumed'));
  }));

test('prompt mode asks at once', () =>
  onStage({}, async ({ page: open, proxy }) => {
    const page = await open({ reconnect: 'prompt' });
    proxy.cut();
    const button = page.getByRole('button', { name: 'Reconnect now' });
    await button.waitFor();
    await shot(page, 'prompt');
    await button.click();
    await until(page, 'open');
  }));

test('20 s offline and back: connected within 1 s of the network’s return', () =>
  onStage({ ping: 30_000 }, async ({ page: open, proxy, context }) => {
    const page = await open({}, { delay: 0.1 });
    await talk(page, 20, 1000);
    await page.waitForFunction(() => seen.got.length > 20);
    proxy.deaf();
    await context.setOffline(true);
    await page.getByRole('status').getByText('You are offline').waitFor();
    await shot(page, 'offline');
    await page.locator('#field').focus();
    await page.keyboard.type('in the dark');
    // One every 20 ms, typed into the dark.
    await page.waitForFunction(() => seen.sent === 1000, null, { timeout: 60_000 });
    await forget(page);
    proxy.up();
    await context.setOffline(false);
    await until(page, 'open');
    await page.keyboard.type(', and after');
    await exact(page, 1000);
    assert.equal(await page.locator('#field').inputValue(), 'in the dark, and after');
    const took = await page.evaluate(() => seen.statuses.find(({ status }) => status === 'resumed').at - onlineAt);
    assert.ok(took < 1000, `${took} ms`);
  }));

test('an outage while hidden: no attempts, and connected within 1 s of being looked at', () =>
  onStage({}, async ({ page: open, proxy }) => {
    const page = await open(FAST);
    const look = (hidden) =>
      page.evaluate((hidden) => {
        // Headless pages are always visible.
        Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
        globalThis.lookedAt = performance.now();
        document.dispatchEvent(new Event('visibilitychange'));
      }, hidden);
    await look(true);
    await forget(page);
    proxy.down();
    await page.evaluate(() => talk(1, 200));
    await page.waitForFunction(() => seen.sent === 200 && socket.current.until === 'visible');
    proxy.up();
    assert.deepEqual(await statuses(page), ['waiting']);
    await look(false);
    await exact(page, 200, 0);
    const took = await page.evaluate(() => seen.statuses.find(({ status }) => status === 'resumed').at - lookedAt);
    assert.ok(took < 1000, `${took} ms`);
  }));

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
    await page.getByRole('alert').getByText('in use in another window').waitFor();
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

test('in share two tabs both get everything through each other’s drops', () =>
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

test('a page frozen and thawed goes on', () =>
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

test('a page that comes back from the back-forward cache resumes', () =>
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

test('a main thread blocked for 5 s during a burst loses nothing', () =>
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

test('staying on a page that asks before it is left keeps reconnecting', () =>
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

test('what is gone is told: a lost session, a gap, an end', onMock, () =>
  onStage({}, async ({ page: open, server, proxy }) => {
    const page = await open({ backoff: [0.1, 0.1, 0.1] });
    server.model.session.outbox.push('written while it was slow');
    server.model.dropOldest(1);
    await page.getByRole('alert').getByText('Messages missed: 1.').waitFor();
    await shot(page, 'gap');
    await page.getByRole('button', { name: 'Dismiss' }).click();
    assert.equal(await page.getByRole('alert').textContent(), '');

    server.model.restart();
    await page.getByRole('alert').getByText('Your session was restored.').waitFor();
    await shot(page, 'restored');

    server.model.expire();
    await page.getByRole('alert').getByText('Your session has expired.').waitFor();
    assert.match(await page.getByRole('alert').textContent(), /A new session was started/);
    await shot(page, 'expired');

    proxy.down();
    await page.evaluate(() => socket.send('never'));
    await page.getByRole('alert').getByText('cannot be reached').waitFor();
    proxy.up();
    server.model.refusal = [4101, 'maintenance'];
    await page.getByRole('button').filter({ hasText: 'Reconnect' }).click();
    await page.getByRole('alert').getByText('maintenance').waitFor();
    await shot(page, 'refused');
    server.model.refusal = null;
    await page.getByRole('button').filter({ hasText: 'Reconnect' }).click();
    await until(page, 'open');

    server.model.finish('failed');
    await page.getByRole('alert').getByText('ended because of an error').waitFor();
    await shot(page, 'done');
    await page.getByRole('button', { name: 'Start anew' }).click();
    await until(page, 'open');
  }));

test('an overflow while the page was away is told to the number', onTestee, () =>
  onStage({ flags: ['--overflow', 'drop-oldest', '--outbox-messages', '50'] }, async ({ page: open, proxy, ask }) => {
    const page = await open(FAST);
    const before = proxy.sent;
    // The handler is busy until nobody listens any more. The zeros see to it that all has left the page.
    const commands = ['busy 2000', 'emit 500 10', `add ${'5'.padStart(3000, '0')}`];
    await page.evaluate((commands) => commands.forEach((command) => socket.send(command)), commands);
    await eventually('the commands have passed', () => proxy.sent >= before + commands.join('').length + 3 * 6);
    proxy.deaf();
    await eventually('all is done', async () => (await ask('/peek')).body?.total === 5);
    assert.deepEqual(await page.evaluate(() => seen.got), [], 'this machine is too slow for the scenario');
    proxy.up();
    const { gap } = await told(page, 'gap');
    // done-busy, 500 numbers and the total: 502 messages, of which the last 50 are left.
    assert.deepEqual(gap, { from: 0, to: 452, reason: 'overflow' });
    await page.waitForFunction(() => seen.got.length >= 50);
    const got = await page.evaluate(() => seen.got);
    assert.deepEqual(numbers(got), range(451, 500));
    assert.deepEqual([got.length, got.at(-1)], [50, 'total:5']);
    await page.getByRole('alert').getByText('Messages missed: 452.').waitFor();
    await shot(page, 'gap');
  }));

test('a server killed in the middle of it all: nothing applied twice, what is gone is told', onTestee, () =>
  onStage({ store: true, flags: ['--flush', '20'] }, async ({ page: open, restart }) => {
    const page = await open(FAST);
    await page.evaluate(() => {
      let left = 300;
      const timer = setInterval(() => (left-- > 0 ? socket.send('add 1') : clearInterval(timer)), 5);
    });
    for (const total of [50, 150]) {
      await page.waitForFunction((total) => seen.got.some((data) => data === `total:${total}`), total);
      await forget(page);
      await restart();
      const { gap } = await told(page, 'restored');
      assert.deepEqual({ to: gap.to, reason: gap.reason }, { to: null, reason: 'restarted' });
      assert.deepEqual((await told(page, 'gap')).gap, gap);
    }
    await shot(page, 'restored');
    await page.waitForFunction(() => socket.bufferedAmount === 0);
    await page.evaluate(() => socket.send('get'));
    await page.waitForFunction(() => seen.got.at(-1).startsWith('total:300'));
    assert.equal(await page.evaluate(() => seen.got.at(-1)), 'total:300 n:300');
    assert.ok(!(await statuses(page)).includes('lost'));
  }));

test('a message that is too big is told once, and the others arrive', onTestee, () =>
  onStage({ flags: ['--max-message', '1000'] }, async ({ page: open }) => {
    const page = await open(FAST);
    // One that the session finds too big, and one that the server does not even read to its end.
    for (const size of [1001, 200_000]) {
      await forget(page);
      await page.evaluate((size) => {
        seen.got.length = 0;
        for (const text of ['before', 'x'.repeat(size), 'after']) socket.send(`echo ${text}`);
      }, size);
      const { count, reason } = await told(page, 'lost');
      assert.deepEqual({ count, reason }, { count: 1, reason: 'too big' });
      await page.waitForFunction(() => socket.bufferedAmount === 0 && seen.got.length >= 2);
      assert.deepEqual(await page.evaluate(() => seen.got), ['echo:before', 'echo:after']);
    }
    await page.getByRole('alert').getByText('too large').waitFor();
    await shot(page, 'too-big');
  }));

test('a session that has expired is told, and the next one begins', onTestee, () =>
  onStage({ flags: ['--unused-lifetime', '300', '--check-interval', '100'] }, async ({ page: open, proxy, ask }) => {
    const page = await open(FAST);
    await talk(page, 1, 20);
    await exact(page, 20);
    await page.waitForFunction(() => socket.bufferedAmount === 0);
    proxy.down();
    await eventually('the session is gone', async () => (await ask('/peek')).status === 404);
    await forget(page);
    proxy.up();
    assert.deepEqual((await told(page, 'expired')).gap, { from: 40, to: null, reason: 'expired' });
    assert.ok((await statuses(page)).includes('new'));
    const text = 'Your session has expired. Connected again. A new session was started.';
    await page.getByRole('alert').getByText(text, { exact: true }).waitFor();
    await shot(page, 'expired');
  }));

test('an end is told with its outcome, a refusal with its reason', onTestee, () =>
  onStage({ attach: 'refuse' }, async ({ page: open }) => {
    const page = await open(FAST);
    const other = await open();
    await other.evaluate(() => start());
    await other.getByRole('alert').getByText('The server refused the connection.', { exact: true }).waitFor();
    await shot(other, 'refused');
    await page.evaluate(() => socket.send('fail on purpose'));
    await page.getByRole('alert').getByText('ended because of an error').waitFor();
    await shot(page, 'done');
    const { status, outcome, count } = await told(page, 'done');
    assert.deepEqual({ status, outcome, count }, { status: 'done', outcome: 'failed', count: 0 });
    // The place is free now, and the button is all that it takes.
    await other.getByRole('button', { name: 'Reconnect now' }).click();
    await until(other, 'open');
  }));

test('the focus goes back to where it was when a button under it goes', () =>
  onStage({}, async ({ page: open, proxy }) => {
    const page = await open({ reconnect: 'prompt' });
    await page.locator('#field').focus();
    proxy.cut();
    await page.getByRole('button', { name: 'Reconnect now' }).click();
    await until(page, 'open');
    await page.keyboard.type('on and on');
    assert.equal(await page.locator('#field').inputValue(), 'on and on');
  }));

test('texts, style and calm are the page’s to choose', () =>
  onStage({}, async ({ page: open, proxy }) => {
    const page = await open({ reconnect: 'prompt' }, { messages: { disconnected: 'Verbindung <b>weg</b>', reconnect: 'Neu verbinden' } });
    await page.emulateMedia({ reducedMotion: 'reduce' });
    await page.addStyleTag({ content: 'session-resume-status::part(prompt) { background: rgb(1, 2, 3) }' });
    proxy.cut();
    await page.getByRole('button', { name: 'Neu verbinden' }).waitFor();
    assert.equal(await page.getByRole('alert').textContent(), 'Verbindung <b>weg</b>');
    const style = await page.locator('[part~=box]').evaluate((box) => [getComputedStyle(box).backgroundColor, getComputedStyle(box).animationName]);
    assert.deepEqual(style, ['rgb(1, 2, 3)', 'none']);
    await shot(page, 'themed');
    await page.evaluate(() => banner.remove());
    await forget(page);
    await page.evaluate(() => socket.reconnect());
    await until(page, 'open');
  }));
