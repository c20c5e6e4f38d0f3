// What an operator is promised of the monitor's page. `DASHBOARD=path` is the binary that mounts it.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { startProxy } from './proxy.mjs';
import { both, close, eventually, lacks, open, range, shot, startServer } from './stage.mjs';

const elsewhere = 'a page for operators: in Chromium';
const skip = both({ skip: !process.env.DASHBOARD && 'needs the dashboard' }, lacks({ firefox: elsewhere, webkit: elsewhere }));
after(close);

/** Runs one scenario against a dashboard of its own, which mounts the monitor. */
async function withMonitor(scenario) {
  const start = () => startServer(process.env.DASHBOARD, ['--listen', '127.0.0.1:0', '--memory', '--monitor']);
  let server = await start();
  const proxy = await startProxy(server.port);
  const contexts = [];
  const origin = `http://127.0.0.1:${proxy.port}`;
  const browse = async (options) => {
    contexts.push(await (await open()).newContext(options));
    const page = await contexts.at(-1).newPage();
    page.on('pageerror', (error) => assert.fail(error));
    page.on('console', (message) => assert.ok(!/Content Security Policy/.test(message.text()), message.text()));
    return page;
  };
  const stage = {
    origin, proxy,
    stop: () => server.stop(),
    async restart() {
      server = await start();
      proxy.retarget(server.port);
    },
    /** Opens the dashboard in a browser of its own; returns its page and its session's id. */
    async visitor() {
      const page = await browse();
      await page.goto(`${origin}/`);
      await page.locator('#state').getByText('Connected', { exact: true }).waitFor();
      return { page, id: await page.locator('#session').textContent() };
    },
    /** Starts sessions that no page is attached to. */
    async crowd(count) {
      const visits = await Promise.all(range(0, count).map(() => fetch(`http://127.0.0.1:${server.port}/`)));
      await Promise.all(visits.map((visit) => visit.text()));
    },
    async operator(path = '/monitor', options) {
      const page = await browse(options);
      await page.goto(`${origin}${path}`);
      await state(page, 'Live');
      return page;
    },
  };
  try {
    await scenario(stage);
  } finally {
    for (const context of contexts) await context.close();
    proxy.close();
    await server.stop();
  }
}

const state = (page, text) => page.locator('#state').getByText(text).waitFor();
const tile = (page, name, value) => page.locator(`[data-is="${name}"]`).getByText(value, { exact: true }).waitFor();
const ids = (page) => page.locator('#list a').evaluateAll((links) => links.map(({ title }) => title));
const row = (page, id) => page.locator(`#list tr[data-key="${id}"]`);
/** Lets it ask at once, as a page that comes into sight does. */
const look = (page) => page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
const sideways = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

test('an operator sees the sessions, pages through them, finds one, looks at it and ends it', skip, () =>
  withMonitor(async ({ visitor, crowd, operator }) => {
    const { page: visited, id } = await visitor();
    const page = await operator();
    await tile(page, 'running', '1');
    await row(page, id).getByText('running').waitFor();
    // Those that come later are seen, too.
    await crowd(120);
    await look(page);
    await tile(page, 'suspended', '120');
    await page.locator('#found').getByText('121 sessions.').waitFor();

    const seen = await ids(page);
    assert.equal(seen.length, 50);
    await page.getByRole('button', { name: 'Next' }).click();
    await page.locator('#found').getByText('Page 2.').waitFor();
    seen.push(...(await ids(page)));
    await page.getByRole('button', { name: 'Next' }).click();
    await page.locator('#found').getByText('Page 3.').waitFor();
    seen.push(...(await ids(page)));
    assert.equal(new Set(seen).size, 121);
    assert.ok(await page.getByRole('button', { name: 'Next' }).isDisabled());
    await page.getByRole('button', { name: 'Previous' }).click();
    await page.locator('#found').getByText('Page 2.').waitFor();

    await page.getByLabel('Phase').selectOption('running');
    await page.locator('#found').getByText(/^1 of 121/).waitFor();
    await page.getByLabel('Phase').selectOption('');
    await page.getByLabel('Search').fill(id.slice(0, 13));
    await page.locator('#found').getByText(/^1 of 121/).waitFor();
    const identity = await row(page, id).locator('td').nth(7).textContent();
    await page.getByLabel('Search').fill(identity);
    await page.locator('#found').getByText(/^1 of 121/).waitFor();
    await page.getByLabel('Search').fill('no such thing');
    await page.locator('#list').getByText('No session.').waitFor();
    await page.getByLabel('Search').fill(id);

    // By keyboard: the link, the button, the question.
    await row(page, id).getByRole('link').focus();
    await page.keyboard.press('Enter');
    await page.locator('#clients').getByText('websocket').waitFor();
    assert.equal(await page.locator('#one-title code').textContent(), id);
    assert.equal(await page.evaluate(() => document.activeElement.id), 'one-title');
    await page.getByRole('button', { name: 'End this session…' }).click();
    await shot(page, 'monitor-session');
    await page.keyboard.press('Escape');
    assert.ok(!(await page.getByRole('button', { name: 'End it' }).isVisible()));
    assert.ok(await page.locator('[data-of=phase]').getByText('running').isVisible(), 'nothing has ended yet');
    await page.getByRole('button', { name: 'End this session…' }).click();
    await page.keyboard.type('<b>too "busy" & so on</b>');
    await page.keyboard.press('Enter');
    await page.locator('#said').getByText('The session has been ended.').waitFor();
    await page.locator('[data-of=outcome]').getByText('closed: <b>too "busy" & so on</b>', { exact: true }).waitFor();
    assert.ok(!(await page.getByRole('button', { name: 'End this session…' }).isVisible()));
    await visited.locator('#state').getByText('Connected', { exact: true }).waitFor({ state: 'detached' });

    await page.goBack();
    await page.locator('#ends').getByText('<b>too "busy" & so on</b>', { exact: true }).waitFor();
    assert.equal(await page.locator('#main b:not(figcaption b)').count(), 0, 'a reason is text');
    assert.equal(await page.getByLabel('Search').inputValue(), id);
    assert.equal(await page.evaluate(() => location.pathname), '/monitor');
  }));

test('a server that is gone: its numbers are old, until it is back; a guard that refuses is named', skip, () =>
  withMonitor(async ({ crowd, operator, stop, restart }) => {
    await crowd(3);
    const page = await operator('/monitor/');
    await tile(page, 'suspended', '3');
    await page.locator('#list a').first().focus();
    await stop();
    await look(page);
    await page.locator('#state').getByText(/^Not reached since \d\d:\d\d:\d\d$/).waitFor();
    await tile(page, 'suspended', '3');
    const opacity = () => page.locator('[data-is=suspended]').evaluate((element) => Number(getComputedStyle(element).opacity));
    assert.ok((await opacity()) < 0.6);
    await shot(page, 'monitor-gone');
    await restart();
    await state(page, 'Live');
    await tile(page, 'suspended', '0');
    assert.equal(await opacity(), 1);

    // To the guard it now comes through a proxy.
    await page.setExtraHTTPHeaders({ 'x-forwarded-for': '192.0.2.1' });
    await state(page, 'The guard refused this page');
    await page.locator('#when').getByText('status 404').waitFor();
    await page.setExtraHTTPHeaders({});
    await state(page, 'Live');
  }));

test('it asks while it is in sight, and a focused row stays', skip, () =>
  withMonitor(async ({ crowd, operator }) => {
    await crowd(3);
    const page = await operator();
    let asked = 0;
    page.on('request', (request) => (asked += request.url().endsWith('/overview')));
    const turn = (hidden) => page.evaluate((hidden) => {
      Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event('visibilitychange'));
    }, hidden);
    await page.locator('#list a').nth(1).focus();
    const focused = () => page.evaluate(() => document.activeElement.title);
    const before = await focused();
    await eventually('it asks', () => asked >= 1);
    await turn(true);
    const then = asked;
    // With one more session, and time for a look. The clock is the page's.
    await crowd(1);
    await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 2500)));
    assert.equal(asked, then, 'it asks unseen');
    assert.equal(await page.locator('[data-is=suspended]').textContent(), '3');
    await turn(false);
    await tile(page, 'suspended', '4');
    await page.locator('#found').getByText('4 sessions.').waitFor();
    assert.equal(await focused(), before);
  }));

test('on a phone and in the dark it fits, and Tab reaches everything', skip, () =>
  withMonitor(async ({ visitor, crowd, operator }) => {
    const { id } = await visitor();
    await crowd(60);
    const page = await operator('/monitor', { viewport: { width: 390, height: 844 } });
    await tile(page, 'suspended', '60');
    assert.ok((await sideways(page)) <= 0, 'the page scrolls sideways');
    await shot(page, 'monitor-phone');
    const reached = new Set();
    for (let tabs = 0; tabs < 80; tabs++) {
      await page.keyboard.press('Tab');
      reached.add(await page.evaluate(() => document.activeElement.id || document.activeElement.title));
    }
    const controls = ['search', 'phase', 'sort', 'next', ...(await ids(page))];
    assert.deepEqual(controls.filter((control) => !reached.has(control)), []);
    await page.goto(`${page.url()}#${id}`);
    await page.locator('#clients').getByText('websocket').waitFor();
    await page.getByRole('button', { name: 'End this session…' }).click();
    assert.ok((await sideways(page)) <= 0, 'one session makes the page scroll sideways');
    await shot(page, 'monitor-phone-session');
    await page.setViewportSize({ width: 1240, height: 900 });
    await page.emulateMedia({ colorScheme: 'dark' });
    await shot(page, 'monitor-session-dark');
    await page.goBack();
    await tile(page, 'running', '1');
    await shot(page, 'monitor-dark');
    await page.emulateMedia({ colorScheme: 'light' });
    await shot(page, 'monitor-light');
  }));
