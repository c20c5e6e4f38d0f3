// Random scripts: a page and a server send numbered messages both ways while everything breaks.
// What each side got is compared with what the other sent.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { World } from './support/world.mjs';

const SEEDS = Number(process.env.SEEDS ?? 300);
const ONLY = process.env.SEED;

/** What can go wrong; each script uses one set of these. */
const troubles = {
  cuts: ['cut', 'halfOpen', 'late', 'refuse', 'page', 'rebuild'],
  restarts: ['cut', 'halfOpen', 'late', 'restart'],
  losses: ['cut', 'late', 'restart', 'expire', 'evict', 'dropOldest'],
  copies: ['cut', 'late', 'halfOpen', 'drain', 'reconnect'],
  reloads: ['cut', 'late', 'halfOpen', 'reload', 'reload', 'rebuild', 'refuse'],
};

/** Seeds that have found something once, beyond those of a usual run. */
const found = {
  // A client that was pushed out, and whose hello was lost before the server came back from its store.
  losses: [6_000_597, 6_002_296],
  // The first offer of a page that is gone, which comes behind that of the page in its place.
  reloads: [7_001_056],
};

for (const [name, faults] of Object.entries(troubles)) {
  test(`${name}: each message exactly once and in order, or told`, async () => {
    const base = name.length * 1_000_003;
    const seeds = [...(found[name] ?? []), ...Array.from({ length: SEEDS }, (_, i) => base + i)];
    for (const seed of ONLY ? [Number(ONLY)] : seeds) {
      try {
        run(seed, faults);
      } catch (error) {
        throw new Error(`SEED=${seed} (${name}): ${error.message}`, { cause: error });
      }
      // Weak references are held until the loop turns, and with them whole worlds.
      await new Promise(setImmediate);
    }
  });
}

function run(seed, faults) {
  const taken = [];
  const world = new World(seed, {
    heartbeat: 2000,
    window: { messages: 8, bytes: 400 },
    latency: 20,
    onMessage: (data) => taken.push(data),
  });
  const { random, server } = world;
  const chance = (p) => random() < p;
  const pick = (list) => list[Math.floor(random() * list.length)];
  let page = world.page();
  let socket;

  const sent = [];
  const got = [];
  const lost = [];
  const gaps = [];
  const ended = [];
  let first = null;
  const gone = [];
  // The first offer of a page that is gone may arrive late, and a server cannot know that it is not the newest. The present page is
  // told that another one has the session, and its user brings it back. An offer with a cursor is stale, and supersedes nothing.
  const back = () => {
    const mine = socket;
    const holder = gone.flatMap((page) => page.links ?? []).find(({ conn }) => conn?.n === server.session.attachments);
    if (!holder?.protocols.some((name) => /^at\.[^.]+$/.test(name))) return false;
    world.at(random() * 500, () => socket === mine && mine.reconnect());
    return true;
  };
  const begin = () => {
    socket = world.connect({ connectTimeout: 1, keepUnsent: faults.includes('reload') }, page);
    socket.addEventListener('message', ({ data }) => {
      got.push(data);
    });
    socket.addEventListener('status', note);
    if (seed % 2) socket.addEventListener('session', say);
  };
  // Half of the pages have their say before the queue goes on, and may drop the newest of it where losses are told.
  const say = ({ queued }) => {
    assert.deepEqual(socket.queued, queued);
    const drops = faults.includes('expire') && queued.length && chance(0.5);
    if (drops) lost.push(queued.at(-1));
    socket.queued = drops ? queued.slice(0, -1) : queued;
  };
  const note = (event) => {
    if (event.status === 'lost') lost.push(...event.messages);
    if (event.status === 'gap' || event.status === 'expired') gaps.push(event.gap);
    if (['superseded', 'refused', 'failed'].includes(event.status) && !(event.status === 'superseded' && back())) ended.push(`${event.status} ${event.code} ${event.reason}`);
    if (['new', 'resumed', 'reused', 'restored'].includes(event.status)) first ??= event.status;
  };
  begin();

  // Where gaps count what is missing, every message is for this page.
  const skips = !['restart', 'expire', 'dropOldest'].some((fault) => faults.includes(fault));
  let pushed = 0;
  const pushedAll = [];
  for (let i = 0; i < 150; i++) {
    world.advance(random() * 60);
    // The client's sends, now and then more than the window holds.
    const over = socket.readyState === 3;
    for (let k = over ? 0 : chance(0.1) ? 20 : chance(0.6) ? 1 : 0; k > 0; k--) {
      const data = pick(['c:', '\u0001c:', '\u0001{"ack":99}c:']) + sent.length + 'x'.repeat(random() * 60);
      sent.push(data);
      socket.send(data);
    }
    // The model finds fault with a copy that is not behind the first ack, or is behind a message.
    if (chance(0.03)) socket.offerState(chance(0.3) ? null : { iteration: i, value: i });
    if (server.session) {
      for (let k = chance(0.6) ? 3 : 0; k > 0; k--) {
        const data = pick(['', '\u0001', '\u0001\u0001']) + `s:${pushed++}`;
        pushedAll.push(data);
        server.push(data);
        if (skips && chance(0.3)) server.push(null);
      }
      for (const [id, client] of server.session.clients) {
        while (chance(0.7) && server.take(id));
        if (client.conn && chance(0.5)) client.conn.ack(pick(['ack', 'hb']));
        if (client.conn && faults.includes('dropOldest')) {
          client.conn.slow = chance(0.5);
          client.conn.pump();
        }
      }
    }
    if (chance(0.12)) break_(pick(faults));
  }

  function break_(fault) {
    const link = pick([...world.links]);
    const id = server.session && pick([...server.session.clients.keys()]);
    switch (fault) {
      case 'cut':
        return link?.cut({ client: random() * 100, server: random() * 500 });
      case 'halfOpen':
        // The client learns nothing: only the silence tells it.
        return link?.cut({ client: null, server: chance(0.5) ? null : 100 });
      case 'late':
        return link?.delay(random() * 1500);
      case 'refuse':
        server.refusal = [4113, 'try again later'];
        return world.at(300, () => (server.refusal = null));
      case 'restart':
        return server.restart();
      case 'rebuild':
        return server.rebuild();
      case 'expire':
        return server.expire();
      case 'evict':
        return id && server.evict(id);
      case 'dropOldest':
        return server.session && server.dropOldest(3);
      case 'reload':
        gone.push(page);
        page = world.reload(page);
        return begin();
      case 'drain':
        return server.drain(Math.floor(random() * 1000));
      case 'reconnect':
        return socket.reconnect();
      case 'page': {
        page.document.hidden = true;
        page.document.dispatchEvent(new Event('visibilitychange'));
        if (chance(0.5)) page.window.dispatchEvent(Object.assign(new Event('pagehide'), { persisted: true }));
        return world.at(random() * 1000, () => {
          page.document.hidden = false;
          page.document.dispatchEvent(new Event('visibilitychange'));
          page.window.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }));
        });
      }
    }
  }

  // Calm: everything must arrive now.
  for (let i = 0; i < 400; i++) {
    world.advance(100);
    for (const [id, client] of server.session?.clients ?? []) {
      while (server.take(id));
      if (client.conn) client.conn.slow = false;
      client.conn?.pump();
      if (i % 4 === 0) client.conn?.ack('hb');
    }
  }
  assert.deepEqual(server.faults, [], 'the client broke the protocol');
  assert.deepEqual(ended, []);
  assert.equal(socket.current.status, 'open');
  assert.equal(socket.bufferedAmount, 0, 'all is acknowledged');

  // Towards the server: once and in order; what is missing was told.
  const order = new Map(sent.map((data, i) => [data, i]));
  const numbers = taken.map((data) => order.get(data));
  assert.ok(numbers.every((n, i) => i === 0 || n > numbers[i - 1]), `taken out of order or twice: ${numbers}`);
  const arrived = new Set(numbers);
  const missing = sent.filter((_, i) => !arrived.has(i));
  assert.ok(missing.every((data) => lost.includes(data)), `lost and not told: ${missing.filter((d) => !lost.includes(d))}`);
  assert.equal(new Set(lost).size, lost.length, 'told twice');
  const exact = !faults.some((fault) => ['expire', 'evict'].includes(fault));
  if (exact) assert.deepEqual(lost, []);

  // Another page has a view of its own.
  if (faults.includes('reload')) return;
  // Towards the client: once and in order; all of it but what the gaps name.
  const places = new Map(pushedAll.map((data, i) => [data, i]));
  const order2 = got.map((data) => places.get(data));
  assert.ok(order2.every((n, i) => n !== undefined && (i === 0 || n > order2[i - 1])), `delivered out of order or twice: ${order2}`);
  // A server that restarted, or let the session expire, before the first hello arrived owes nothing from before.
  if (first === 'restored' || first === 'new') pushedAll.splice(0, pushedAll.indexOf(got[0]));
  if (gaps.length === 0) assert.deepEqual(got, pushedAll);
  else {
    const skipped = gaps.reduce((sum, { from, to }) => (to === null ? NaN : sum + to - from), 0);
    if (!Number.isNaN(skipped)) assert.equal(got.length + skipped, pushedAll.length, 'a gap of the wrong size');
  }
}
