// Networks and servers that go away and come back.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { close, elsewhere, exact, forget, inChromium, onStage, shot, statuses, talk, talkThroughBreaks, until } from './stage.mjs';

after(close);

const FAST = { backoff: { initial: 0.1, max: 0.5 } };

test('a drop in the middle of a two-way stream: exact, and nobody notices', () =>
  onStage({}, async ({ page: open, proxy }) => {
    // A drop is short if it is over before the delay is: on a busy machine, too.
    const page = await open(FAST, { delay: 20 });
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
  test(`a network that breaks at any byte, seed ${seed}: exact both ways`, seed === 1 ? {} : inChromium, () =>
    onStage({}, async ({ page: open, proxy }) => {
      // By WebSockets alone: a pipe would outlive the breaks.
      const page = await open({ backoff: { initial: 0.02, max: 0.2 }, connectTimeout: 2, transports: ['websocket'] });
      await talkThroughBreaks(page, proxy, seed);
      assert.ok((await statuses(page)).filter((status) => status === 'resumed').length >= 5);
    }));
}

test('a server gone for some seconds: exact, a countdown, and typing is not disturbed', () =>
  onStage({}, async ({ page: open, proxy }) => {
    const page = await open({ backoff: [5, 5, 5, 5] }, { delay: 0.2 });
    await talk(page, 20, 200);
    await page.waitForFunction(() => seen.got.length > 20);
    await page.locator('#field').focus();
    await page.keyboard.type('before ');
    proxy.down();
    await page.getByRole('status').getByText('Connection lost').waitFor();
    await shot(page, 'waiting');
    assert.match(await page.locator('[part=countdown]').textContent(), /^[1-5] s$/);
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

test('20 s offline and back: connected when the network returns, not when the backoff is over', () =>
  onStage({ ping: 30_000, host: elsewhere }, async ({ page: open, proxy, context }) => {
    // Longer than any wait of this test: only the network's return can end it.
    const page = await open({ backoff: [600, 600] }, { delay: 0.1 });
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
  }));

test('an outage while hidden: no attempts, and connected when it is looked at, not when the backoff is over', () =>
  onStage({}, async ({ page: open, proxy }) => {
    // Longer than any wait of this test: only being looked at can end it.
    const page = await open({ backoff: [600, 600] });
    const look = (hidden) =>
      page.evaluate((hidden) => {
        // Headless pages are always visible.
        Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
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
  }));
