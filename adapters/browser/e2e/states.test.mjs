// What the page says in each state, by its cause; with a picture of each: light, dark, and on a phone.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { close, eventually, exact, forget, onMock, onStage, onTestee, open, shot, talk, told, until } from './stage.mjs';

after(close);

const FAST = { backoff: { initial: 0.1, max: 0.5 } };

/** Waits for this text, whole, in a region of this role, and keeps pictures of it. */
async function says(page, role, text, name) {
  const said = () => page.evaluate((role) => globalThis.banner.shadowRoot.querySelector(`[role=${role}]`).textContent, role);
  await eventually(`${text} (but: ${await said()})`, async () => (await said()) === text);
  // Where the driver can show a page in other schemes and sizes.
  if (!name || !page.emulateMedia) return;
  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: scheme });
    await shot(page, `${name}-${scheme}`);
  }
  await page.setViewportSize({ width: 390, height: 700 });
  await shot(page, `${name}-phone`);
  await page.setViewportSize({ width: 1280, height: 720 });
  await page.emulateMedia({ colorScheme: 'light' });
}

test('a silent network: asked after 3 s, the page says so, and it is replaced long before 75 s', () =>
  onStage({ ping: 30_000 }, async ({ page: open, proxy }) => {
    const page = await open(FAST);
    await talk(page, 1, 10);
    await exact(page, 10);
    await page.waitForFunction(() => socket.bufferedAmount === 0);
    const began = Date.now();
    proxy.deaf();
    await page.evaluate(() => socket.send('echo c10'));
    await says(page, 'status', 'The network does not answer. Your session goes on meanwhile. Waiting to send.', 'stalled');
    await told(page, 'connecting');
    assert.ok(Date.now() - began < 25_000, 'not after 2.5 heartbeats');
    proxy.up();
    await exact(page, 11, 10);
    await page.locator('[part~=idle]').waitFor({ state: 'attached' });
  }));

test('a handler that is busy is no silent network', onTestee, () =>
  onStage({ ping: 30_000 }, async ({ page: open }) => {
    const page = await open(FAST);
    await forget(page);
    await page.evaluate(() => socket.send('busy 12000'));
    await page.waitForFunction(() => seen.got.includes('done-busy'), null, { timeout: 60_000 });
    assert.deepEqual(await page.evaluate(() => seen.statuses.map(({ status }) => status)), []);
  }));

test('a first connection that never was is not lost', () =>
  onStage({}, async ({ page: open, proxy }) => {
    const page = await open();
    proxy.down();
    await page.evaluate(() => start({ backoff: [0.5, 3, 30] }, { delay: 0 }));
    await says(page, 'status', 'Cannot reach the server. Trying again soon.', 'unreachable');
    await page.evaluate(() => socket.send('x'));
    await says(page, 'status', 'Cannot reach the server. Waiting to send. Trying again soon.');
  }));

test('the session goes on meanwhile, as long as that is known', onMock, () =>
  onStage({ lifetime: 3000 }, async ({ page: open, proxy }) => {
    const page = await open({ backoff: [600, 600] }, { delay: 0 });
    proxy.down();
    await says(page, 'status', 'Connection lost. Your session goes on meanwhile. Trying again soon.', 'waiting');
    await says(page, 'status', 'Connection lost. Trying again soon.', 'waiting-long');
  }));

test('a server that restarts says so, and afterwards whether anything is missing', onMock, () =>
  onStage({}, async ({ page: open, proxy, server }) => {
    const page = await open(FAST, { delay: 0, fade: 60 });
    server.model.drain(2000);
    await says(page, 'status', 'The server is restarting. Trying again soon.', 'restarting');
    await says(page, 'status', 'The server was restarted. Nothing is known to be missing.', 'restarted');

    server.model.restart();
    await says(page, 'alert', 'The server was restarted. Your session was restored. Nothing is known to be missing.', 'restored');
    await page.getByRole('button', { name: 'Dismiss' }).click();

    server.model.refusal = [4113, 'try again later'];
    for (const { conn } of server.model.session.clients.values()) conn?.close(1006, '');
    await says(page, 'status', 'The server is busy. Your session goes on meanwhile. Trying again soon.', 'busy');
    server.model.refusal = null;
    await says(page, 'status', 'Connected again.', 'resumed');

    proxy.down();
    await page.waitForFunction(() => socket.current.status !== 'open');
    server.model.expire();
    proxy.up();
    await says(page, 'alert', 'The server no longer has your session. A new session was started.', 'gone');
    await page.getByRole('button', { name: 'Dismiss' }).click();

    server.model.drain(1000);
    await until(page, 'waiting');
    server.model.expire();
    await says(page, 'alert', 'The server was restarted. A new session was started.', 'anew');
    await page.getByRole('button', { name: 'Dismiss' }).click();

    await page.evaluate(() => {
      const status = (status) => socket.dispatchEvent(Object.assign(new Event('status'), status));
      status({ status: 'lost', messages: ['a', 'b'], reason: 'in doubt' });
      status({ status: 'lost', messages: ['c'], reason: 'dropped' });
      status({ status: 'takenback', count: 3 });
    });
    await says(page, 'alert', '2 of your last actions may not have arrived. 1 of your actions could not be handled, and the server has given them up. ' +
      '3 of your last actions were undone: the server has gone back to an earlier state.', 'doubt');
    await page.getByRole('button', { name: 'Dismiss' }).click();

    server.model.refusal = [4101, 'maintenance'];
    for (const { conn } of server.model.session.clients.values()) conn?.close(1006, '');
    await says(page, 'alert', 'The server refused the connection: maintenance', 'refused');
  }));

test('a session that another window had is taken back, and nothing is said to be missing', onTestee, () =>
  onStage({}, async ({ page: open }) => {
    const page = await open(FAST, { fade: 60 });
    const other = await open(FAST);
    await says(page, 'status', 'This session is in use in another window.', 'superseded');
    // Red is for errors.
    assert.ok(await page.evaluate(() => !banner.shadowRoot.querySelector('[part~=prompt]')));
    await talk(other, 1, 50);
    await exact(other, 50);
    await other.waitForFunction(() => socket.bufferedAmount === 0);
    // Until the server has the last acknowledgement, the messages are kept for this page.
    await sleep(500);
    await page.getByRole('button', { name: 'Use it here' }).click();
    const { gap } = await told(page, 'gap');
    assert.ok(gap.to > gap.from, 'the application is told');
    await says(page, 'status', 'The session is in this window again.', 'back');
  }));

test('a page that is refused is told so, and why', async () => {
  const files = { '/session-resume.js': 'text/javascript', '/session-resume-notify.js': 'text/javascript' };
  // As our layer answers where a proxy does not pass the host on.
  const http = createServer(({ method, url }, response) => {
    if (files[url]) return response.writeHead(200, { 'content-type': files[url] }).end(readFileSync(new URL(`../dist${url}`, import.meta.url)));
    if (url === '/') return response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>refused</title>');
    if (method === 'OPTIONS') return response.writeHead(403).end('the page’s origin https://a.example is not this host');
    response.writeHead(400, { 'sec-websocket-protocol': 'session-resume.v1' }).end();
  });
  http.on('upgrade', (_, socket) => socket.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n'));
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  const context = await (await open()).newContext();
  try {
    const page = await context.newPage();
    await page.goto(`http://127.0.0.1:${http.address().port}/`);
    await page.evaluate(async () => {
      const { ResumableSocket } = await import('/session-resume.js');
      const { notify } = await import('/session-resume-notify.js');
      globalThis.banner = notify(new ResumableSocket('/live'));
    });
    await says(page, 'alert', 'The server refused the connection: the page’s origin https://a.example is not this host', 'refused-origin');
  } finally {
    await context.close();
    http.closeAllConnections();
    http.close();
  }
});
