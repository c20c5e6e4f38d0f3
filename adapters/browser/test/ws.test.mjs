// In Node, over the package `ws`: its sockets are event emitters, where an error that nobody hears ends the process.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createServer as createTcp } from 'node:net';
import { test } from 'node:test';
import WebSocket, { WebSocketServer } from 'ws';
import { startMock } from '../e2e/mock-server.mjs';
import { ResumableSocket } from './support/subject.mjs';

/** Listens on a free port and returns its number. */
async function listen(server) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server.address().port;
}

const over = (Transport, options = {}) => ({ transports: ['websocket'], ...options, env: { WebSocket: Transport, ...options.env } });

/** Waits for a status, and returns it. */
const told = (socket, status) =>
  new Promise((resolve) => {
    socket.addEventListener('status', (event) => event.status === status && resolve(event));
  });

test('a refused connect does not end the process', async () => {
  const server = createTcp();
  const port = await listen(server);
  server.close();
  const program = `
    import WebSocket from 'ws';
    import { ResumableSocket } from './js/index.js';
    const socket = new ResumableSocket('ws://127.0.0.1:${port}/live', { backoff: [0, 0.01], transports: ['websocket'], env: { WebSocket } });
    socket.onstatus = ({ status, code }) => console.log(status, code ?? '');
    // Closed before it is open: 'ws' calls that an error, too.
    new ResumableSocket('ws://127.0.0.1:${port}/live', { transports: ['websocket'], env: { WebSocket } }).close();
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { cwd: new URL('..', import.meta.url), stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (out += chunk));
  const [code] = await once(child, 'exit');
  assert.equal(code, 0, out);
  assert.match(out, /failed 1006\n$/);
  // The first attempt began before there was a listener.
  assert.equal(out.match(/connecting/g).length, 1, out);
});

test('messages go both ways, and a drop is not noticed', async () => {
  const server = await startMock();
  const socket = new ResumableSocket(`ws://127.0.0.1:${server.port}/live`, over(WebSocket, { binaryType: 'arraybuffer' }));
  try {
    const got = [];
    const all = new Promise((resolve) => (socket.onmessage = ({ data }) => got.push(data) === 2 && resolve()));
    socket.send('echo 1');
    await told(socket, 'open');
    for (const conn of [...server.model.session.clients.values()]) conn.conn.close(1006, '');
    socket.send('echo 2');
    await all;
    assert.deepEqual(got, ['echo:1', 'echo:2']);
    assert.deepEqual(server.faults, []);
  } finally {
    socket.close();
    await once(socket, 'close');
    server.stop();
  }
});

test('a page that comes back with a newer state offers it, before what it sends', async () => {
  const server = await startMock();
  const socket = new ResumableSocket(`ws://127.0.0.1:${server.port}/live`, over(WebSocket));
  const drop = () => [...server.model.session.clients.values()].forEach(({ conn }) => conn.close(1006, ''));
  try {
    await told(socket, 'open');
    assert.equal(server.model.session.state.iteration, 0);
    socket.offerState({ iteration: 3, updated: 5, value: { total: 7 } });
    drop();
    socket.send('echo 1');
    await once(socket, 'message');
    assert.deepEqual(server.model.session.state, { iteration: 3, updated: 5, value: { total: 7 } });
    // An older copy is offered, too; the server decides.
    socket.offerState({ iteration: 2, updated: 9, value: { total: 1 } });
    drop();
    socket.send('echo 2');
    await once(socket, 'message');
    assert.equal(server.model.session.state.value.total, 7);
    assert.deepEqual(server.faults, []);
  } finally {
    socket.close();
    await once(socket, 'close');
    server.stop();
  }
});

test('a message over the limit of the library does not cost one of ours, and is tried ever more slowly', async () => {
  // Without heartbeats in between, which would be a reason to begin anew.
  const server = await startMock({ ping: 600_000 });
  class Small extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols, { maxPayload: 1000 });
    }
  }
  const socket = new ResumableSocket(`ws://127.0.0.1:${server.port}/live`, over(Small, { backoff: { initial: 0.02, max: 0.1 } }));
  const lost = [];
  const attempts = [];
  socket.addEventListener('status', (event) => {
    if (event.status === 'lost') lost.push(event);
    if (event.status === 'connecting') attempts.push(event.attempt);
  });
  try {
    await told(socket, 'open');
    server.model.push('x'.repeat(2000));
    // Written, and not accepted when the connection ends.
    await told(socket, 'connecting');
    socket.send('ours');
    while (Math.max(...attempts) < 6) await told(socket, 'connecting');
    assert.deepEqual(lost, []);
    assert.deepEqual(attempts, [2, 3, 4, 5, 6]);
  } finally {
    socket.close();
    await once(socket, 'close');
    server.stop();
  }
});

test('a route that does not speak the protocol ends after one attempt, and the text says so', async () => {
  const http = createServer((_, response) => response.writeHead(426).end());
  const sockets = new WebSocketServer({ server: http, path: '/foreign', handleProtocols: () => false });
  const port = await listen(http);
  try {
    for (const path of ['/foreign', '/nothing']) {
      let attempts = 0;
      class Counted extends WebSocket {
        constructor(...args) {
          super(...args);
          attempts++;
        }
      }
      const socket = new ResumableSocket(`ws://127.0.0.1:${port}${path}`, over(Counted));
      const { code, reason } = await told(socket, 'failed');
      assert.deepEqual([attempts, code], [1, 1002]);
      assert.match(reason, /^the server does not speak session-resume\.v1: it answers with status 4\d\d$/);
    }
  } finally {
    sockets.close();
    http.close();
  }
});

test('a server that is away, busy, or one of ours is tried again', async () => {
  for (const answer of [
    (response) => response.destroy(),
    (response) => response.writeHead(503).end(),
    (response) => response.writeHead(429).end(),
    (response) => response.writeHead(400, { 'sec-websocket-protocol': 'session-resume.v1' }).end(),
  ]) {
    const asked = [];
    const http = createServer((request, response) => {
      asked.push(request.method + request.url);
      answer(response);
    });
    http.on('upgrade', (_, socket) => socket.destroy());
    const port = await listen(http);
    const socket = new ResumableSocket(`ws://127.0.0.1:${port}/live?room=1`, over(WebSocket, { backoff: { initial: 0.01, max: 0.01, attempts: 4 } }));
    const { code } = await told(socket, 'failed');
    assert.equal(code, 1006);
    const gets = asked.filter((what) => what !== 'OPTIONS/live?room=1');
    assert.deepEqual(gets, ['GET/live?room=1'], 'once; the fourth attempt begins with an OPTIONS');
    assert.ok(asked.length <= 3, asked.join());
    http.close();
  }
});

test('a route that refuses this page ends it after one attempt, with the cause', async () => {
  for (const [answers, expected] of [
    // Something before our layer, as a login.
    [{ GET: [403, {}, 'no'] }, 'It answers with status 403.'],
    [{ GET: [401, {}, ''] }, 'It answers with status 401.'],
    // Our layer, which a GET without an upgrade does not tell the origin.
    [{ GET: [400, { 'sec-websocket-protocol': 'session-resume.v1' }, ''], OPTIONS: [403, {}, 'the page is of a foreign origin'] }, 'the page is of a foreign origin'],
  ]) {
    const http = createServer((request, response) => {
      const [status, headers, body] = answers[request.method];
      response.writeHead(status, headers).end(body);
    });
    http.on('upgrade', (_, socket) => socket.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n'));
    const port = await listen(http);
    const socket = new ResumableSocket(`ws://127.0.0.1:${port}/live`, over(WebSocket));
    const { reason } = await told(socket, 'refused');
    assert.equal(reason, expected);
    assert.equal(socket.readyState, 3);
    http.close();
    http.closeAllConnections();
  }
});

test('a page of another origin cannot ask', async () => {
  const fetches = [];
  const env = {
    location: { href: 'http://page.test/', origin: 'http://page.test' },
    fetch: async (url) => (fetches.push(url), new Response(null, { status: 404 })),
  };
  const http = createServer();
  http.on('upgrade', (_, socket) => socket.destroy());
  const port = await listen(http);
  const socket = new ResumableSocket(`ws://127.0.0.1:${port}/live`, over(WebSocket, { backoff: [0.01], env }));
  await told(socket, 'failed');
  assert.deepEqual(fetches, []);
  http.close();
});
