// What the application makes anew for each attempt: the URL, headers and credentials.

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

/** A socket whose URL is what `url` returns, with what it tells, and the addresses that were tried. */
function socketOf(url, options = {}) {
  const taken = [];
  const world = new World(5, { onMessage: (data) => taken.push(data) });
  const page = world.page();
  const socket = world.connect({ backoff: [0.1, 0.2, 0.2, 0.2], ...options }, page, url);
  const statuses = [];
  socket.addEventListener('status', (event) => statuses.push(event));
  const tried = () => (page.links ?? []).map((link) => link.url);
  const cut = async () => {
    [...world.links].at(-1).cut({ client: 1, server: 1 });
    await advance(world, 300);
  };
  return { world, page, socket, statuses, tried, cut, taken, of: (name) => statuses.filter(({ status }) => status === name) };
}

for (const [kind, wrap] of [['sync', (url) => url], ['async', async (url) => url]]) {
  test(`a function (${kind}) names the URL of each attempt, and is told which it is`, async () => {
    const asked = [];
    const { world, socket, tried, cut, of } = socketOf((attempt) => {
      asked.push(attempt);
      return wrap(`/live?ticket=${asked.length}`);
    });
    assert.equal(socket.url, '', 'not known yet');
    socket.send('early');
    await advance(world, 100);
    assert.equal(socket.url, 'ws://example.test/live?ticket=1');
    await cut();
    assert.deepEqual(tried(), ['ws://example.test/live?ticket=1', 'ws://example.test/live?ticket=2']);
    assert.deepEqual(of('resumed').length, 1);
    assert.deepEqual(asked, [1, ...of('connecting').map(({ attempt }) => attempt)]);
    assert.deepEqual(asked, [1, 2], 'the first connection was of no use');
  });
}

for (const [what, url, reason] of [
  ['throws', () => { throw new Error('no ticket'); }, /^no ticket$/],
  ['rejects', () => Promise.reject(new Error('no ticket')), /^no ticket$/],
  ['rejects with a text', () => Promise.reject('no ticket'), /^no ticket$/],
  ['names what is no URL', () => 'ftp://x/', /not the URL of a WebSocket/],
]) {
  test(`a function that ${what} is a failed attempt, which is told; the next one asks again`, async () => {
    let good = false;
    const { world, socket, tried, of, statuses, taken } = socketOf(() => (good ? '/live' : url()), { backoff: [0.1, 0.2, 0.2] });
    socket.send('kept');
    await advance(world, 50);
    const waiting = of('waiting')[0];
    assert.deepEqual([waiting.kind, waiting.until, waiting.attempt], ['unprepared', 'time', 2]);
    assert.match(waiting.reason, reason);
    assert.equal(socket.readyState, 0);
    assert.deepEqual(tried(), [], 'nothing was sent');
    good = true;
    await advance(world, 400);
    assert.equal(statuses.at(-1).status, 'new');
    for (const id of world.server.session.clients.keys()) while (world.server.take(id));
    assert.deepEqual(taken, ['kept']);
  });
}

test('without another attempt the end says why, and is no clean close', async () => {
  const { world, socket, of } = socketOf(() => Promise.reject(new Error('signed out')), { reconnect: false });
  const events = [];
  for (const type of ['error', 'close']) socket.addEventListener(type, ({ type, code, reason, wasClean }) => events.push([type, code, reason, wasClean].filter((is) => is !== undefined)));
  await advance(world, 10);
  assert.deepEqual(of('failed').map(({ code, kind, reason }) => [code, kind, reason]), [[1006, 'unprepared', 'signed out']]);
  assert.deepEqual(events, [['error'], ['close', 1006, 'signed out', false]]);
});

test('a function that does not answer is given up after `connectTimeout`; what it says then is not used', async () => {
  const answers = [];
  const { world, socket, tried, of } = socketOf(() => new Promise((resolve) => answers.push(resolve)), { connectTimeout: 1, backoff: [0.1, 0.1, 0.1] });
  await advance(world, 1200);
  assert.equal(of('waiting').length, 1);
  assert.equal(answers.length, 2, 'the next attempt has asked again');
  answers[0]('/late');
  await advance(world, 50);
  assert.deepEqual(tried(), []);
  answers[1]('/live');
  await advance(world, 50);
  assert.deepEqual([tried(), socket.readyState], [['ws://example.test/live'], 1]);
  assert.deepEqual(world.server.faults, []);
});

test('closed while the function works: nothing is opened', async () => {
  let answer;
  const { world, socket, tried } = socketOf(() => new Promise((resolve) => (answer = resolve)));
  socket.close();
  await advance(world, 10);
  answer('/live');
  await advance(world, 10);
  assert.deepEqual([socket.readyState, tried()], [3, []]);
});

test('failures of the function are none of a WebSocket: the server is not asked for', async () => {
  let knocks = 0;
  let good = true;
  const { world, socket, cut } = socketOf(() => (good ? '/live' : Promise.reject(new Error('no'))), {
    backoff: Array(99).fill(0.01),
    env: { fetch: () => (knocks++, Promise.reject(new TypeError('network'))) },
  });
  await advance(world, 100);
  good = false;
  await cut();
  assert.ok(socket.current.attempt > 4, `${socket.current.attempt}`);
  good = true;
  await advance(world, 100);
  assert.deepEqual([knocks, socket.readyState], [0, 1]);
});

test('what is kept for the next page is found under a name where a function makes the URL', async () => {
  let ticket = 0;
  const url = () => `/live?ticket=${ticket++}`;
  assert.throws(() => socketOf(url, { keepUnsent: true }), TypeError);
  const { world, page, socket } = socketOf(url, { keepUnsent: 'editor' });
  await advance(world, 50);
  world.up = false;
  socket.send('mine');
  const next = world.reload(page);
  assert.equal(next.storage().getItem('session-resume:ws://example.test/live?ticket=0'), null);
  const after = world.connect({ keepUnsent: 'editor' }, next, url);
  assert.deepEqual(after.kept, ['mine']);
});

/** A socket over HTTP, and the requests that were made. */
async function overHttp(options, url = '/live', transports = ['poll']) {
  const world = new World(3, { pipes: true });
  if (transports.includes('websocket')) world.webSockets = 'refused';
  const through = fetchOf(world, new HttpServer(world), {});
  const requests = [];
  const fetch = (url, init) => {
    requests.push({ url, ...init });
    return through(url, init);
  };
  const page = world.page();
  const socket = world.connect({ transports, ...options, env: { fetch, multiplexed: () => true, ...options.env } }, page, url);
  await advance(world, 300);
  return { world, page, socket, requests };
}

test('headers and credentials are those of every request over HTTP', async () => {
  for (const [headers, credentials] of [
    [{ Authorization: 'Bearer 1' }, 'omit'],
    [new Headers([['authorization', 'Bearer 1']]), () => 'omit'],
    [async () => [['authorization', 'Bearer 1']], async () => 'omit'],
  ]) {
    const { world, socket, requests } = await overHttp({ headers, credentials });
    assert.equal(socket.transport, 'poll');
    socket.send('x');
    await advance(world, 300);
    assert.deepEqual(new Set(requests.map(({ method }) => method)), new Set(['GET', 'POST']));
    for (const request of requests) assert.deepEqual([request.headers.authorization, request.credentials], ['Bearer 1', 'omit']);
  }
  const { requests } = await overHttp({});
  assert.ok(requests.every(({ credentials }) => credentials === 'include'));
});

test('no header of the application replaces one of ours, whatever its case', async () => {
  const { socket, requests } = await overHttp({ headers: { 'Content-Type': 'text/plain', 'SESSION-RESUME-PIPE': 'x', Accept: '*/*' } });
  assert.equal(socket.transport, 'poll');
  for (const { headers } of requests) {
    assert.notEqual(headers['session-resume-pipe'], 'x');
    // A post has none of ours.
    assert.ok(headers.accept !== '*/*' || headers['session-resume-up'], headers.accept);
    assert.equal(new Set(Object.keys(headers).map((name) => name.toLowerCase())).size, Object.keys(headers).length);
  }
});

test('a header that is none: told at once where it is a value, and a failed attempt where a function returns it', async () => {
  const world = new World(1);
  assert.throws(() => world.connect({ headers: { 'no name': '' } }), TypeError);
  const { world: other, of } = socketOf('/live', { headers: () => ({ 'no name': '' }) });
  await advance(other, 10);
  assert.equal(of('waiting')[0].kind, 'unprepared');
});

test('headers are made anew for the next attempt, not for the next request', async () => {
  let made = 0;
  const { world, socket, requests } = await overHttp({ headers: (attempt) => ({ attempt: `${attempt}`, made: `${++made}` }) });
  socket.send('x');
  await advance(world, 300);
  assert.deepEqual(new Set(requests.map(({ headers }) => headers.made)), new Set(['1']));
  socket.reconnect();
  await advance(world, 300);
  assert.deepEqual([requests.at(-1).headers.made, requests.at(-1).headers.attempt], ['2', '1']);
});

test('the question what a route is has the headers, too: without them it would be refused', async () => {
  const asked = [];
  const { world } = socketOf('/live', {
    headers: async () => ({ authorization: 'mine' }),
    env: {
      location: { origin: 'http://example.test', href: 'http://example.test/' },
      WebSocket: class {
        readyState = 3;
        constructor() {
          setImmediate(() => this.onclose({ code: 1006, reason: '' }));
        }
        close() {}
      },
      fetch: (url, { method, headers }) => {
        asked.push([url, method, headers.authorization]);
        return Promise.resolve({ status: 200, headers: new Headers({ 'sec-websocket-protocol': 'session-resume.v1' }), text: async () => '' });
      },
    },
  });
  await advance(world, 20);
  assert.deepEqual(asked, [['http://example.test/live', undefined, 'mine'], ['http://example.test/live', 'OPTIONS', 'mine']]);
});

test('a look for a WebSocket has a URL of its own; where there is none, it proves nothing', async () => {
  const asked = [];
  let fails = true;
  const { world, page, socket } = await overHttp({}, (attempt) => {
    asked.push(attempt);
    if (!attempt && fails) throw new Error('no ticket');
    return `/live?n=${asked.length}`;
  }, ['websocket', 'poll']);
  await advance(world, 200);
  assert.deepEqual([socket.transport, asked], ['poll', [1, 0]], 'it has come over HTTP, and looked at once');
  world.server.push('1');
  world.webSockets = 'pass';
  await advance(world, 20_000);
  assert.equal(asked.length, 2, 'not again and again');
  fails = false;
  await advance(world, 15_000);
  assert.deepEqual(asked.slice(2, 3), [0]);
  assert.equal(socket.transport, 'websocket');
  assert.deepEqual(page.links.slice(-2).map(({ url }) => url), ['ws://example.test/live?n=3', 'ws://example.test/live?n=4']);
});

test('another origin is another network path: what is remembered of the first is not used', async () => {
  let host = 'one.test';
  const kept = new Map([['session-resume', JSON.stringify({ 'http://one.test': { path: 'poll', until: 1e15 } })]]);
  const { world, socket } = await overHttp({ env: { memory: () => ({ getItem: (key) => kept.get(key), setItem() {} }) } }, () => `ws://${host}/live`, ['websocket', 'poll']);
  assert.equal(socket.transport, 'poll', 'at once');
  world.webSockets = 'pass';
  host = 'two.test';
  socket.reconnect();
  await advance(world, 300);
  assert.equal(socket.transport, 'websocket');
});
