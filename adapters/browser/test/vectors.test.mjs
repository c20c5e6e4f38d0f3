// Reads tests/vectors/wire.json, which core/proto/tests/vectors.rs reads, too: both languages must agree.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parseBackoff } from '../js/backoff.js';
import { parseClose } from '../js/close.js';
import { initial, step } from '../js/machine.js';
import * as protocol from '../js/protocol.js';
import { decode, encodeControl, encodeData, offer } from '../js/wire.js';
import { ModelServer } from './support/model.mjs';

const vectors = JSON.parse(readFileSync(new URL('../../../tests/vectors/wire.json', import.meta.url), 'utf8'));

/** Checks every row of one list, and that there are any. */
function each(list, check) {
  test(list, () => {
    assert.ok(vectors[list].length > 5);
    for (const row of vectors[list]) check(row, JSON.stringify(row));
  });
}

test('the version is ours', () => {
  assert.equal(vectors.version, 1);
  assert.equal(vectors.protocol, protocol.PROTOCOL);
});

test('the numbers are ours', () => {
  const ours = {
    version: protocol.VERSION,
    largest_integer: Number.MAX_SAFE_INTEGER,
    ack_messages: protocol.ACK_MESSAGES,
    ack_bytes: protocol.ACK_BYTES,
    ack_after_ms: protocol.ACK_AFTER,
    silent_heartbeats: protocol.SILENT_HEARTBEATS,
    ask_after_ms: protocol.ASK_AFTER,
    ask_again_ms: protocol.ASK_AGAIN,
    answer_within_ms: protocol.ANSWER_WITHIN,
    bytes_a_second: protocol.BYTES_A_SECOND,
    backoff_first_ms: protocol.BACKOFF_FIRST,
    backoff_max_ms: protocol.BACKOFF_MAX,
    retry_spread_ms: protocol.RETRY_SPREAD,
    close_after_done_ms: protocol.CLOSE_AFTER_DONE,
  };
  assert.deepEqual(ours, vectors.numbers);
});

each('offers', ({ protocols, offer: expected, error }, row) => {
  const plain = expected?.kind === 'plain';
  assert.equal(ModelServer.parse(protocols) !== null, !error && !plain, `the model: ${row}`);
  const { kind, client, session, epoch, received, attachment } = expected ?? {};
  // What this client says: always with the attachment, and never above what it can count.
  const writes = kind === 'fresh' || (kind === 'resume' && attachment !== null && received !== 'above');
  if (!writes) return;
  const cursor = kind === 'resume' ? { session, epoch, attachment } : null;
  const ours = protocols.filter((name) => /^(session-resume|at)\./.test(name));
  assert.deepEqual(offer(client, cursor, received).sort(), ours.sort(), row);
});

each('client_frames', ({ text, data, control }, row) => {
  if (data !== undefined) assert.equal(encodeData(data), text, row);
  // Written without blanks and without members of others.
  if (control && JSON.stringify(control) === text.slice(1)) assert.equal(encodeControl(control), text, row);
});

const KNOWN = ['hello', 'ack', 'hb', 'skip', 'gap', 'dropped', 'retry', 'done'];

each('server_frames', ({ text, data, control, error }, row) => {
  const read = decode(text);
  if ('control' in read) {
    read.control = Object.fromEntries(Object.entries(read.control).filter(([name]) => KNOWN.includes(name)));
  }
  if (!error) assert.deepEqual(read, control ? { control } : { data }, row);
  else if (error === 'unknown-mark') assert.deepEqual(read, { error: 'bad control frame' }, row);
  else assert.match(read.error, /^bad (JSON|hello|ack|hb|skip|gap|dropped|retry|done)$/, row);
});

each('escape', ({ data, wire }, row) => {
  assert.equal(encodeData(data), wire, row);
  assert.deepEqual(decode(wire), { data }, row);
});

each('closes', ({ code, reason, kind, first, again }, row) => {
  assert.deepEqual(parseClose(code, reason), { code, reason, kind }, row);
  const client = new Attached();
  assert.equal(client.answer(code, reason), first, row);
  if (again !== first) assert.equal(client.answer(code, reason), again, `${row}, again`);
});

/** A machine with a session, on the transport that is to be closed. */
class Attached {
  constructor() {
    const config = { reconnect: true, backoff: parseBackoff(), whileHidden: false, connectTimeout: 1, closeTimeout: 1, asks: false };
    this.state = initial(config, 'abcdefghijklmnop');
    this.do({ type: 'start', hidden: false, offline: false });
    this.do({ type: 'opened', n: 1, protocol: protocol.PROTOCOL });
    this.do({ type: 'frame', n: 1, data: vectors.server_frames[0].text });
    assert.equal(this.state.phase, 'open');
  }

  do(event) {
    const { state, effects } = step(this.state, { now: 0, random: 0.5, ...event });
    this.state = state;
    return effects;
  }

  /** What it does about this close of its newest transport. */
  answer(code, reason) {
    const { client } = this.state;
    let effects = this.do({ type: 'closed', n: this.state.transport, code, reason });
    if (this.state.phase === 'ended') return effects.findLast(({ type }) => type === 'emit').status.status;
    const waits = this.state.phase === 'waiting';
    if (waits) effects = this.do({ type: 'timer', name: 'retry', due: 0 });
    const [, at] = effects.find(({ type }) => type === 'connect').protocols;
    if (at === `at.${client}.s.e.0.1`) return waits ? 'return' : 'return-at-once';
    if (at === `at.${client}`) return waits ? 'fresh' : 'fresh at once';
    return /^at\.[\w-]{16,32}$/.test(at) && !waits ? 'rename' : `${at}${waits ? ' after a wait' : ''}`;
  }
}
