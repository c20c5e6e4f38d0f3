// What the application has to say before its queue goes to another session.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ResumableSocket } from './support/subject.mjs';
import { World } from './support/world.mjs';

/** A socket that has been told nothing yet, and what its server takes. */
function begin(options = {}, settings = {}) {
  const taken = [];
  const world = new World(7, { onMessage: (data, _, { id }) => taken.push(`${id}:${data}`), ...settings });
  const page = world.page();
  const socket = world.connect({ backoff: Array(99).fill(0.1), ...options }, page);
  const events = [];
  for (const type of ['open', 'status', 'session']) {
    if (type !== 'session' || !options.deaf) socket.addEventListener(type, (event) => events.push(event.status ?? event.type));
  }
  const go = () => {
    for (let i = 0; i < 10; i++) {
      world.advance(100);
      for (const id of world.server.session?.clients.keys() ?? []) while (world.server.take(id));
    }
  };
  /** A message is written and not acknowledged, two are not written, and the session is gone. */
  const lose = () => {
    go();
    socket.send('doubt');
    world.advance(50);
    world.up = false;
    world.server.expire();
    world.advance(50);
    socket.send('one');
    socket.send('two');
    taken.length = events.length = 0;
    world.up = true;
  };
  const written = () => page.links.at(-1).sent.filter((data) => !data.startsWith('\u0001'));
  return { world, page, socket, events, taken, go, lose, written };
}

test('the order: what has become of the session, the event, the queue', () => {
  const { socket, events, go, lose, taken, written } = begin();
  lose();
  socket.onsession = function (event) {
    assert.equal(this, socket);
    assert.equal(event.type, 'session');
    assert.deepEqual([event.queued, event.inDoubt], [['one', 'two'], ['doubt']]);
    assert.deepEqual([socket.queued, socket.inDoubt, socket.session], [['one', 'two'], ['doubt'], 's2']);
    assert.deepEqual(written(), [], 'nothing is written yet');
    socket.send('three');
    assert.deepEqual(written(), []);
  };
  go();
  assert.deepEqual(events.slice(-5), ['open', 'new', 'expired', 'lost', 'session']);
  assert.deepEqual(taken, ['s2:one', 's2:two', 's2:three']);
  assert.deepEqual([socket.queued, socket.inDoubt], [[], []], 'it is over');
});

test('the first session is one, too, and a drop makes none', () => {
  const { world, socket, events, go } = begin();
  socket.send('early');
  go();
  assert.deepEqual(events, ['open', 'open', 'new', 'session']);
  [...world.links][0].cut({ client: 1, server: 1 });
  go();
  assert.equal(events.at(-1), 'resumed');
  assert.equal(events.filter((type) => type === 'session').length, 1);
});

test('what is queued can be dropped, and what is in doubt sent again', () => {
  const { socket, go, lose, taken } = begin();
  lose();
  socket.onsession = () => (socket.queued = [...socket.inDoubt, ...socket.queued.filter((data) => data !== 'one')]);
  go();
  assert.deepEqual(taken, ['s2:doubt', 's2:two']);
  assert.equal(socket.readyState, 1);
});

test('what is in doubt can be dropped: the next listener does not see it', () => {
  const { socket, go, lose, taken } = begin();
  lose();
  const seen = [];
  socket.addEventListener('session', () => (socket.inDoubt = []), { once: true });
  socket.addEventListener('session', () => seen.push(socket.inDoubt), { once: true });
  go();
  assert.deepEqual([seen, taken], [[[]], ['s2:one', 's2:two']]);
});

test('the queue can be dropped at any time, not what was written', () => {
  const { world, socket, go, taken } = begin();
  go();
  world.up = false;
  [...world.links][0].cut({ client: 50, server: 50 });
  socket.send('written');
  world.advance(200);
  socket.send('queued');
  assert.deepEqual(socket.queued, ['queued']);
  socket.queued = [];
  assert.equal(socket.bufferedAmount, 7);
  world.up = true;
  go();
  assert.deepEqual(taken, ['s1:written']);
});

for (const [what, initial] of [['one message', () => 'hi'], ['several', () => ['hi', 'there']], ['none', () => {}]]) {
  test(`initial: ${what} before the queue, in each session and without a listener`, () => {
    const first = [initial() ?? []].flat();
    const { world, go, lose, taken } = begin({ initial, deaf: true });
    lose();
    go();
    assert.deepEqual(taken, [...first, 'one', 'two'].map((data) => `s2:${data}`));
    taken.length = 0;
    [...world.links][0].cut({ client: 1, server: 1 });
    go();
    assert.deepEqual(taken, [], 'a drop is no session');
  });
}

test('initial is asked behind the listeners, and goes out though the buffer is full', () => {
  const order = [];
  const { socket, go, taken } = begin({ maxBufferedMessages: 2, initial: () => (order.push('initial', ...socket.queued), 'hi') });
  socket.addEventListener('session', () => order.push('session'));
  socket.send('one');
  socket.send('two');
  assert.throws(() => socket.send('three'), { name: 'QuotaExceededError' });
  go();
  assert.deepEqual(order, ['session', 'initial', 'one', 'two']);
  assert.deepEqual(taken, ['s1:hi', 's1:one', 's1:two']);
});

test('what a listener or initial throws is reported, and the queue goes on', async () => {
  const uncaught = [];
  const note = (error) => uncaught.push(error.message);
  const others = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', note);
  try {
    const { socket, go, lose, taken } = begin({ initial: () => { throw new Error('initial'); } });
    lose();
    socket.onsession = () => { throw new Error('listener'); };
    await new Promise(setImmediate);
    uncaught.length = 0;
    go();
    await new Promise(setImmediate);
    assert.deepEqual(uncaught, ['listener', 'initial']);
    assert.deepEqual(taken, ['s2:one', 's2:two']);
  } finally {
    process.removeListener('uncaughtException', note);
    for (const other of others) process.on('uncaughtException', other);
  }
});

test('close and reconnect in a listener: nothing that was sent is lost', () => {
  for (const act of ['close', 'reconnect']) {
    const { world, socket, go, lose, taken } = begin();
    lose();
    socket.addEventListener('session', () => socket[act](), { once: true });
    go();
    assert.deepEqual(taken, ['s2:one', 's2:two'], act);
    assert.deepEqual(world.server.faults, []);
  }
});

test('what is assigned is checked as what is sent, and a list with a fault in it changes nothing', () => {
  const { socket, go, world } = begin({ keepUnsent: true }, { limit: 10 });
  go();
  world.up = false;
  [...world.links][0].cut({ client: 1, server: 1 });
  world.advance(50);
  socket.send('kept');
  assert.throws(() => (socket.queued = ['fine', 'x'.repeat(11)]), { name: 'QuotaExceededError' });
  assert.throws(() => (socket.queued = [new Blob(['x'])]), TypeError);
  assert.throws(() => (socket.queued = null), TypeError);
  assert.deepEqual(socket.queued, ['kept']);
  assert.throws(() => socket.queued.pop(), TypeError, 'a list that is changed changes nothing, so it says so');
  const bytes = new Uint8Array([1, 2]);
  socket.queued = [bytes];
  bytes.fill(0);
  assert.deepEqual([...new Uint8Array(socket.queued[0].buffer ?? socket.queued[0])], [1, 2], 'copied');
  socket.close();
  assert.throws(() => (socket.queued = []), { name: 'InvalidStateError' });
  assert.throws(() => new World(1).connect({ initial: 'hi' }), TypeError);
});

test('as an interface: enumerable, a handler that can be taken back, a class that is called as before', () => {
  const { socket } = begin();
  for (const name of ['onsession', 'queued', 'inDoubt', 'send', 'onopen']) assert.ok(name in socket, name);
  const names = [];
  for (const name in socket) names.push(name);
  for (const name of ['onsession', 'queued', 'inDoubt', 'onopen']) assert.ok(names.includes(name), name);
  assert.equal(socket.onsession, null);
  const handler = () => {};
  socket.onsession = handler;
  assert.equal(socket.onsession, handler);
  socket.onsession = null;
  assert.equal(socket.onsession, null);
  assert.throws(() => new ResumableSocket(), TypeError);
  assert.equal(ResumableSocket.length, 1);
  for (const name of ['send', 'addEventListener', 'onsession']) assert.ok(Object.hasOwn(ResumableSocket.prototype, name), name);
});

test('what is in doubt is not hoarded where nobody asks', () => {
  const { socket, go, lose } = begin({ deaf: true });
  lose();
  const seen = [];
  socket.addEventListener('status', ({ status }) => status === 'lost' && seen.push(status));
  go();
  assert.deepEqual([seen, socket.inDoubt], [['lost'], []]);
});

test('without a listener nothing is asked: the queue is written before the page hears of the session', () => {
  const { socket, go, lose, written, taken } = begin({ deaf: true });
  lose();
  const seen = [];
  socket.addEventListener('status', ({ status }) => status === 'new' && seen.push(written().length));
  go();
  assert.deepEqual([seen, taken], [[2], ['s2:one', 's2:two']]);
});

test('the small bundle has none of it', async () => {
  const { ResumableSocket } = await import('../dist/session-resume-websocket.js');
  assert.ok(!('queued' in ResumableSocket.prototype) && 'send' in ResumableSocket.prototype);
});
