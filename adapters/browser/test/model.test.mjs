// The server of the random scripts keeps to the protocol itself, where a script once found that it did not.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ModelServer } from './support/model.mjs';

/** What a transport with this offer is told by its hello: the status, and how many of the client's messages the session has. */
function told(server, ...words) {
  const frames = [];
  const conn = server.attach(ModelServer.parse(['session-resume.v1', ['at', ...words].join('.')]), { send: (frame) => frames.push(frame), close() {} });
  const { status, received } = JSON.parse(frames[0].slice(1)).hello;
  return { conn, said: `${status} ${received}` };
}

const NAME = 'client-0123456789';

test('a client that was pushed out is told null until a frame of it arrives, in another life too', () => {
  for (const comesBack of ['rebuild', 'restart']) {
    const server = new ModelServer();
    const { conn, said } = told(server, NAME);
    assert.equal(said, 'new 0');
    conn.frame('\u0001{"ack":0}');
    conn.frame('x');
    server.push('y');
    server.evict(NAME);
    // It may never have seen this hello: its offer says the same, so the answer must, too.
    assert.equal(told(server, NAME, 's1', 'e1', 1, 1).said, 'reused null');
    server[comesBack]();
    const again = told(server, NAME, 's1', 'e1', 1, 1);
    assert.equal(again.said, comesBack === 'rebuild' ? 'reused null' : 'restored null');
    again.conn.frame(`\u0001{"ack":${comesBack === 'rebuild' ? 1 : 0}}`);
    assert.equal(told(server, NAME, 's1', 'e2', 0, 3).said, 'resumed 0');
    assert.deepEqual(server.faults, []);
  }
});

test('the first offer of a client that was pushed out, when it arrives late, makes no count of a cursor', () => {
  const server = new ModelServer();
  told(server, NAME).conn.frame('\u0001{"ack":0}');
  server.evict(NAME);
  assert.equal(told(server, NAME).said, 'reused 0', 'the upgrade that it gave up');
  assert.equal(told(server, NAME, 's1', 'e1', 0, 1).said, 'reused null');
});
