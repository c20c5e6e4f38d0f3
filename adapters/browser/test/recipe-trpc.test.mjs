// The recipe for tRPC, in front of its own server.

import './support/clock.mjs';
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import { createTRPCClient, wsLink } from '@trpc/client';
import { initTRPC, tracked } from '@trpc/server';
import { getWSConnectionHandler } from '@trpc/server/adapters/ws';
import { connection } from '../recipes/trpc.js';
import { gone, Stage, Ticks, troubles, upTo } from './support/library.mjs';

/** A server of tRPC, to which a session is a connection, and a page; `closed` has the codes with which the page's sockets were closed. */
function begin(t) {
  const { router, procedure } = initTRPC.create();
  const said = [];
  const ticks = new Ticks();
  const procedures = router({
    say: procedure.input((n) => n).mutation(({ input }) => said.push(input)),
    never: procedure.query(() => new Promise(() => {})),
    ticks: procedure.subscription(() => ticks),
    // From where the client says that it is.
    rows: procedure.input((input) => input).subscription(async function* ({ input }) {
      const from = input.lastEventId === undefined ? 0 : Number(input.lastEventId) + 1;
      for await (const n of ticks) yield tracked(String(from + n), from + n);
    }),
  });
  const accept = getWSConnectionHandler({ router: procedures });
  const stage = new Stage(t, (peer) => {
    const socket = Object.assign(new EventEmitter(), { readyState: 1, send: (text) => peer.send(text), close: (code, reason) => peer.close(code, reason) });
    peer.onmessage = (text) => socket.emit('message', Buffer.from(text), false);
    accept(socket, { url: '/live', headers: { host: 'example.test' }, socket: {} });
  });
  const closed = [];
  const page = connection('ws://example.test/live', { onClose: ({ code }) => closed.push(code) });
  return { stage, said, ticks, closed, page, trpc: createTRPCClient({ links: [wsLink({ client: page })] }) };
}

/** What a subscriber gets; `states` are those of the connection, `end` is what came last. */
function watch(procedure, input) {
  const got = { next: [], states: [], started: 0, end: null };
  got.subscription = procedure.subscribe(input, {
    onStarted: () => got.started++,
    onData: (data) => got.next.push(data),
    onConnectionStateChange: ({ state, error }) => got.states.push(error ? `${state} again` : state),
    onError: (error) => (got.end = error),
    onComplete: () => (got.end = 'complete'),
  });
  return got;
}

test('tRPC: a subscription goes on through cuts, exactly once, and so do mutations', async (t) => {
  const { stage, said, ticks, closed, page, trpc } = begin(t);
  const got = watch(trpc.ticks);
  const answers = [];
  let n = 0;
  const timer = setInterval(() => trpc.say.mutate(n++).then((answer) => answers.push(answer)), 70);
  await troubles(stage);
  clearInterval(timer);
  await stage.pass();
  assert.ok(got.next.length > 2000);
  assert.deepEqual(got.next, upTo(got.next.length));
  assert.deepEqual([said, answers], [upTo(n), upTo(n).map((n) => n + 1)]);
  assert.deepEqual([got.end, got.started, ticks.begun, closed], [null, 1, 1, []]);
  assert.deepEqual(got.states, ['connecting', 'pending']);
  got.subscription.unsubscribe();
  await stage.pass();
  assert.equal(ticks.ended, 1);
  page.close();
  await gone(stage, [1000, '']);
  assert.deepEqual(closed, [1005]);
});

test('tRPC: where the session is gone, a subscription of tracked events misses none, and a call fails', async (t) => {
  const { stage, ticks, closed, page, trpc } = begin(t);
  const got = watch(trpc.rows, {});
  let failed;
  trpc.never.query().catch((error) => (failed = error));
  await stage.pass(300);
  stage.world.server.expire();
  await stage.pass(3000);
  assert.ok(got.next.length > 250);
  assert.deepEqual(got.next.map(({ data }) => data), upTo(got.next.length));
  assert.deepEqual([got.end, ticks.begun, stage.peers.length], [null, 2, 2]);
  assert.deepEqual([closed, failed.cause.reason], [[4000], 'expired']);
  page.close();
});

test('tRPC: where the session is gone, another subscription begins anew, which only the connection tells', async (t) => {
  const { stage, ticks, closed, page, trpc } = begin(t);
  const got = watch(trpc.ticks);
  await stage.pass(300);
  stage.world.server.expire();
  const before = got.next.length;
  await stage.pass(3000);
  const again = got.next.indexOf(0, 1);
  assert.ok(again >= before);
  assert.deepEqual(got.next, [...upTo(again), ...upTo(got.next.length - again)]);
  assert.deepEqual([got.end, ticks.begun, closed], [null, 2, [4000]]);
  assert.deepEqual(got.states, ['connecting', 'pending', 'connecting again', 'pending']);
  page.close();
});

test('tRPC: the end that the server makes is followed by another session', async (t) => {
  const { stage, closed, page, trpc } = begin(t);
  const got = watch(trpc.ticks);
  await stage.pass(300);
  stage.peers[0].close(4403, 'Forbidden');
  await stage.pass(3000);
  assert.deepEqual([got.end, closed, stage.peers.length], [null, [4403], 2]);
  page.close();
  await gone(stage, [1000, '']);
});
