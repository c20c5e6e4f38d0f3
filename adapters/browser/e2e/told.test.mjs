// What is gone is told, in events and on the screen.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { both, close, eventually, exact, forget, inChromium, lacks, numbers, onMock, onStage, onTestee, range, shot, statuses, talk, told, until } from './stage.mjs';

after(close);

const FAST = { backoff: { initial: 0.1, max: 0.5 } };

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
    await page.getByRole('alert').getByText('The server was restarted. Your session was restored. Nothing is known to be missing.', { exact: true }).waitFor();
    await shot(page, 'restored');

    server.model.expire();
    // The page was away for less than the lifetime. It cannot know why the session is gone.
    await page.getByRole('alert').getByText('The server no longer has your session. A new session was started.', { exact: true }).waitFor();
    await shot(page, 'gone');

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

test('an overflow while the page was away is told to the number', both(onTestee, inChromium), () =>
  onStage({ flags: ['--overflow', 'drop-oldest', '--outbox-messages', '50'] }, async ({ page: open, proxy, ask }) => {
    const page = await open(FAST);
    const before = proxy.sent;
    // The handler is busy until nobody listens any more. The zeros see to it that all has left the page.
    const commands = ['busy 6000', 'emit 500 10', `add ${'5'.padStart(3000, '0')}`];
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
    // Not `total:300`: the last `add` has answered that already.
    await page.waitForFunction(() => seen.got.at(-1).startsWith('total:300 n:'));
    assert.equal(await page.evaluate(() => seen.got.at(-1)), 'total:300 n:300');
    assert.ok(!(await statuses(page)).includes('lost'));
  }));

for (const size of [1001, 200_000]) {
  test(`a message of ${size} bytes, over the limit, is refused or told once, and the others arrive`, both(onTestee, size > 2000 ? inChromium : {}), () =>
    onStage({ flags: ['--max-message', '1000'] }, async ({ page: open }) => {
      const page = await open();
      // Before the first hello nobody knows the limit: what was queued is told.
      await page.evaluate(([size, options]) => {
        start(options);
        for (const text of ['before', 'x'.repeat(size), 'after']) socket.send(`echo ${text}`);
      }, [size, FAST]);
      const { count, reason } = await told(page, 'lost');
      assert.deepEqual({ count, reason }, { count: 1, reason: 'too big' });
      await page.waitForFunction(() => socket.bufferedAmount === 0 && seen.got.length >= 2);
      assert.deepEqual(await page.evaluate(() => seen.got), ['echo:before', 'echo:after']);
      await page.getByRole('alert').getByText('too large').waitFor();
      await shot(page, 'too-big');
      // From then on `send` says so itself, and nothing is lost.
      const refused = await page.evaluate((size) => {
        try {
          socket.send('x'.repeat(size));
        } catch (error) {
          return error.name;
        }
      }, size);
      assert.equal(refused, 'QuotaExceededError');
      await page.evaluate(() => socket.send('echo last'));
      await page.waitForFunction(() => seen.got.at(-1) === 'echo:last');
    }));
}

test('a session that has expired is told, and the next one begins', both(onTestee, inChromium), () =>
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
    await told(page, 'new');
    const text = 'Your session has expired. A new session was started.';
    await page.getByRole('alert').getByText(text, { exact: true }).waitFor();
    await shot(page, 'expired');
    // News stays until the user takes note, whatever the connection does meanwhile.
    await forget(page);
    proxy.cut();
    await told(page, 'resumed');
    await page.getByRole('alert').getByText(text, { exact: true }).waitFor();
    await page.getByRole('button', { name: 'Dismiss' }).click();
    assert.equal(await page.getByRole('alert').textContent(), '');
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

test('an attempt under way is told once it has lasted', inChromium, () =>
  onStage({}, async ({ page: open, proxy }) => {
    const page = await open({ ...FAST, connectTimeout: 20 }, { delay: 0.1 });
    // The upgrade is not answered, neither well nor badly.
    proxy.deaf();
    await page.evaluate(() => socket.reconnect());
    await page.getByRole('status').getByText('Reconnecting now…').waitFor();
    await shot(page, 'connecting');
    proxy.up();
    await until(page, 'open');
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

test('texts, style and calm are the page’s to choose', lacks({ firefox: 'the driver emulates no media', webkit: 'the driver emulates no media' }), () =>
  onStage({}, async ({ page: open, proxy }) => {
    const page = await open({ reconnect: 'prompt' }, { messages: { disconnected: 'Verbindung <b>weg</b>', goesOn: '', reconnect: 'Neu verbinden' } });
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
