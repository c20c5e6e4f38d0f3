// Random scripts over HTTP: requests and answers are lost, late, doubled and cut, and every message arrives once, in order.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fetchOf, HttpServer } from './support/http.mjs';
import { World } from './support/world.mjs';

const SEEDS = Number(process.env.SEEDS ?? 25);
const ONLY = process.env.SEED;

const troubles = {
  losses: { requestLost: 0.1, answerLost: 0.15, cut: 0.2 },
  doubles: { doubled: 0.5, late: 0.05 },
  all: { requestLost: 0.08, answerLost: 0.1, cut: 0.15, doubled: 0.3, late: 0.15 },
};

for (const [name, trouble] of Object.entries(troubles)) {
  for (const transports of [['sse', 'poll'], ['poll']]) {
    test(`${name}, over ${transports}: each message exactly once and in order`, async () => {
      for (let i = 0; i < SEEDS; i++) {
        const seed = ONLY ? Number(ONLY) : name.length * 1_000_003 + transports.length * 7919 + i;
        try {
          await run(seed, trouble, transports);
        } catch (error) {
          throw new Error(`SEED=${seed} (${name}, ${transports}): ${error.message}`, { cause: error });
        }
        if (ONLY) break;
      }
    });
  }
}

/** Promises run between the jobs of the world. */
async function advance(world, ms) {
  for (const end = world.now + ms; world.now < end; ) {
    world.advance(Math.min(10, end - world.now));
    await new Promise(setImmediate);
  }
}

async function run(seed, trouble, transports) {
  const taken = [];
  const world = new World(seed, { heartbeat: 2000, window: { messages: 8, bytes: 400 }, latency: 20, pipes: true, onMessage: (data) => taken.push(data) });
  const http = new HttpServer(world);
  const fetch = fetchOf(world, http, trouble);
  const { random, server } = world;
  const socket = world.connect({ connectTimeout: 5, transports, env: { fetch, multiplexed: () => true } });
  const got = [];
  const ends = [];
  socket.addEventListener('message', ({ data }) => {
    got.push(data);
  });
  socket.addEventListener('status', ({ status }) => ['lost', 'gap', 'expired', 'superseded', 'refused', 'failed'].includes(status) && ends.push(status));
  const sent = [];
  const pushed = [];
  const work = () => {
    for (const [id, client] of server.session?.clients ?? []) {
      while (server.take(id));
      client.conn?.ack(random() < 0.5 ? 'ack' : 'hb');
    }
  };
  for (let i = 0; i < 60; i++) {
    await advance(world, 10 + random() * 100);
    for (let k = random() < 0.1 ? 20 : random() < 0.6 ? 1 : 0; k > 0; k--) {
      const data = ['c:', '\u0001c:', 'c\r\n:'][Math.floor(random() * 3)] + sent.length + 'x'.repeat(random() * 60);
      sent.push(data);
      socket.send(data);
    }
    if (server.session) {
      for (let k = random() < 0.6 ? 3 : 0; k > 0; k--) {
        const data = `${['', '\u0001', 'a\nb\r', '\u0000'][Math.floor(random() * 4)]}s:${pushed.length}`;
        // As the library writes it.
        pushed.push(data);
        server.push(data);
      }
      if (random() < 0.5) work();
      if (random() < 0.1) http.ping();
    }
  }
  // Calm: everything must arrive now.
  world.calm = true;
  for (let i = 0; i < 40 && (taken.length < sent.length || got.length < pushed.length || socket.bufferedAmount); i++) {
    await advance(world, 500);
    work();
  }
  assert.deepEqual(server.faults, [], 'the client broke the protocol');
  assert.equal(http.conflicts, 0, 'a client alone never gets a 409');
  assert.deepEqual(ends, []);
  assert.deepEqual(taken, sent);
  assert.deepEqual(got, pushed);
  assert.equal(socket.bufferedAmount, 0);
  socket.close();
  await advance(world, 100);
}
