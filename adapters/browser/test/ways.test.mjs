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

test('401 and 403 end it, refused, and say which it is', async () => {
  for (const [status, kind] of [[401, 'unauthorized'], [403, 'refused']]) {
    const { socket, statuses } = await open({}, () => ({ status }));
    assert.equal(socket.readyState, 3);
    assert.deepEqual([statuses.at(-1).status, statuses.at(-1).kind], ['refused', kind]);
    assert.match(statuses.at(-1).reason, new RegExp(status));
  }
});

test('a login that runs out amid the session: the next request is told 401', async () => {
  const { world, socket, statuses, answering } = await open();
  answering.status = ({ headers }) => (headers['session-resume-up'] ? { status: 401 } : null);
  const closes = [];
  socket.onclose = ({ code, wasClean }) => closes.push([code, wasClean]);
  socket.send('mine');
  await advance(world, 300);
  assert.deepEqual([statuses.at(-1).status, statuses.at(-1).kind], ['refused', 'unauthorized']);
  assert.deepEqual(closes, [[4101, true]]);
  // The user has logged in: the message is not lost.
  answering.status = () => null;
  socket.reconnect();
  await advance(world, 300);
  for (const id of world.server.session.clients.keys()) while (world.server.take(id));
  assert.equal(socket.current.status, 'open');
  assert.deepEqual(world.server.faults, []);
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

const WAYS = ['websocket', 'sse', 'poll'];

/** A socket that may come by all ways. */
function anyWay(seed, prepare) {
  const world = new World(seed);
  prepare(world);
  const page = world.page();
  const kept = new Map();
  page.memory = () => ({ getItem: (key) => kept.get(key) ?? null, setItem: (key, text) => kept.set(key, text) });
  const socket = world.connect({ transports: WAYS, env: { fetch: fetchOf(world, new HttpServer(world), {}), multiplexed: () => true } }, page);
  const statuses = [];
  socket.addEventListener('status', ({ status }) => statuses.push(status));
  const remembered = () => JSON.parse(kept.get('session-resume') ?? '{}')['http://example.test'] ?? null;
  return { world, page, socket, statuses, remembered };
}

test('a WebSocket without a hello: HTTP at once; it is remembered for the origin when a look fails, too, and forgotten in another network', async () => {
  const blocked = await open({ transports: WAYS });
  // The world's WebSockets pass.
  assert.equal(blocked.socket.transport, 'websocket');
  assert.equal(blocked.kept.size, 0);
  const { world, page, socket, statuses, remembered } = anyWay(4, (world) => (world.webSockets = 'refused'));
  await advance(world, 300);
  assert.equal(socket.transport, 'sse');
  assert.deepEqual(statuses.filter((status) => status === 'waiting'), [], 'in the same attempt');
  assert.equal(remembered(), null, 'nothing has come since the look');
  world.server.push('1');
  await advance(world, 100);
  const { path, until } = remembered();
  assert.deepEqual([path, until > world.now + 3_500_000], ['sse', true]);
  // The network has changed: what is known is of another one.
  page.window.dispatchEvent(new Event('online'));
  assert.equal(remembered(), null);
});

test('a server that is down, and up again between a WebSocket and HTTP: no verdict, and a WebSocket again at once', async () => {
  for (let seed = 0; seed < 20; seed++) {
    const { world, socket, remembered } = anyWay(seed, (world) => (world.up = false));
    // The WebSocket has failed, and HTTP is being tried.
    await advance(world, 20 + 40 * seed);
    world.up = true;
    const deadline = world.now + 4000;
    while (socket.transport === null && world.now < deadline) await advance(world, 10);
    await advance(world, 200);
    world.server.push('1');
    await advance(world, 200);
    assert.equal(socket.transport, 'websocket', `seed ${seed}`);
    assert.equal(remembered(), null, `seed ${seed}`);
    assert.deepEqual(world.server.faults, []);
  }
});

test('a WebSocket that opens and brings nothing is given up for HTTP; the look meets the same', async () => {
  const { world, socket, remembered } = anyWay(5, (world) => (world.webSockets = 'mute'));
  await advance(world, 3900);
  // A stream: the world’s server answers any request.
  assert.equal(socket.transport, 'sse');
  await advance(world, 10_500);
  assert.equal(remembered(), null);
  world.server.push('1');
  await advance(world, 100);
  assert.equal(remembered().path, 'sse');
  world.webSockets = 'pass';
  await advance(world, 5000);
  assert.equal(socket.transport, 'websocket');
  assert.equal(remembered(), null);
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
