// The recipe for rxjs, in front of a server that speaks JSON.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { live } from '../recipes/rxjs.js';
import { gone, Stage, Ticks, troubles, upTo } from './support/library.mjs';

/** Numbers for each topic that is subscribed to; all else is kept. */
function topics(peer, stage) {
  stage.ticks = new Ticks();
  stage.said = [];
  const running = new Map();
  peer.onmessage = async (text) => {
    const message = JSON.parse(text);
    if (message.subscribe) {
      const ticks = stage.ticks[Symbol.asyncIterator]();
      running.set(message.subscribe, ticks);
      for await (const n of ticks) peer.send(JSON.stringify({ topic: message.subscribe, n }));
    } else if (message.unsubscribe) running.get(message.unsubscribe).return();
    else stage.said.push(message);
  };
}

/** What a subscriber gets of a topic; `end` is what came last. */
function follow(subject, topic) {
  const got = { next: [], end: null };
  got.subscription = subject
    .multiplex(() => ({ subscribe: topic }), () => ({ unsubscribe: topic }), (message) => message.topic === topic)
    .subscribe({
      next: ({ n }) => got.next.push(n),
      error: (error) => (got.end = error),
      complete: () => (got.end = 'complete'),
    });
  return got;
}

test('rxjs: a subscription goes on through cuts, exactly once, and so does what is sent', async (t) => {
  const stage = new Stage(t, topics);
  const subject = live('ws://example.test/live');
  const got = follow(subject, 'a');
  const timer = setInterval(() => subject.next({ said: said++ }), 70);
  let said = 0;
  await troubles(stage);
  clearInterval(timer);
  await stage.pass(100);
  assert.ok(got.next.length > 2000);
  assert.deepEqual(got.next, upTo(got.next.length));
  assert.deepEqual(stage.said, upTo(said).map((said) => ({ said })));
  assert.deepEqual([got.end, stage.ticks.begun], [null, 1]);
  // The last one that leaves closes the socket, after what it has said.
  got.subscription.unsubscribe();
  await gone(stage, [1000, '']);
  assert.equal(stage.ticks.ended, 1);
});

test('rxjs: a session that is gone is an error, and the next subscription has another one', async (t) => {
  const stage = new Stage(t, topics);
  const subject = live('ws://example.test/live');
  const got = follow(subject, 'a');
  await stage.pass(300);
  stage.world.server.expire();
  await stage.pass(300);
  const { code, reason, wasClean } = got.end;
  assert.deepEqual([code, reason, wasClean], [4000, 'expired', false]);
  const again = follow(subject, 'a');
  await stage.pass(300);
  assert.deepEqual([again.next.slice(0, 3), again.end], [[0, 1, 2], null]);
  again.subscription.unsubscribe();
  await gone(stage, [1000, '']);
});

test('rxjs: the end that the server makes is the end of the stream', async (t) => {
  const stage = new Stage(t, topics);
  const got = follow(live('ws://example.test/live'), 'a');
  await stage.pass(300);
  stage.peers[0].close(1000, '');
  await gone(stage, undefined);
  assert.equal(got.end, 'complete');
  assert.deepEqual(got.next, upTo(got.next.length));
});
