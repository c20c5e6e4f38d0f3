// After three failures in a row a plain request asks whether there is a server, and only then a WebSocket is opened.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { close, elsewhere, eventually, onMock, onStage, until } from './stage.mjs';

after(close);

/** Opens a socket in the page, or in a worker of it, and keeps count of its attempts and WebSockets in `watched`. */
const watch = (page, url, worker) =>
  page.evaluate(
    ([url, worker]) => {
      const code = `
        import { ResumableSocket } from '${location.origin}/session-resume.js';
        const told = { attempts: 0, sockets: 0, status: '' };
        class Watched extends WebSocket {
          constructor(...args) {
            super(...args);
            told.sockets++;
          }
        }
        const socket = new ResumableSocket('${url}', { backoff: { initial: 0.1, max: 0.1 }, env: { WebSocket: Watched } });
        socket.onstatus = ({ status }) => {
          if (status === 'connecting') told.attempts++;
          told.status = socket.current.status;
          post({ ...told });
        };`;
      globalThis.watched = { attempts: 0 };
      globalThis.report = (told) => (globalThis.watched = told);
      const script = new Blob([`const post = globalThis.report ?? postMessage;${code}`], { type: 'text/javascript' });
      const at = URL.createObjectURL(script);
      if (!worker) return void import(at);
      globalThis.worker = new Worker(at, { type: 'module' });
      globalThis.worker.onmessage = ({ data }) => report(data);
    },
    [url, worker],
  );

for (const [name, host, worker, only] of [
  ['a page', '127.0.0.1', false, {}],
  ['a worker', '127.0.0.1', true, {}],
  // The testee takes no page of another origin.
  ['a page of another origin', elsewhere, false, onMock],
]) {
  test(`${name} knocks while the server is away, and is connected as soon as it is back`, only, () =>
    onStage({ host }, async ({ page: open, proxy }) => {
      const page = await open();
      await watch(page, `ws://127.0.0.1:${proxy.port}/live`, worker);
      await page.waitForFunction(() => watched.status === 'open');
      proxy.down();
      await page.waitForFunction(() => watched.attempts >= 6);
      // One that was open, and three that were not; the others have only asked.
      assert.equal(await page.evaluate(() => watched.sockets), 4);
      proxy.up();
      await page.waitForFunction(() => watched.status === 'open');
      assert.ok(await page.evaluate(() => watched.sockets <= 6));
    }));
}

test('after ten failures `reconnect` is not held back by the browser, which knows of few of them', () =>
  onStage({}, async ({ page: open, proxy }) => {
    const page = await open({ backoff: { initial: 0.1, max: 0.1 } });
    const sockets = () => page.evaluate(() => seen.offers.length);
    proxy.down();
    const attempts = () => page.evaluate(() => seen.statuses.filter(({ status }) => status === 'connecting').length);
    await eventually('ten attempts have failed', async () => (await attempts()) > 11);
    // One that was open, three that were not, and the eighth attempt, which does not wait for an answer.
    const before = await sockets();
    assert.ok(before <= 5, `${before} WebSockets`);
    proxy.up();
    await page.evaluate(() => socket.reconnect());
    await until(page, 'open');
    assert.ok((await sockets()) <= before + 2);
  }));

test('a server that takes connections and does not answer is tried anyway', () =>
  onStage({}, async ({ page: open, proxy }) => {
    const page = await open({ backoff: { initial: 0.1, max: 0.1 }, connectTimeout: 0.5, transports: ['websocket'] });
    proxy.deaf();
    await page.evaluate(() => socket.reconnect());
    const offers = () => page.evaluate(() => seen.offers.length);
    await eventually('more WebSockets than fail without a question', async () => (await offers()) >= 7);
    proxy.up();
    await until(page, 'open');
  }));
