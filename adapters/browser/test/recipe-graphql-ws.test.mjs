// The recipe for graphql-ws, in front of its own server.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildSchema } from 'graphql';
import { makeServer } from 'graphql-ws';
import { client } from '../recipes/graphql-ws.js';
import { gone, Stage, Ticks, troubles, upTo } from './support/library.mjs';

/** A server of graphql-ws, to which a session is a connection. */
function serve(peer, stage) {
  assert.deepEqual(peer.protocols, ['graphql-transport-ws']);
  stage.ticks = new Ticks();
  stage.said = [];
  const server = makeServer({
    schema: buildSchema('type Query { none: Int } type Mutation { say(n: Int!): Int! } type Subscription { ticks: Int! }'),
    roots: {
      mutation: { say: ({ n }) => stage.said.push(n) },
      subscription: {
        async *ticks() {
          for await (const ticks of stage.ticks) yield { ticks };
        },
      },
    },
  });
  server.opened(
    {
      protocol: peer.protocols[0],
      send: (text) => peer.send(text),
      close: (code, reason) => peer.close(code, reason),
      onMessage: (take) => (peer.onmessage = (text) => void take(text)),
    },
    {},
  );
}

/** What a subscriber gets; `end` is what came last. */
function watch(client) {
  const got = { next: [], end: null };
  got.dispose = client.subscribe(
    { query: 'subscription { ticks }' },
    {
      next: ({ data }) => got.next.push(data.ticks),
      error: (error) => (got.end = error),
      complete: () => (got.end = 'complete'),
    },
  );
  return got;
}

test('graphql-ws: a subscription goes on through cuts, exactly once, and so do mutations', async (t) => {
  const stage = new Stage(t, serve);
  const graph = client('ws://example.test/live');
  const told = [];
  for (const event of ['connecting', 'connected', 'closed', 'error', 'ping']) graph.on(event, () => told.push(event));
  const got = watch(graph);
  const answers = [];
  let said = 0;
  const timer = setInterval(() => {
    graph.subscribe({ query: `mutation { say(n: ${said++}) }` }, { next: ({ data }) => answers.push(data.say), error: assert.fail, complete() {} });
  }, 70);
  await troubles(stage);
  clearInterval(timer);
  await stage.pass(100);
  assert.ok(got.next.length > 2000);
  assert.deepEqual(got.next, upTo(got.next.length));
  assert.deepEqual([stage.said, answers], [upTo(said), upTo(said).map((n) => n + 1)]);
  assert.deepEqual([got.end, stage.ticks.begun, told], [null, 1, ['connecting', 'connected']]);
  got.dispose();
  await gone(stage, [1000, 'Normal Closure']);
  assert.deepEqual([stage.ticks.ended, got.end], [1, 'complete']);
  assert.deepEqual(told, ['connecting', 'connected', 'closed']);
});

test('graphql-ws: a session that is gone is an error, and the next subscription has another one', async (t) => {
  const stage = new Stage(t, serve);
  const graph = client('ws://example.test/live');
  const got = watch(graph);
  await stage.pass(300);
  stage.world.server.expire();
  await stage.pass(30_000);
  assert.deepEqual([got.end.code, got.end.reason, stage.peers.length], [4000, 'expired', 2], 'it is not tried again by itself');
  const again = watch(graph);
  await stage.pass(300);
  assert.deepEqual([again.next.slice(0, 3), again.end], [[0, 1, 2], null]);
  graph.dispose();
  await gone(stage, [1000, 'Normal Closure']);
});

test('graphql-ws: the end that the server makes is told with its code', async (t) => {
  const stage = new Stage(t, serve);
  const got = watch(client('ws://example.test/live'));
  await stage.pass(300);
  stage.peers[0].close(4403, 'Forbidden');
  await gone(stage, undefined);
  assert.deepEqual([got.end.code, got.end.reason], [4403, 'Forbidden']);
});

test('graphql-ws: terminate ends the session’s socket', async (t) => {
  const stage = new Stage(t, serve);
  const graph = client('ws://example.test/live');
  const got = watch(graph);
  await stage.pass(300);
  graph.terminate();
  await gone(stage, [4499, 'Terminated']);
  assert.equal(got.end.code, 4499);
});
