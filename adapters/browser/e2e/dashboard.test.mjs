// What a visitor of examples/dashboard is promised. `DASHBOARD=path` is its binary.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { startProxy } from './proxy.mjs';
import { close, open, shot, startServer } from './stage.mjs';

const skip = { skip: !process.env.DASHBOARD && 'needs the dashboard' };
after(close);

/** Runs one scenario against a dashboard of its own. */
async function withDashboard(scenario) {
  const start = () => startServer(process.env.DASHBOARD, ['--listen', '127.0.0.1:0']);
  let server = await start();
  const proxy = await startProxy(server.port);
  const context = await (await open()).newContext();
  const stage = {
    proxy,
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
  }
}

const state = (page, text) => page.locator('#state').getByText(text, { exact: true }).waitFor();
const ticked = (page) => page.locator('#rows input:checked').evaluateAll((boxes) => boxes.map(({ value }) => value));
/** How many live values there were, as the page has them. */
const value = (page) => page.locator('#number').textContent().then((text) => Number(text.replace('no. ', '')));
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

    await page.getByRole('button', { name: 'Drop connection' }).click();
    await state(page, 'Disconnected');
    await page.getByRole('status').getByText('Connection lost').waitFor();
    await shot(page, 'dashboard-dropped');
    // What is done meanwhile is kept; the page stays usable.
    const rail = page.getByRole('checkbox', { name: 'Trains & trams' });
    await rail.check();
    await page.getByRole('button', { name: 'Plot', exact: true }).click();
    assert.equal(await page.locator('#legend li').count(), 1, 'nobody is there to plot it');

    await state(page, 'Connected');
    await lines(page, 2);
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

test('a server that was started anew has another session, and the page says so', skip, () =>
  withDashboard(async ({ visit, restart }) => {
    const page = await visit();
    const session = await page.locator('#session').textContent();
    await page.getByLabel('Solar', { exact: true }).check();
    await page.locator('#number').getByText('no.').waitFor();
    await restart();
    await page.getByRole('alert').getByText('Your session has expired. Connected again. A new session was started.').waitFor();
    await page.locator('#note').getByText('this is another one').waitFor();
    await shot(page, 'dashboard-anew');
    assert.notEqual(await page.locator('#session').textContent(), session);
    assert.deepEqual(await ticked(page), []);
  }));
