// What statuses of requests mean to a socket, and how it chooses and remembers its way.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fetchOf, HttpServer } from './support/http.mjs';
import { ResumableSocket } from './support/subject.mjs';
import { World } from './support/world.mjs';

async function advance(world, ms) {
  for (const end = world.now + ms; world.now < end; ) {
    world.advance(Math.min(10, end - world.now));
    await new Promise(setImmediate);
    await new Promise(setImmediate);
  }
}

/** The first answer that there is, and no more. */
function once(answer) {
  let given = false;
  return (request) => {
    const now = given ? null : answer(request);
    given ||= now !== null;
    return now;
  };
}

/** A socket over HTTP; `status(request)` may answer in the server's place. */
async function open(options = {}, status = () => null) {
  const taken = [];
  const world = new World(3, { pipes: true, onMessage: (data) => taken.push(data) });
  const http = new HttpServer(world);
  const through = fetchOf(world, http, {});
  const requests = [];
  const answering = { status };
  const fetch = (url, init) => {
    requests.push({ url, ...init });
    const instead = answering.status(init);
    if (!instead) return through(url, init);
    const headers = { 'session-resume-pipe': init.headers?.['session-resume-pipe'], ...instead.headers };
    return Promise.resolve({ status: instead.status, headers: { get: (name) => headers[name] ?? null }, body: { async cancel() {} } });
  };
  const page = world.page();
  const kept = new Map();
  page.memory = () => ({ getItem: (key) => kept.get(key) ?? null, setItem: (key, text) => kept.set(key, text) });
  if (options.kept) kept.set('session-resume', options.kept);
  const socket = world.connect({ transports: ['poll'], ...options, env: { fetch, multiplexed: () => true } }, page);
  const statuses = [];
  socket.addEventListener('status', (event) => statuses.push(event));
  await advance(world, 300);
  return { world, http, socket, statuses, requests, answering, page, kept, taken, names: () => statuses.map((event) => event.status) };
}

test('409: a copy takes another id at once, and what was sent is in doubt', async () => {
  const { world, socket, statuses, answering } = await open();
  assert.equal(socket.transport, 'poll');
  const before = [...world.server.session.clients.keys()];
  answering.status = once(({ headers }) => (headers['session-resume-up'] ? { status: 409 } : null));
  socket.send('mine');
  await advance(world, 400);
  assert.deepEqual(statuses.find(({ status }) => status === 'lost').messages, ['mine']);
  assert.equal(world.server.session.clients.size, before.length + 1);
  assert.equal(socket.current.status, 'open');
  assert.deepEqual(world.server.faults, []);
});

test('410: it comes back with its cursor, and nothing is lost', async () => {
  const { world, http, socket, answering, names, taken } = await open();
  answering.status = once(({ headers }) => (headers['session-resume-up'] ? { status: 410 } : null));
  socket.send('mine');
  await advance(world, 1000);
  for (const id of world.server.session.clients.keys()) while (world.server.take(id));
  assert.deepEqual(taken, ['mine']);
  assert.ok(names().includes('resumed'));
  assert.equal(http.opens, 2);
});

test('403 ends it, refused', async () => {
  const { socket, statuses } = await open({}, () => ({ status: 403 }));
  assert.equal(socket.readyState, 3);
  assert.equal(statuses.at(-1).status, 'refused');
  assert.match(statuses.at(-1).reason, /403/);
});

test('an answer without our header is a captive portal’s: it goes on asking', async () => {
  const { world, socket, answering, names } = await open();
  world.server.push('1');
  answering.status = () => ({ status: 200, headers: { 'session-resume-pipe': undefined } });
  await advance(world, 600);
  answering.status = () => null;
  await advance(world, 3000);
  assert.equal(socket.current.status, 'open');
  assert.ok(!names().includes('resumed'), 'the same pipe');
});

test('requests are never stored, have the cookie, follow no redirect, and name nothing in the URL', async () => {
  const { requests } = await open({ transports: ['sse'] });
  assert.ok(requests.length > 1);
  for (const { url, cache, credentials, redirect } of requests) {
    assert.deepEqual([url, cache, credentials, redirect], ['http://example.test/live', 'no-store', 'include', 'error']);
  }
  assert.ok(requests.some(({ headers }) => headers.accept === 'text/event-stream'));
});

test('a WebSocket without a hello: HTTP at once, which is remembered for the origin, and forgotten when one passes', async () => {
  const ways = ['websocket', 'sse', 'poll'];
  const blocked = await open({ transports: ways });
  // The world's WebSockets pass.
  assert.equal(blocked.socket.transport, 'websocket');
  assert.equal(blocked.kept.size, 0);
  const world = new World(4);
  world.up = false;
  const page = world.page();
  const kept = new Map();
  page.memory = () => ({ getItem: (key) => kept.get(key) ?? null, setItem: (key, text) => kept.set(key, text) });
  const socket = world.connect({ transports: ways, env: { fetch: fetchOf(world, new HttpServer(world), {}), multiplexed: () => true } }, page);
  const attempts = [];
  socket.addEventListener('status', ({ status }) => attempts.push(status));
  await advance(world, 300);
  assert.equal(socket.transport, 'sse');
  assert.deepEqual(attempts.filter((status) => status === 'waiting'), [], 'in the same attempt');
  const { path, until } = JSON.parse(kept.get('session-resume'))['http://example.test'];
  assert.deepEqual([path, until > world.now + 3_500_000], ['sse', true]);
  // The network has changed: what is known is of another one.
  page.window.dispatchEvent(new Event('online'));
  assert.deepEqual(JSON.parse(kept.get('session-resume')), {});
});

test('what another page has found out is used until it runs out', async () => {
  const until = (ms) => JSON.stringify({ 'http://example.test': { path: 'poll', until: 1_000_000 + ms } });
  const ways = ['websocket', 'sse', 'poll'];
  assert.equal((await open({ transports: ways, kept: until(1) })).socket.transport, 'poll');
  assert.equal((await open({ transports: ways, kept: until(0) })).socket.transport, 'websocket');
  assert.equal((await open({ transports: ways, kept: 'nonsense' })).socket.transport, 'websocket');
});

test('ways that do not exist are told at once', () => {
  for (const transports of [[], ['ws'], ['websocket', 'SSE']]) {
    assert.throws(() => new ResumableSocket('ws://x/', { transports, env: { fetch() {} } }), TypeError);
  }
  assert.throws(() => new ResumableSocket('ws://x/', { transports: ['poll'], env: { fetch: undefined } }), TypeError);
});

test('a page that goes says so: what it has, and a close', async () => {
  const { page, requests, socket } = await open();
  socket.send('last');
  page.window.dispatchEvent(Object.assign(new Event('pagehide'), { persisted: false }));
  const { keepalive, body } = requests.at(-1);
  assert.equal(keepalive, true);
  assert.match(Buffer.from(body).toString('latin1'), /last.*\x08\x00\x00\x00\x02\x03\xe9$/s);
});
