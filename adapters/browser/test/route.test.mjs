// One transport that tries ways: what comes late from an old one, and what a page shares with the other tabs.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ways } from '../js/ways.js';

const HELLO = `\u0001${JSON.stringify({
  hello: {
    v: 1, session: 's', epoch: 'e', attachment: 1, status: 'new', from: 0, received: 0, gap: null, heartbeat_ms: 0, lifetime_ms: 0,
    window: { messages: 1, bytes: 1 },
  },
})}`;

const settle = async () => {
  for (let i = 0; i < 10; i++) await new Promise(setImmediate);
};

/** What a page has, with its timers and WebSockets to look at. */
function page(more = {}) {
  const timers = new Set();
  const sockets = [];
  class Socket {
    readyState = 0;
    constructor() {
      sockets.push(this);
    }
    close() {
      this.readyState = 2;
    }
  }
  const env = {
    WebSocket: Socket,
    clock: 1e6,
    now: () => env.clock,
    setTimeout: (run, ms) => {
      const timer = { run, ms };
      timers.add(timer);
      return timer;
    },
    clearTimeout: (timer) => timers.delete(timer),
    random: () => 0.5,
    fetch: () => new Promise(() => {}),
    memory: () => undefined,
    multiplexed: () => true,
    window: new EventTarget(),
    document: Object.assign(new EventTarget(), { hidden: false }),
    ...more,
  };
  const ways = (transports) => {
    const made = new Ways(env, transports, 10_000, { reconnect() {}, changed() {}, url: async () => new URL('ws://x/live') });
    made.listen(new AbortController().signal);
    return made;
  };
  return { env, timers, sockets, ways };
}

test('a close that comes late is not one of the transport that took its place', () => {
  const { env, sockets, ways: make } = page();
  const ways = make(['websocket', 'sse', 'poll']);
  for (let i = 0; i < 5; i++) {
    const route = ways.open(new URL('ws://x/live'), []);
    const [before, socket] = sockets.slice(-2).length === 2 ? sockets.slice(-2) : [null, sockets.at(-1)];
    socket.readyState = 1;
    socket.onmessage({ data: HELLO });
    before?.onclose?.({ code: 1006, reason: '' });
    assert.equal(ways.choice.way, 'websocket', `every WebSocket had its hello (${i})`);
    env.clock += 1000;
    route.close(1000, '');
  }
});

test('WebSockets that fall silent soon after their hello die when they were last heard: the third one is the last', () => {
  const { env, sockets, ways: make } = page();
  const ways = make(['websocket', 'sse', 'poll']);
  for (let i = 0; i < 3; i++) {
    assert.equal(ways.choice.way, 'websocket');
    const route = ways.open(new URL('ws://x/live'), []);
    sockets.at(-1).onmessage({ data: HELLO });
    // Long after, the machine finds it dead.
    env.clock += 75_000;
    route.close(1000, '', true);
  }
  assert.equal(ways.choice.way, 'sse');
  // Closed by the application, that says nothing of the way; nor does one that was heard for a minute.
  const others = make(['websocket', 'sse', 'poll']);
  for (let i = 0; i < 5; i++) {
    const route = others.open(new URL('ws://x/live'), []);
    sockets.at(-1).onmessage({ data: HELLO });
    env.clock += 60_000;
    if (i % 2) sockets.at(-1).onmessage({ data: 'message' });
    route.close(1000, '', i % 2 === 1);
    assert.equal(others.choice.way, 'websocket');
  }
});

test('news of the network does not end the doubt about a WebSocket that says nothing', () => {
  const { env, timers, ways: make } = page();
  const ways = make(['websocket', 'sse', 'poll']);
  ways.open(new URL('ws://x/live'), []);
  const before = [...timers];
  assert.equal(before.length, 1);
  env.window.dispatchEvent(new Event('online'));
  assert.deepEqual([...timers], before);
});

/** The locks of a page; each is there after a while. */
function locks(granted) {
  const held = new Set();
  const request = async (name, options, run) => {
    await new Promise(setImmediate);
    if (!granted || held.has(name)) return run(null);
    held.add(name);
    await run({});
    held.delete(name);
  };
  return { held, navigator: { locks: { request } }, location: { origin: 'http://x' }, multiplexed: () => false };
}

test('a lock that comes when the pipe has closed is given back', async () => {
  const tabs = locks(true);
  const { ways: make } = page(tabs);
  const route = make(['poll']).open(new URL('ws://x/live'), []);
  await Promise.resolve();
  route.close(1000, '');
  await settle();
  assert.ok(route.readyState > 1);
  assert.equal(tabs.held.size, 0);
});

test('a page without a lock asks for one by one timer, whatever else asks', async () => {
  const { env, timers, ways: make } = page(locks(false));
  make(['poll']).open(new URL('ws://x/live'), []);
  await settle();
  const asking = () => [...timers].filter(({ ms }) => ms === 2000).length;
  assert.equal(asking(), 1);
  for (let i = 0; i < 5; i++) {
    env.document.dispatchEvent(new Event('visibilitychange'));
    await settle();
  }
  assert.equal(asking(), 1);
});
