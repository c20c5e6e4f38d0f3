// What a visitor of examples/dashboard is promised. `DASHBOARD=path` is its binary.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { startProxy } from './proxy.mjs';
import { both, close, lacks, open, shot, startServer } from './stage.mjs';

const elsewhere = 'a page of the examples: in Chromium';
const skip = both({ skip: !process.env.DASHBOARD && 'needs the dashboard' }, lacks({ firefox: elsewhere, webkit: elsewhere }));
after(close);

/** Runs one scenario against a dashboard of its own, with a store or with sessions in `memory` alone. */
async function withDashboard(scenario, { memory = false } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'session-resume-dashboard-'));
  const kept = memory ? ['--memory'] : ['--store', join(folder, 'sessions.redb')];
  const start = () => startServer(process.env.DASHBOARD, ['--listen', '127.0.0.1:0', ...kept]);
  let server = await start();
  const proxy = await startProxy(server.port);
  const context = await (await open()).newContext();
  const stage = {
    proxy, context,
    async restart() {
      await server.stop();
      server = await start();
      proxy.retarget(server.port);
    },
    async visit() {
      const page = await context.newPage();
      page.on('pageerror', (error) => assert.fail(error));
      page.on('console', (message) => assert.ok(!/Content Security Policy/.test(message.text()), message.text()));
      await page.goto(`http://127.0.0.1:${proxy.port}/`);
      await state(page, 'Connected');
      await page.locator('#controls:enabled').waitFor();
      return page;
    },
  };
  try {
    await scenario(stage);
  } finally {
    await context.close();
    proxy.close();
    await server.stop();
    rmSync(folder, { recursive: true });
  }
}

const state = (page, text) => page.locator('#state').getByText(text, { exact: true }).waitFor();
const ticked = (page) => page.locator('#rows input:checked').evaluateAll((boxes) => boxes.map(({ value }) => value));
/** How many live values there were, as the page has them. */
const value = (page) => page.locator('#number').textContent().then((text) => Number(text.replace('no. ', '')));
/** Has a page note in what state it was, each time that the count of its plotted lines changed. */
const notePlotted = (page) => page.evaluate(() => {
  const legend = document.querySelector('#legend');
  const state = document.querySelector('#state');
  globalThis.plotted = [];
  let before = legend.children.length;
  new MutationObserver(() => {
    const lines = legend.children.length;
    if (lines !== before) globalThis.plotted.push({ lines, state: state.textContent.trim() });
    before = lines;
  }).observe(legend, { childList: true });
});
/** Waits until a page that is loaded anew is shown these rows, as the server has them. */
const lines = (page, count) => page.locator('#legend li').nth(count - 1).waitFor();

test('the button drops the connection; it comes back by itself, with all that was selected, plotted and missed', skip, () =>
  withDashboard(async ({ visit }) => {
    const page = await visit();
    const session = await page.locator('#session').textContent();
    await page.getByLabel('Solar', { exact: true }).check();
    await page.getByRole('button', { name: 'Plot', exact: true }).click();
    await lines(page, 1);
    const tried = [];
    page.on('websocket', (socket) => tried.push(new URL(socket.url()).pathname));
    const before = await value(page);
    await notePlotted(page);

    await page.getByRole('button', { name: 'Drop connection' }).click();
    await state(page, 'Disconnected');
    await page.getByRole('status').getByText('Connection lost').waitFor();
    // What is done meanwhile is kept; the page stays usable.
    const rail = page.getByRole('checkbox', { name: 'Trains & trams' });
    await rail.check();
    await page.getByRole('button', { name: 'Plot', exact: true }).click();
    await shot(page, 'dashboard-dropped');

    await state(page, 'Connected');
    await lines(page, 2);
    // Nobody was there to plot it while the connection was away.
    assert.deepEqual(await page.evaluate(() => globalThis.plotted), [{ lines: 2, state: 'Connected' }]);
    await page.locator('#replay').getByText(/[1-9]\d* missed while away and replayed, none lost\.$/).waitFor();
    await shot(page, 'dashboard-back');
    assert.ok((await value(page)) - before >= 4, 'the server went on');
    assert.ok(tried.includes('/no-network'), 'it tried in vain');
    assert.equal(tried.at(-1), '/live');
    assert.deepEqual(await ticked(page), ['solar', 'rail']);
    assert.equal(await page.locator('#session').textContent(), session);

    await page.reload();
    await state(page, 'Connected');
    assert.equal(await page.locator('#session').textContent(), session);
    assert.equal(await page.locator('#origin').textContent(), 'reused');
    assert.deepEqual(await ticked(page), ['solar', 'rail']);
    await lines(page, 2);
  }));

test('the second tab takes over; the first takes back and sees what the second did', skip, () =>
  withDashboard(async ({ visit }) => {
    const first = await visit();
    await first.getByLabel('Solar', { exact: true }).check();
    const second = await visit();
    await state(first, 'Continued in another tab');
    assert.ok(await first.getByLabel('Solar', { exact: true }).isDisabled());
    assert.deepEqual(await ticked(second), ['solar']);
    await second.getByRole('checkbox', { name: 'Trains & trams' }).check();
    await second.getByRole('button', { name: 'Plot', exact: true }).click();
    await lines(second, 2);
    await first.bringToFront();
    await first.getByRole('button', { name: 'Use it here' }).click();
    await state(first, 'Connected');
    await lines(first, 2);
    assert.deepEqual(await ticked(first), ['solar', 'rail']);
    await state(second, 'Continued in another tab');
    await first.getByRole('checkbox', { name: 'Trains & trams' }).uncheck();
    await first.getByRole('button', { name: 'Clear plot' }).click();
    await first.locator('#empty').waitFor();
  }));

test('a server that was killed and started anew: the selection is restored, the plot is drawn again', skip, () =>
  withDashboard(async ({ visit, restart }) => {
    const page = await visit();
    const session = await page.locator('#session').textContent();
    await page.getByLabel('Solar', { exact: true }).check();
    await page.getByRole('button', { name: 'Plot', exact: true }).click();
    await lines(page, 1);
    // A plot is shown once it is in the state, and in the store soon after: the next value is there later.
    await page.locator('#number').getByText('no.').waitFor();
    const seen = await value(page);
    while ((await value(page)) < seen + 2) await page.waitForTimeout(100);
    await page.close();
    await restart();
    const again = await visit();
    assert.equal(await again.locator('#session').textContent(), session);
    assert.equal(await again.locator('#origin').textContent(), 'restored');
    assert.deepEqual(await ticked(again), ['solar']);
    await lines(again, 1);
  }));

test('on a phone the plot fits the page, and nothing covers a control', skip, () =>
  withDashboard(async ({ visit, context }) => {
    const page = await visit();
    await page.setViewportSize({ width: 390, height: 844 });
    await page.getByLabel('Solar', { exact: true }).check();
    await page.getByRole('button', { name: 'Plot', exact: true }).click();
    await lines(page, 1);
    const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok((await overflow()) <= 0, 'the page scrolls sideways');
    const fits = await page.locator('#svg').evaluate((box) => box.scrollWidth <= box.clientWidth);
    assert.ok(fits, 'the plot is wider than its box');
    await shot(page, 'dashboard-phone');
    // The page loses its session to another tab: a prompt with a button.
    const other = await context.newPage();
    await other.goto(page.url());
    await state(page, 'Continued in another tab');
    await page.bringToFront();
    const button = page.getByRole('button', { name: 'Use it here' });
    await button.waitFor();
    await shot(page, 'dashboard-phone-prompt');
    assert.ok((await overflow()) <= 0, 'the prompt makes the page scroll sideways');
    const covered = await page.evaluate(() => {
      const controls = [...document.querySelectorAll('button, input, select')].filter((control) => control.checkVisibility());
      return controls.filter((control) => {
        control.scrollIntoView({ block: 'center' });
        const { x, y, width, height } = control.getBoundingClientRect();
        const top = document.elementFromPoint(x + width / 2, y + height / 2);
        return !(control.contains(top) || top?.contains(control));
      }).map(({ id }) => id);
    });
    assert.deepEqual(covered, []);
    // From the top of the page the button is a few Tabs away.
    await page.evaluate(() => (document.activeElement?.blur(), scrollTo(0, 0)));
    let tabs = 0;
    const reached = () => page.evaluate(() => document.activeElement?.localName === 'session-resume-status');
    while (!(await reached()) && tabs < 10) {
      await page.keyboard.press('Tab');
      tabs++;
    }
    assert.ok(tabs <= 2, `${tabs} Tabs`);
  }));

test('in memory alone a server that was started anew has another session, and the page says so', skip, () =>
  withDashboard(async ({ visit, restart }) => {
    const page = await visit();
    const session = await page.locator('#session').textContent();
    await page.getByLabel('Solar', { exact: true }).check();
    await page.locator('#number').getByText('no.').waitFor();
    await restart();
    await page.getByRole('alert').getByText('The server no longer has your session. A new session was started.').waitFor();
    await page.locator('#note').getByText('this is another one').waitFor();
    await shot(page, 'dashboard-anew');
    assert.notEqual(await page.locator('#session').textContent(), session);
    assert.deepEqual(await ticked(page), []);
  }, { memory: true }));

test('a silent network: the page says that it waits to send, and values that are old are dimmed and say how old', skip, () =>
  withDashboard(async ({ proxy, visit }) => {
    const page = await visit();
    await page.locator('#number').getByText('no.').waitFor();
    proxy.deaf();
    await page.getByLabel('Solar', { exact: true }).check();
    await state(page, 'Waiting to send');
    await page.locator('#note').getByText('The server goes on meanwhile, and what you do here is kept.', { exact: true }).waitFor();
    await page.locator('#live[data-old]').waitFor();
    await page.locator('#age').getByText(/^\([3-9] s old\)$/).waitFor();
    await shot(page, 'dashboard-silent');
    // The first attempts begin at once: the page may say that it connects for most of the time.
    await page.locator('#state').getByText(/^(Disconnected|Connecting…)$/).waitFor();
    proxy.up();
    await state(page, 'Connected');
    await page.locator('#live:not([data-old])').waitFor();
    assert.equal(await page.locator('#age').textContent(), '');
    assert.deepEqual(await ticked(page), ['solar']);
  }));
