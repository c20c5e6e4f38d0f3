// The WebSocket interface: what code that takes a WebSocket relies on.

import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { ResumableSocket } from './support/subject.mjs';
import { World } from './support/world.mjs';

const control = (object) => '\u0001' + JSON.stringify(object);

/** A world with one open socket; `taken` is what the server's handler got. */
function open(options = {}, settings = {}) {
  const taken = [];
  const world = new World(1, { onMessage: (data) => taken.push(data), ...settings });
  const page = world.page();
  const socket = world.connect(options, page);
  const events = [];
  for (const type of ['open', 'message', 'close', 'error', 'status']) {
    socket.addEventListener(type, (event) => events.push(type === 'status' ? event.status : type));
  }
  world.advance(100);
  return { world, page, socket, events, taken, link: [...world.links][0] };
}

const takeAll = (world) => {
  for (const id of world.server.session.clients.keys()) while (world.server.take(id));
  world.server.session.eachConn((conn) => conn.ack());
  world.advance(50);
};

test('constants, url and handlers are a WebSocket’s', () => {
  const { socket, world } = open();
  assert.deepEqual([ResumableSocket.CONNECTING, ResumableSocket.OPEN, socket.CLOSING, socket.CLOSED], [0, 1, 2, 3]);
  assert.equal(socket.url, 'ws://example.test/live');
  assert.equal(socket.protocol, '', 'the application has offered none');
  assert.equal(socket.binaryType, 'blob');
  const got = [];
  socket.onmessage = function ({ data }) {
    got.push([this === socket, data]);
  };
  assert.equal(typeof socket.onmessage, 'function');
  world.server.push('a');
  world.advance(50);
  socket.onmessage = null;
  world.server.push('b');
  world.advance(50);
  assert.deepEqual(got, [[true, 'a']]);
  assert.equal(socket.onmessage, null);
});

test('urls that are none of a WebSocket throw, others are resolved', () => {
  const world = new World(1);
  const { env } = { env: { ...world.page(), WebSocket: class { close() {} }, setTimeout() {}, clearTimeout() {} } };
  assert.throws(() => new ResumableSocket('ftp://x/', { env }), { name: 'SyntaxError' });
  assert.throws(() => new ResumableSocket('/x#part', { env }), { name: 'SyntaxError' });
  assert.equal(new ResumableSocket('https://x.test/a?b', { env }).url, 'wss://x.test/a?b');
  assert.equal(new ResumableSocket(new URL('ws://x.test/'), { env }).url, 'ws://x.test/');
});

test('the application’s own subprotocols follow ours, in either form', () => {
  const world = new World(1);
  const offers = [];
  const env = {
    WebSocket: class {
      constructor(_, protocols) {
        offers.push(protocols.slice(2));
      }
    },
    setTimeout() {},
  };
  new ResumableSocket('ws://x/', { protocols: ['a', 'b'], env });
  class Mine extends ResumableSocket {
    constructor(url, protocols) {
      super(url, { protocols, env });
    }
  }
  new Mine('ws://x/', 'chat');
  new Mine('ws://x/');
  assert.deepEqual(offers, [['a', 'b'], ['chat'], []]);
});

test('readyState is the session’s: OPEN through a drop', () => {
  const { world, socket, events, link } = open();
  assert.equal(socket.readyState, 1);
  assert.deepEqual(events, ['open', 'open', 'new'], 'the event, then the statuses');
  world.up = false;
  link.cut();
  world.advance(300);
  assert.equal(socket.readyState, 1);
  world.up = true;
  world.advance(60_000);
  assert.ok(events.includes('resumed'));
  assert.deepEqual(events.filter((type) => ['close', 'error'].includes(type)), []);
  socket.close();
  assert.equal(socket.readyState, 2);
  world.advance(100);
  assert.equal(socket.readyState, 3);
  assert.equal(events.at(-1), 'close');
});

test('send before the first hello and during an outage arrives once, in order', () => {
  const { world, socket, taken, link } = open();
  socket.send('1');
  world.up = false;
  link.cut({ client: 5 });
  socket.send('2');
  world.advance(1000);
  socket.send('3');
  world.up = true;
  world.advance(60_000);
  takeAll(world);
  assert.deepEqual(taken, ['1', '2', '3']);
  assert.equal(socket.bufferedAmount, 0);
});

test('binary messages are copied, also views, and sent as they were', () => {
  const { world, socket, taken } = open();
  const bytes = new Uint8Array([1, 2, 3, 4]);
  socket.send(bytes.subarray(1, 3));
  socket.send(bytes.buffer);
  socket.send(new DataView(bytes.buffer, 3));
  bytes.fill(9);
  world.advance(50);
  takeAll(world);
  assert.deepEqual(taken.map((data) => [...new Uint8Array(data)]), [[2, 3], [1, 2, 3, 4], [4]]);
});

test('a full buffer throws and keeps what it has', () => {
  const { world, socket, taken } = open({ maxBufferedMessages: 3, maxBufferedBytes: 10 });
  socket.send('x'.repeat(50));
  assert.throws(() => socket.send('y'), { name: 'QuotaExceededError' });
  assert.equal(socket.bufferedAmount, 50);
  world.advance(50);
  takeAll(world);
  for (const data of ['a', 'b', 'c']) socket.send(data);
  assert.throws(() => socket.send('d'), { name: 'QuotaExceededError' });
  world.advance(50);
  takeAll(world);
  assert.deepEqual(taken.slice(1), ['a', 'b', 'c']);
});

test('after close, send throws and close does nothing', () => {
  const { world, socket } = open();
  assert.throws(() => socket.close(1001), { name: 'InvalidAccessError' });
  assert.throws(() => socket.close(1000, 'x'.repeat(124)), { name: 'SyntaxError' });
  socket.close();
  assert.throws(() => socket.send('late'), { name: 'InvalidStateError' });
  world.advance(100);
  assert.throws(() => socket.send('late'), { name: 'InvalidStateError' });
  socket.close();
});

test('what a listener sends goes after what was before it', () => {
  const { world, socket, taken } = open({}, { window: { messages: 100, bytes: 1000 } });
  world.up = false;
  [...world.links][0].cut();
  world.advance(100);
  socket.send('1');
  socket.send('2');
  socket.addEventListener('status', ({ status }) => status === 'resumed' && socket.send('3'));
  world.up = true;
  world.advance(60_000);
  takeAll(world);
  assert.deepEqual(taken, ['1', '2', '3']);
});

test('an ack goes out when the listener is through, whatever it calls', () => {
  const { world, socket, link } = open({}, { window: { messages: 2, bytes: 100 } });
  const before = link.sent.length;
  socket.onmessage = () => {
    socket.send('answer');
    assert.deepEqual(link.sent.slice(before), []);
  };
  world.server.push('question');
  world.advance(50);
  assert.deepEqual(link.sent.slice(before), [control({ ack: 1 }), 'answer']);
});

test('a listener that reconnects in the middle of a message doubles nothing', () => {
  const { world, socket } = open();
  const got = [];
  socket.addEventListener('message', ({ data }) => {
    got.push(data);
    if (got.length === 2) socket.reconnect();
  });
  for (const data of ['a', 'b', 'c']) world.server.push(data);
  world.advance(1000);
  assert.deepEqual(got, ['a', 'b', 'c']);
  assert.deepEqual(world.server.faults, []);
});

test('superseded: error-free close, and reconnect brings the session back', () => {
  const { world, socket, events } = open({}, {});
  const other = world.connect();
  world.advance(100);
  assert.deepEqual([socket.readyState, events.slice(-2)], [3, ['superseded', 'close']]);
  assert.equal(socket.current.status, 'superseded');
  socket.reconnect();
  assert.equal(socket.readyState, 0);
  world.advance(100);
  assert.deepEqual([socket.readyState, other.readyState], [1, 3]);
  assert.deepEqual(events.slice(-3), ['open', 'open', 'resumed']);
});

test('a page that was superseded and is left keeps what is not acknowledged, and asks before, until it is back', () => {
  const asks = (page) => !page.window.dispatchEvent(new Event('beforeunload', { cancelable: true }));
  const options = { keepUnsent: true, confirmLeave: true };
  const { world, page, socket, taken } = open(options);
  socket.send('written');
  const other = world.connect();
  world.advance(100);
  assert.equal(socket.current.status, 'superseded');
  assert.equal(socket.bufferedAmount, 7, 'reconnect() would send it');
  assert.equal(asks(page), true);
  const again = world.connect(options, world.reload(page));
  assert.deepEqual(again.kept, ['written']);
  world.advance(500);
  takeAll(world);
  assert.deepEqual([taken, again.bufferedAmount, other.current.status], [['written'], 0, 'superseded']);
  assert.deepEqual(world.server.faults, []);
  // With nothing left it has no listeners: whatever the page tells, it asks nobody.
  assert.equal(asks(page), true, 'the page before, which nobody has brought back');
  const done = open(options);
  done.world.server.finish('done');
  done.world.advance(100);
  assert.deepEqual([done.socket.readyState, asks(done.page)], [3, false]);
});

test('reconnect in the very event that tells the end: the page is listened to, once', () => {
  const { world, page, socket } = open();
  socket.addEventListener('status', ({ status }) => status === 'superseded' && socket.reconnect());
  world.connect();
  world.advance(200);
  assert.equal(socket.current.status, 'open');
  assert.equal(getEventListeners(page.window, 'offline').length, 1);
  socket.close();
  world.advance(100);
  assert.deepEqual([socket.readyState, getEventListeners(page.window, 'offline').length], [3, 0]);
});

test('in share both pages stay and get everything', () => {
  const { world, socket } = open({}, { attach: 'share' });
  const other = world.connect();
  const got = [];
  for (const page of [socket, other]) page.addEventListener('message', ({ data }) => got.push(data));
  world.advance(100);
  world.server.push('x');
  world.advance(100);
  assert.deepEqual(got, ['x', 'x']);
});

test('page events reach the machine, and stop with the socket', () => {
  const { world, page, socket, events } = open();
  const fire = (target, type, more) => target.dispatchEvent(Object.assign(new Event(type), more));
  fire(page.window, 'offline');
  assert.equal(events.at(-1), 'offline');
  fire(page.window, 'online');
  assert.equal(events.at(-1), 'connecting');
  world.advance(100);
  page.document.hidden = true;
  fire(page.document, 'visibilitychange');
  [...world.links][0].cut();
  world.advance(60_000);
  assert.equal(socket.current.until, 'visible');
  page.document.hidden = false;
  fire(page.document, 'visibilitychange');
  assert.equal(socket.current.status, 'connecting');
  world.advance(100);
  fire(page.window, 'pagehide', { persisted: false });
  assert.equal(world.links.size, 1);
  fire(page.window, 'pagehide', { persisted: true });
  world.advance(100);
  assert.equal(world.links.size, 0);
  fire(page.window, 'pageshow', { persisted: true });
  world.advance(100);
  assert.equal(socket.current.status, 'open');
  fire(page.document, 'resume');
  assert.equal(socket.current.status, 'open');
  socket.close();
  world.advance(100);
  const count = events.length;
  fire(page.window, 'offline');
  assert.equal(events.length, count);
});

test('an ended socket leaves no listeners and no timers behind', () => {
  const world = new World(1);
  const page = world.page();
  const signals = [];
  for (const target of [page.window, page.document]) target.addEventListener = (_type, _run, { signal }) => signals.push(signal);
  const socket = world.connect({}, page);
  world.advance(100);
  assert.ok(signals.length > 4 && signals.every(({ aborted }) => !aborted));
  socket.close();
  world.advance(100);
  assert.ok(signals.every(({ aborted }) => aborted));
  const timers = [];
  world.at = (delay) => timers.push(delay);
  world.advance(100_000);
  assert.deepEqual(timers, []);
});

test('a timer that is set again does not fire twice', () => {
  const { world, link } = open();
  for (let i = 0; i < 64; i++) world.server.push(String(i));
  world.advance(1000);
  assert.deepEqual(link.sent, [control({ ack: 0 }), control({ ack: 64 })]);
});

test('a 20 s outage: back within the backoff’s cap, nothing lost', () => {
  const { world, page, socket, taken } = open({}, { heartbeat: 5000 });
  page.navigator.onLine = false;
  page.window.dispatchEvent(new Event('offline'));
  [...world.links][0].cut({ client: null, server: null });
  world.up = false;
  socket.send('typed');
  world.advance(20_000);
  world.up = true;
  page.navigator.onLine = true;
  page.window.dispatchEvent(new Event('online'));
  world.advance(1000);
  assert.equal(socket.current.status, 'open');
  takeAll(world);
  assert.deepEqual(taken, ['typed']);
});

test('an attempt of which an error event alone tells has failed', () => {
  // As WebKitGTK tells of what it refuses by itself: the state is CLOSED only after the event.
  const world = new World(1);
  class Refused {
    readyState = 0;
    constructor() {
      world.at(0, () => {
        this.onerror({});
        this.readyState = 3;
      });
    }
  }
  const events = [];
  const socket = world.connect({ reconnect: false, env: { WebSocket: Refused } });
  for (const type of ['error', 'close']) socket.addEventListener(type, ({ code }) => events.push([type, code]));
  world.advance(1);
  assert.deepEqual([socket.readyState, events], [3, [['error', undefined], ['close', 1006]]]);
});

test('an error event before the close event takes nothing from it', () => {
  const { world, socket, link } = open({ reconnect: false });
  const codes = [];
  socket.addEventListener('close', ({ code }) => codes.push(code));
  link.onerror({});
  world.advance(100);
  assert.equal(socket.readyState, 1);
  link.onerror({});
  link.readyState = 3;
  link.onclose({ code: 4100, reason: '' });
  world.advance(100);
  assert.deepEqual(codes, [4100]);
});

test('a constructor that throws leaves no listener behind', () => {
  const world = new World(1);
  const page = world.page();
  const env = {
    ...page,
    WebSocket: class {
      constructor() {
        throw new DOMException('duplicate', 'SyntaxError');
      }
    },
  };
  let listeners = 0;
  page.window.addEventListener = () => listeners++;
  assert.throws(() => new ResumableSocket('/live', { env }), { name: 'SyntaxError' });
  assert.equal(listeners, 0);
});

test('a client id is of the right form and new each time', () => {
  const ids = new Set();
  const env = {
    WebSocket: class {
      constructor(_, [, at]) {
        ids.add(at);
      }
    },
    setTimeout() {},
  };
  for (let i = 0; i < 3; i++) new ResumableSocket('ws://x/', { env });
  assert.equal(ids.size, 3);
  for (const at of ids) assert.match(at, /^at\.[\w-]{16,32}$/);
});

test('done is the end, with what was never taken', () => {
  const { world, socket, events, link } = open();
  const told = [];
  socket.addEventListener('status', (event) => event.status === 'done' && told.push(event.outcome, event.messages));
  socket.send('never taken');
  world.advance(50);
  world.server.finish('failed');
  world.advance(50);
  assert.deepEqual(told, ['failed', ['never taken']]);
  assert.deepEqual([socket.readyState, events.at(-1)], [3, 'close']);
  assert.deepEqual(world.server.faults, []);
  assert.equal(link.sent[0], control({ ack: 0 }));
});

test('after three failures a request without credentials asks first: OPTIONS, of another origin HEAD', async () => {
  for (const [origin, expected] of [
    ['http://example.test', { method: 'OPTIONS', mode: undefined }],
    ['http://other.test', { method: 'HEAD', mode: 'no-cors' }],
    ['null', { method: 'HEAD', mode: 'no-cors' }],
    [undefined, { method: 'OPTIONS', mode: undefined }],
  ]) {
    const world = new World(1);
    const asked = [];
    let links = 0;
    world.onLink = () => links++;
    world.up = false;
    const fetch = (url, { method = 'GET', mode, credentials, cache }) => {
      // The first attempt of all asks what the route is, if it may.
      if (method !== 'GET') asked.push({ url, method, mode, credentials, cache });
      return world.up ? Promise.resolve({ status: 426, headers: new Headers() }) : Promise.reject(new TypeError());
    };
    const location = origin && { origin, href: `${origin}/` };
    const socket = world.connect({ env: { fetch, location } });
    const run = async (ms) => {
      for (let i = 0; i < ms; i += 50) {
        world.advance(50);
        // The answers are promises.
        await new Promise(setImmediate);
      }
    };
    await run(5000);
    assert.equal(links, 3, 'nothing knocks at a WebSocket any more');
    assert.deepEqual(asked[0], { url: 'http://example.test/live', credentials: 'omit', cache: 'no-store', ...expected });
    world.up = true;
    await run(20_000);
    assert.equal(socket.current.status, 'open');
    assert.equal(links, 4);
    socket.close();
  }
});

test('keepUnsent: what was not acknowledged goes on in the page that is loaded anew, once, and the page is told', () => {
  const taken = [];
  const world = new World(1, { onMessage: (data) => taken.push(data) });
  const page = world.page();
  const options = { keepUnsent: true };
  const socket = world.connect(options, page);
  world.advance(100);
  socket.send('taken');
  world.advance(50);
  takeAll(world);
  socket.send('accepted');
  world.advance(50);
  world.up = false;
  [...world.links][0].cut({ client: null });
  socket.send('written into the dark');
  socket.send(new Uint8Array([0, 255]));
  const next = world.reload(page);
  assert.equal([...next.storage().getItem('session-resume:ws://example.test/live')].length > 0, true);
  world.up = true;
  const again = world.connect(options, next);
  assert.deepEqual(again.kept.map((data) => (typeof data === 'string' ? data : [...new Uint8Array(data)])), ['accepted', 'written into the dark', [0, 255]]);
  assert.equal(next.storage().getItem('session-resume:ws://example.test/live'), null, 'a tab that is duplicated finds nothing');
  again.send('new');
  const statuses = [];
  again.addEventListener('status', ({ status }) => statuses.push(status));
  world.advance(1000);
  takeAll(world);
  assert.deepEqual(taken.map((data) => (typeof data === 'string' ? data : [...new Uint8Array(data)])), ['taken', 'accepted', 'written into the dark', [0, 255], 'new']);
  assert.deepEqual(statuses, ['connecting', 'open', 'reused'], 'as on any page that is loaded anew');
  assert.equal(again.bufferedAmount, 0);
  assert.deepEqual(world.server.faults, []);
  // Nothing left, nothing kept; and a page that comes back from the cache has kept it itself.
  again.send('cached');
  next.window.dispatchEvent(Object.assign(new Event('pagehide'), { persisted: true }));
  assert.equal(next.storage().getItem('session-resume:ws://example.test/live'), null);
});

test('keepUnsent: a session that is gone, or a copy that was quicker, puts in doubt what was written', () => {
  const taken = [];
  const world = new World(3, { onMessage: (data) => taken.push(data) });
  const page = world.page();
  const options = { keepUnsent: true };
  const socket = world.connect(options, page);
  world.advance(100);
  socket.send('written');
  world.advance(50);
  world.up = false;
  [...world.links][0].cut();
  world.advance(50);
  socket.send('never written');
  const next = world.reload(page);
  const copy = { ...world.page(), storage: () => ({ getItem: () => text, removeItem() {}, setItem() {} }) };
  const text = next.storage().getItem('session-resume:ws://example.test/live');
  world.up = true;
  // Both have found the same.
  const one = world.connect(options, next);
  world.advance(1000);
  takeAll(world);
  const two = world.connect(options, copy);
  const lost = [];
  two.addEventListener('status', ({ status, messages }) => status === 'lost' && lost.push(...messages));
  world.advance(1000);
  takeAll(world);
  assert.deepEqual(taken, ['written', 'never written']);
  assert.deepEqual(lost, ['written', 'never written'], 'not sent again, and told');
  one.close();
  two.close();

  const third = world.page();
  const before = world.connect(options, third);
  world.advance(1000);
  before.send('a');
  world.advance(50);
  world.up = false;
  for (const link of world.links) link.cut();
  world.advance(50);
  before.send('b');
  const fourth = world.reload(third);
  world.server.expire();
  world.up = true;
  taken.length = lost.length = 0;
  const after = world.connect(options, fourth);
  after.addEventListener('status', ({ status, messages }) => status === 'lost' && lost.push(...messages));
  world.advance(1000);
  takeAll(world);
  assert.deepEqual([taken, lost], [['b'], ['a']], 'what was never written goes to the session that is there');
  assert.deepEqual(world.server.faults, []);
});

test('keepUnsent: no room, no storage, a Blob', () => {
  const world = new World(1);
  for (const [room, expected] of [[10_000, 8], [700, 2], [0, 0]]) {
    const page = world.page();
    const { setItem } = page.storage();
    const storage = page.storage();
    page.storage = () => ({
      ...storage,
      setItem(key, text) {
        if (text.length > room) throw new DOMException('full', 'QuotaExceededError');
        setItem(key, text);
      },
    });
    world.up = false;
    const socket = world.connect({ keepUnsent: true }, page);
    for (let i = 0; i < 8; i++) socket.send('x'.repeat(200));
    const next = world.reload(page);
    assert.equal(world.connect({ keepUnsent: true }, next).kept.length, expected, `${room}`);
  }
  const forbidden = { ...world.page(), storage: () => { throw new DOMException('no', 'SecurityError'); } };
  const socket = world.connect({ keepUnsent: true }, forbidden);
  assert.throws(() => socket.send(new Blob(['x'])), TypeError);
  socket.send('x');
  world.reload(forbidden);
  const broken = { ...world.page(), storage: () => ({ getItem: () => '{', removeItem() {} }) };
  assert.deepEqual(world.connect({ keepUnsent: true }, broken).kept, []);
  assert.deepEqual(world.connect({}, world.page()).kept, []);
});

test('confirmLeave asks while something is not acknowledged, and only if it is wanted', () => {
  const leave = (page) => {
    const event = new Event('beforeunload', { cancelable: true });
    page.window.dispatchEvent(event);
    return event.defaultPrevented;
  };
  const { world, page, socket } = open({ confirmLeave: true });
  assert.equal(leave(page), false);
  socket.send('x');
  assert.equal(leave(page), true);
  world.advance(50);
  takeAll(world);
  assert.equal(leave(page), false);
  const other = open();
  other.socket.send('x');
  assert.equal(leave(other.page), false);
});

test('a copy of the state is offered at the next connection, and an impossible one throws', () => {
  const { world, socket } = open();
  socket.offerState({ iteration: 3, updated: 5, value: ['a'] });
  assert.equal(world.server.session.state.iteration, 0, 'not on this connection');
  assert.throws(() => socket.offerState({ iteration: 0.5, value: 1 }), TypeError);
  world.server.session.eachConn((conn) => conn.close(1006, ''));
  world.advance(20_000);
  assert.deepEqual(world.server.session.state, { iteration: 3, updated: 5, value: ['a'] });
  assert.equal(socket.current.status, 'open');
  assert.deepEqual(world.server.faults, []);
  socket.offerState({ iteration: 9, value: 'x'.repeat(2 << 20) });
  world.server.session.eachConn((conn) => conn.close(1006, ''));
  const told = [];
  socket.onstatus = ({ status }) => told.push(status);
  world.advance(20_000);
  assert.ok(told.includes('unoffered'));
  assert.equal(socket.current.status, 'open', 'that is a moment');
  assert.equal(world.server.session.state.iteration, 3);
});
