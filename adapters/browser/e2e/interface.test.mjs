// The interface beside the browser's own WebSocket, in the browser; realms, workers, and routes that do not speak.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, test } from 'node:test';
import { WebSocketServer } from 'ws';
import { freePort } from './driver/process.mjs';
import { startMock } from './mock-server.mjs';
import { close, open } from './stage.mjs';

const dist = (name) => readFileSync(new URL(`../dist/${name}`, import.meta.url), 'utf8');
const FILES = {
  '/': ['text/html', '<!doctype html><title>interface</title>'],
  '/policy': ['text/html', `<!doctype html><meta http-equiv="content-security-policy" content="connect-src 'none'"><title>policy</title>`],
  '/session-resume.js': ['text/javascript', dist('session-resume.js')],
  '/session-resume-notify.js': ['text/javascript', dist('session-resume-notify.js')],
  '/js/worker.js': ['text/javascript', `
    import { ResumableSocket } from '/session-resume.js';
    const run = (post) => {
      const socket = new ResumableSocket('../live');
      socket.onmessage = ({ data }) => post([socket.url, data]);
      socket.send('echo worker');
    };
    if (globalThis.SharedWorkerGlobalScope) onconnect = ({ ports: [port] }) => run((data) => port.postMessage(data));
    else run(postMessage);
  `],
};

const NOT_SPOKEN = /^the server does not speak session-resume\.v1(: it answers with status 404)?$/;

/** A page beside a server of ours (`/live`), one of plain WebSockets (`/echo`), and a route that is none (`/nothing`). */
async function onPage(scenario) {
  const ours = await startMock();
  const echo = new WebSocketServer({ noServer: true, handleProtocols: (offered) => [...offered].find((name) => !/^(session-resume|at)\./.test(name)) ?? false });
  echo.on('connection', (socket) => {
    socket.on('error', () => {});
    socket.on('message', (data, binary) => socket.send(data, { binary }));
  });
  const upgrades = [];
  const http = createServer(({ url }, response) => {
    const [type, body] = FILES[url] ?? [];
    response.writeHead(body ? 200 : 404, { 'content-type': type ?? 'text/plain' }).end(body);
  });
  http.on('upgrade', (request, socket, head) => {
    upgrades.push(request.url);
    socket.on('error', () => {});
    if (request.url.startsWith('/live')) ours.http.emit('upgrade', request, socket, head);
    else if (request.url === '/echo') echo.handleUpgrade(request, socket, head, (ws) => echo.emit('connection', ws, request));
    else socket.end('HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n');
  });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  const context = await (await open()).newContext();
  try {
    const page = await context.newPage();
    page.on('pageerror', (error) => assert.fail(error));
    await load(page, `http://127.0.0.1:${http.address().port}/`);
    await scenario(page, { upgrades, ours });
    assert.deepEqual(ours.faults, []);
  } finally {
    await context.close();
    echo.clients.forEach((socket) => socket.terminate());
    ours.stop();
    http.closeAllConnections();
    http.close();
  }
}

/** Goes to a page and brings the client in. */
async function load(page, url) {
  await page.goto(url);
  await page.evaluate(async () => void (globalThis.ResumableSocket = (await import('/session-resume.js')).ResumableSocket));
}

after(close);

test('arguments, properties and errors are those of the browser’s own', () =>
  onPage(async (page) => {
    const { native, ours } = await page.evaluate(() => {
      // What each does: the value, or the error's kind. Not here: `close(2999.5)`, which is right in Firefox
      // alone, and `close(undefined, 'why')`, which Chromium refuses.
      const rows = {
        'bad url': (S) => new S('http://').url,
        'another scheme': (S) => new S('ftp://x/'),
        'a fragment': (S) => new S('/x#y'),
        'an empty fragment': (S) => new S('/x#'),
        relative: (S) => new S('rel?q').url.replace(/\d+/g, 'N'),
        http: (S) => new S('http://localhost/a').url,
        'an URL': (S) => new S(new URL('https://localhost/a')).url,
        'no arguments': (S) => new S(),
        'a symbol': (S) => new S(Symbol('x')),
        'protocols: undefined': (S) => typeof new S('/echo', undefined),
        'protocols: null': (S) => typeof new S('/echo', null),
        'protocols: []': (S) => typeof new S('/echo', []),
        'protocols: a set': (S) => typeof new S('/echo', new Set(['a'])),
        'protocols: twice': (S) => new S('/echo', ['a', 'a']),
        'protocols: bad': (S) => new S('/echo', ['a b']),
        'protocols: empty': (S) => new S('/echo', ''),
        'without new': (S) => S('/echo'),
        'readyState at first': (S) => new S('/echo').readyState,
        'bufferedAmount at first': (S) => new S('/echo').bufferedAmount,
        'protocol at first': (S) => new S('/echo', 'chat').protocol,
        extensions: (S) => new S('/echo').extensions,
        binaryType: (S) => new S('/echo').binaryType,
        'binaryType: wrong': (S) => {
          const socket = new S('/echo');
          socket.binaryType = 'arraybuffer';
          socket.binaryType = 'nodebuffer';
          return socket.binaryType;
        },
        'send()': (S) => new S('/echo').send(),
        'send(Symbol())': (S) => new S('/echo').send(Symbol()),
        'url is read only': (S) => {
          'use strict';
          new S('/echo').url = 'x';
        },
        'readyState is read only': (S) => {
          'use strict';
          new S('/echo').readyState = 1;
        },
        'a constant is read only': (S) => {
          'use strict';
          S.OPEN = 7;
        },
        constants: (S) => [S, S.prototype].map((on) => ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'].map((name) => JSON.stringify(Object.getOwnPropertyDescriptor(on, name)))),
        'own properties': (S) => Object.getOwnPropertyNames(new S('/echo')),
        enumerable: (S) => {
          const names = [];
          for (const name in new S('/echo')) names.push(name);
          return names.filter((name) => !['session', 'kept', 'lifetime', 'transport', 'current', 'reconnect', 'offerState', 'onstatus', 'onsession', 'queued', 'inDoubt'].includes(name)).sort();
        },
        lengths: (S) => [S.length, S.prototype.send.length, S.prototype.close.length],
        'is an EventTarget': (S) => new S('/echo') instanceof EventTarget,
        'handler: none': (S) => new S('/echo').onmessage,
        'handler: an object': (S) => {
          const socket = new S('/echo');
          const object = {};
          socket.onmessage = object;
          return socket.onmessage === object;
        },
        'handler: a text': (S) => {
          const socket = new S('/echo');
          socket.onmessage = () => {};
          socket.onmessage = 'text';
          return socket.onmessage;
        },
        'handlers in order': (S) => {
          const socket = new S('/echo');
          const calls = [];
          socket.onopen = () => calls.push(1);
          socket.addEventListener('open', () => calls.push(2));
          socket.onopen = () => calls.push(3);
          socket.dispatchEvent(new Event('open'));
          socket.onopen = null;
          socket.onopen = () => calls.push(4);
          socket.dispatchEvent(new Event('open'));
          return calls;
        },
      };
      for (const [name, args] of Object.entries({
        'close(1000, null)': [1000, null], 'close(null)': [null], 'close(0)': [0], 'close(1001)': [1001], 'close(2999.4)': [2999.4], 'close(3000.4)': [3000.4],
        'close(NaN)': [NaN], 'close("3000")': ['3000'], 'close(5000)': [5000], 'close(1e9)': [1e9], 'close(Symbol())': [Symbol()],
        'close(1000, long)': [1000, 'ä'.repeat(62)], 'close(1000, Symbol())': [1000, Symbol()], 'close(1000, {})': [1000, {}],
      })) {
        rows[name] = (S) => (new S('/echo').close(...args), 'closed');
      }
      const all = [];
      const outcome = (Socket, row) => {
        class Kept extends Socket {
          constructor(...args) {
            super(...args);
            all.push(this);
          }
        }
        const S = new Proxy(Socket, {
          construct: (_, args) => {
            const socket = Reflect.construct(Socket, args);
            all.push(socket);
            return socket;
          },
        });
        try {
          return row(S) ?? null;
        } catch (error) {
          return `${error.constructor.name} ${error.name}`;
        }
      };
      const result = { native: {}, ours: {} };
      for (const [name, row] of Object.entries(rows)) {
        result.native[name] = outcome(WebSocket, row);
        result.ours[name] = outcome(ResumableSocket, row);
      }
      for (const socket of all) socket.close();
      return result;
    });
    assert.ok(Object.keys(native).length > 45);
    assert.equal(native['bad url'], 'DOMException SyntaxError');
    assert.deepEqual(ours, native);
  }));

test('what is sent arrives as the browser’s own would send it, from any realm', () =>
  onPage(async (page) => {
    const { native, ours } = await page.evaluate(async () => {
      const frame = document.createElement('iframe');
      document.body.append(frame);
      const there = frame.contentWindow;
      const made = `[
        'text', '', 7, null, undefined, true, [1, 2], { toString: () => 'made' }, new Date(NaN), 'a\\ud800b',
        new Uint8Array([1, 2, 3]), new Uint8Array([1, 2, 3, 4]).subarray(1, 3), new Uint8Array([5, 6]).buffer, new DataView(new Uint8Array([7, 8, 9]).buffer, 1),
        new Uint16Array([258]), new Float64Array([1]), new BigInt64Array([5n]), new Uint8ClampedArray([300]), new Blob(['blob']), new Blob([]), new ArrayBuffer(0),
        new File(['file'], 'name'), new URL('http://x.test/'), Object.create(null), Symbol('x'), globalThis.SharedArrayBuffer && new Uint8Array(new SharedArrayBuffer(2)),
        (() => { const gone = new Uint8Array([1]); structuredClone(gone.buffer, { transfer: [gone.buffer] }); return gone; })(),
        new Proxy(new ArrayBuffer(1), {}), { byteLength: 4, slice() {} },
      ]`;
      const rows = [...eval(made), ...there.eval(made)];
      const read = async (data) =>
        typeof data === 'string' ? data : `bytes ${[...new Uint8Array(data instanceof Blob ? await data.arrayBuffer() : data)]}`;
      // Sends one and waits for it to come back.
      const answers = async (socket, prefix) => {
        const waiting = [];
        socket.onmessage = ({ data }) => waiting.shift()?.(data);
        await new Promise((resolve) => (socket.onopen = resolve));
        const all = [];
        for (const row of rows) {
          try {
            const answer = new Promise((resolve) => waiting.push(resolve));
            socket.send(row);
            all.push(await read(await answer));
          } catch (error) {
            waiting.pop();
            all.push(error.name);
          }
        }
        socket.close();
        return all;
      };
      // Ours over the plain echo: the frames as they are written.
      class Bare extends WebSocket {
        constructor(url) {
          super(url);
          Object.defineProperty(this, 'protocol', { value: 'session-resume.v1' });
          this.addEventListener('open', () => {
            const hello = { v: 1, session: 's', epoch: 'e', attachment: 1, status: 'new', from: 0, received: 0, gap: null, heartbeat_ms: 0, lifetime_ms: 1, window: { messages: 9, bytes: 999 } };
            this.onmessage({ data: '\u0001' + JSON.stringify({ hello }) });
          });
        }
        send(data) {
          if (typeof data === 'string' && data.startsWith('\u0001{')) return;
          super.send(data);
          this.count = (this.count ?? 0) + 1;
          setTimeout(() => this.onmessage({ data: '\u0001' + JSON.stringify({ ack: this.count }) }));
        }
      }
      return {
        native: await answers(new WebSocket('/echo')),
        ours: await answers(new ResumableSocket('/echo', { env: { WebSocket: Bare } })),
      };
    });
    assert.ok(native.length > 50 && native.includes('bytes 2,3') && native.includes('TypeError'));
    assert.deepEqual(ours, native);
  }));

test('close events are those of the browser’s own', () =>
  onPage(async (page) => {
    // Nobody is there.
    const gone = `ws://127.0.0.1:${await freePort()}/`;
    const rows = await page.evaluate(async (gone) => {
      const seen = async (socket, run, opens) => {
        const events = [];
        for (const type of ['error', 'close']) {
          socket.addEventListener(type, (event) => events.push([type, event.constructor.name, event.code ?? null, event.reason ?? null, event.wasClean ?? null]));
        }
        const ended = new Promise((resolve) => socket.addEventListener('close', resolve));
        if (opens) await new Promise((resolve) => socket.addEventListener('open', resolve));
        run(socket);
        const state = socket.readyState;
        await ended;
        return [state, socket.readyState, ...events];
      };
      const rows = {};
      for (const [name, opens, ...args] of [
        ['close()', true], ['close(1000)', true, 1000], ['close(4001, "bye")', true, 4001, 'bye'], ['close(1000, null)', true, 1000, null],
        ['while connecting', false], ['while connecting, with a code', false, 4001, 'bye'],
      ]) {
        const run = (socket) => socket.close(...args);
        rows[name] = [await seen(new WebSocket('/echo'), run, opens), await seen(new ResumableSocket('/live'), run, opens)];
      }
      rows.refused = [await seen(new WebSocket(gone), () => {}, false), await seen(new ResumableSocket(gone, { reconnect: false }), () => {}, false)];
      return rows;
    }, gone);
    assert.equal(Object.keys(rows).length, 7);
    for (const [name, [native, ours]] of Object.entries(rows)) assert.deepEqual(ours, native, name);
  }));

test('a connection that the browser itself refuses is closed, also where the browser tells of an error alone', () =>
  onPage(async (page) => {
    // What is thrown, or told until the close event.
    const outcome = (url) =>
      page.evaluate((url) => {
        const events = [];
        try {
          const socket = new ResumableSocket(url, { reconnect: false, connectTimeout: 300 });
          socket.onerror = ({ type }) => events.push(type);
          return new Promise((resolve) => (socket.onclose = ({ type, code }) => resolve([...events, type, code, socket.readyState])));
        } catch ({ name }) {
          return name;
        }
      }, url);
    const closed = ['error', 'close', 1006, 3];
    // A port that browsers block.
    assert.deepEqual(await outcome('ws://127.0.0.1:1/'), closed);
    // What the page's policy forbids throws, if anything, in the browser's own.
    await load(page, new URL('/policy', page.url()).href);
    const thrown = await page.evaluate(() => {
      try {
        new WebSocket('/live');
        return null;
      } catch ({ name }) {
        return name;
      }
    });
    assert.deepEqual(await outcome('/live'), thrown ?? closed);
  }));

test('workers of both kinds: a relative URL, and messages', () =>
  onPage(async (page) => {
    const port = new URL(page.url()).port;
    for (const kind of ['Worker', 'SharedWorker']) {
      const got = await page.evaluate(
        (kind) =>
          new Promise((resolve, reject) => {
            const worker = new globalThis[kind]('/js/worker.js', { type: 'module' });
            worker.onerror = (event) => reject(new Error(event.message ?? 'the worker failed'));
            const port = worker.port ?? worker;
            port.onmessage = ({ data }) => resolve(data);
          }),
        kind,
      );
      assert.deepEqual(got, [`ws://127.0.0.1:${port}/live`, 'echo:worker']);
    }
  }));

test('where only loopback is up, a drop is over at once', () =>
  onPage(async (page, { ours }) => {
    await page.evaluate(() => {
      globalThis.socket = new ResumableSocket('/live');
      return new Promise((resolve) => (socket.onopen = resolve));
    });
    // Chromium then says that it is offline, and cuts what is not loopback; this goes by the interface alone.
    await page.evaluate(() => {
      Object.defineProperty(navigator, 'onLine', { value: false });
      dispatchEvent(new Event('offline'));
    });
    assert.equal(await page.evaluate(() => socket.current.status), 'open');
    for (const { conn } of ours.model.session.clients.values()) conn?.close(1006, '');
    await page.waitForFunction(() => socket.current.status !== 'open');
    await page.waitForFunction(() => socket.current.status === 'open');
  }));

test('a route that does not speak the protocol ends after one attempt, with a text that says so', () =>
  onPage(async (page, { upgrades }) => {
    for (const path of ['/echo', '/nothing']) {
      upgrades.length = 0;
      const failed = await page.evaluate(
        async (path) => {
          const { notify } = await import('/session-resume-notify.js');
          return new Promise((resolve) => {
            const socket = new ResumableSocket(path);
            socket.onstatus = ({ status, code, reason }) => status === 'failed' && resolve({ code, reason, state: socket.readyState });
            notify(socket);
          });
        },
        path,
      );
      const { code, state, reason } = failed;
      assert.deepEqual({ code, state }, { code: 1002, state: 3 });
      // Without a subprotocol the WebSocket of `/echo` is open to some browsers, and a failure to Chromium, so that the route is asked.
      assert.match(reason, path === '/echo' ? NOT_SPOKEN : /^the server does not speak session-resume\.v1: it answers with status 404$/);
      assert.deepEqual(upgrades, [path]);
      await page.getByRole('alert').getByText('Not connected: the server does not speak session-resume.v1').last().waitFor();
    }
  }));
