// A socket that is whole or closed, for libraries that know nothing of sessions.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StrictSocket } from '../js/strict.js';
import { World } from './support/world.mjs';

/** A socket that is open, and all that a library would see of it. */
function begin(options = {}, settings = {}) {
  const taken = [];
  const world = new World(3, { onMessage: (data, _, { id }) => taken.push(`${id}:${data}`), ...settings });
  const page = world.page();
  const socket = new StrictSocket('/live', { transports: ['websocket'], backoff: Array(99).fill(0.1), ...options, env: world.env(page) });
  const seen = [];
  socket.onopen = () => seen.push('open');
  socket.onmessage = ({ data }) => seen.push(data);
  socket.onerror = () => seen.push('error');
  socket.onclose = ({ code, reason, wasClean }) => seen.push([code, reason, wasClean]);
  const go = (ms = 1000) => {
    for (const end = world.now + ms; world.now < end; ) {
      world.advance(50);
      for (const [id, { conn }] of world.server.session?.clients ?? []) {
        while (world.server.take(id));
        conn?.ack();
      }
    }
  };
  /** The network goes, and is back. */
  const drop = (meanwhile) => {
    world.up = false;
    page.links.at(-1).cut();
    world.advance(50);
    meanwhile?.();
    world.up = true;
    go();
  };
  go();
  return { world, page, socket, seen, taken, go, drop };
}

/** What the socket has written to the session of this link, without control frames. */
const written = (link) => link.sent.filter((data) => !data.startsWith('\u0001'));

test('while the session is whole, it is a socket like any other of ours', () => {
  const { world, socket, seen, taken, drop } = begin();
  world.server.push('1');
  drop(() => {
    world.server.push('2');
    socket.send('a');
  });
  // With its store, which has kept all.
  drop(() => world.server.rebuild());
  world.server.push('3');
  socket.send('b');
  drop();
  assert.deepEqual([seen, taken], [['open', '1', '2', '3'], ['s1:a', 's1:b']]);
  assert.equal(socket.readyState, 1);
  assert.deepEqual(world.server.faults, []);
});

for (const [what, meanwhile, reason, known] of [
  ['the session has expired', ({ server }) => server.expire(), 'expired', false],
  ['the session has forgotten this page', ({ server }) => server.evict([...server.session.clients.keys()][0]), 'another session', false],
  ['the server has come back without what it had sent', ({ server }) => server.restart(), 'gap', true],
  ['messages have left the outbox', ({ server }) => (server.push('2'), server.push('3'), server.dropOldest(2)), 'gap', true],
]) {
  test(`it breaks where ${what}: nothing comes behind that`, () => {
    const { world, page, socket, seen, taken, drop, go } = begin();
    world.server.push('1');
    go();
    drop(() => {
      meanwhile(world);
      socket.send('queued');
      if (world.server.session) world.server.push('behind the gap');
    });
    assert.deepEqual(seen, ['open', '1', [4000, reason, false]]);
    // As what is sent on a connection just before it breaks.
    assert.deepEqual([taken, written(page.links.at(-1))], known ? [['s1:queued'], ['queued']] : [[], []]);
    assert.equal(socket.readyState, 3);
    const { length } = page.links;
    page.window.dispatchEvent(new Event('online'));
    go(60_000);
    assert.deepEqual([page.links.length, socket.bufferedAmount], [length, 0], 'it is over');
  });
}

test('it breaks where messages of its own have lost their effect', () => {
  const { world, socket, seen, taken, drop, go } = begin();
  socket.send('a');
  go();
  const [client] = world.server.session.clients.values();
  drop(() => {
    world.server.rebuild();
    client.received = client.taken = 0;
  });
  assert.deepEqual([seen, taken], [['open', [4000, 'takenback', false]], ['s1:a']]);
});

test('it breaks in the middle of a connection, too, and says nothing twice', () => {
  const { world, page, seen, go } = begin();
  const { conn } = page.links[0];
  conn.slow = true;
  for (const data of ['1', '2', '3']) world.server.push(data);
  world.server.dropOldest(2);
  conn.slow = false;
  conn.pump();
  world.server.push('4');
  go();
  assert.deepEqual(seen, ['open', [4000, 'gap', false]]);
  assert.deepEqual(page.links[0].closedWith, [4000, 'gap']);
});

test('what was written before a session was lost is not sent again, nor what was not', () => {
  const { world, page, socket, seen, taken, drop } = begin();
  socket.send('in doubt');
  drop(() => {
    world.server.expire();
    socket.send('queued');
  });
  assert.deepEqual(seen, ['open', [4000, 'expired', false]]);
  assert.deepEqual([taken, written(page.links[1])], [[], []]);
});

test('a full buffer, or a message that is too long, breaks it as a WebSocket; a bad argument does not', () => {
  for (const [options, send, reason] of [
    [{ maxBufferedMessages: 2 }, (socket) => ['a', 'b', 'c'].forEach((data) => socket.send(data)), /^2 messages wait/],
    [{}, (socket) => socket.send('x'.repeat(101)), /101 bytes, and the server takes 100/],
  ]) {
    const { socket, seen, go } = begin(options, { limit: 100 });
    assert.throws(() => socket.send(), TypeError);
    assert.throws(() => socket.send(Symbol('no text')), TypeError);
    assert.equal(socket.readyState, 1);
    send(socket);
    assert.equal(socket.readyState, 2);
    go();
    assert.match(seen[1][1], reason);
    assert.deepEqual([seen.length, seen[1][0], seen[1][2]], [2, 4000, false]);
  }
  // Queued before the limit is known.
  const world = new World(4, { limit: 100 });
  const socket = new StrictSocket('/live', { transports: ['websocket'], env: world.env(world.page()) });
  socket.send('x'.repeat(101));
  socket.send('after it');
  let closed;
  socket.onclose = ({ code, reason }) => (closed = [code, reason]);
  world.advance(5000);
  assert.deepEqual(closed, [4000, 'lost']);
  for (const id of world.server.session.clients.keys()) assert.equal(world.server.take(id), false);
});

test('what is sent after close goes nowhere, and throws nothing', () => {
  const { socket, seen, taken, go } = begin();
  socket.send('a');
  socket.close(3001, 'enough');
  socket.send('b');
  assert.throws(() => socket.send(), TypeError);
  go(5000);
  socket.send('c');
  assert.deepEqual([seen, taken], [['open', [3001, 'enough', true]], ['s1:a']]);
});

test('the end of a session is what the server says', () => {
  const { world, seen, go } = begin();
  world.server.finish('done', 4403, 'Forbidden');
  go();
  assert.deepEqual(seen, ['open', [4403, 'Forbidden', true]]);
});

test('arguments are those of a WebSocket, or ours', () => {
  assert.throws(() => new StrictSocket(), TypeError);
  const { world } = begin();
  const page = world.page();
  globalThis.WebSocket = world.env(page).WebSocket;
  try {
    for (const protocols of ['chat', ['chat']]) {
      const socket = new StrictSocket('ws://example.test/live', protocols);
      assert.ok(page.links.at(-1).protocols.includes('chat'));
      socket.close();
    }
  } finally {
    delete globalThis.WebSocket;
  }
});
