// Reads tests/vectors/http.json, which core/proto/tests/pipe/vectors.rs reads, too: both languages must agree.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Choice } from '../js/choice.js';
import { BINARY, CLOSE, encodeFrame, EventReader, FrameReader, join, PING, TEXT } from '../js/frames.js';
import { PipeClient } from '../js/pipe.js';
import * as protocol from '../js/protocol.js';

const vectors = JSON.parse(readFileSync(new URL('../../../tests/vectors/http.json', import.meta.url), 'utf8'));

/** Checks every row of one list, and that there are any. */
function each(list, check) {
  test(list, () => {
    assert.ok(vectors[list].length > 5);
    for (const row of vectors[list]) check(row, row.name ?? JSON.stringify(row));
  });
}

const hex = (bytes) => Buffer.from(bytes).toString('hex');
const bytes = (text) => new Uint8Array(Buffer.from(text, 'hex'));
const utf8 = (text) => new TextEncoder().encode(text);

/** A frame as the file writes it. */
function shown({ kind, data, close }) {
  if (kind === TEXT) return { text: data };
  if (kind === BINARY) return { binary: hex(data) };
  return kind === CLOSE ? { close: [close.code, close.reason] } : { ping: true };
}

function encoded({ text, binary, close }) {
  if (text !== undefined) return encodeFrame(TEXT, text);
  if (binary !== undefined) return encodeFrame(BINARY, bytes(binary));
  return close ? encodeFrame(CLOSE, close[1], close[0]) : encodeFrame(PING, '');
}

test('the numbers are ours', () => {
  assert.equal(vectors.version, 1);
  const ours = {
    ack_after_ms: protocol.PIPE_ACK_AFTER,
    absent_ms: protocol.PIPE_ABSENT,
    hold_ms: protocol.PIPE_HOLD,
    batch_frames: protocol.PIPE_BATCH_FRAMES,
    batch_bytes: protocol.PIPE_BATCH_BYTES,
    post_given_up_ms: protocol.PIPE_POST_GIVEN_UP,
    get_slack_ms: protocol.PIPE_GET_SLACK,
    buffered_ms: protocol.PIPE_BUFFERED,
    retry_ms: protocol.PIPE_RETRY,
    open_repeated_ms: protocol.PIPE_OPEN_REPEATED,
    pause_ms: protocol.PIPE_PAUSE,
    confirm_frames: protocol.PIPE_CONFIRM_FRAMES,
    confirm_bytes: protocol.PIPE_CONFIRM_BYTES,
    mute_ms: protocol.CHOICE_MUTE,
    options_ms: protocol.CHOICE_OPTIONS,
    died_within_ms: protocol.CHOICE_DIED_WITHIN,
    deaths: protocol.CHOICE_DEATHS,
    probes_ms: protocol.CHOICE_PROBES,
    remembered_ms: protocol.CHOICE_REMEMBERED,
  };
  // The server's alone.
  const { rotate_ms, kept_frames, kept_bytes, flow_after_ms, ...both } = vectors.numbers;
  assert.deepEqual(ours, both);
});

/** Reads in pieces of each length: where they are cut does not matter. */
function everyWay(whole, make, check) {
  for (let piece = 1; piece <= Math.max(1, Math.min(whole.length, 9)); piece++) {
    const reader = make();
    const items = [];
    let error = null;
    try {
      for (let at = 0; at < whole.length; at += piece) items.push(...reader.feed(whole.slice(at, at + piece)));
    } catch (thrown) {
      error = typeof thrown === 'string' ? thrown : 'bad-payload';
    }
    check(items, error, reader);
  }
}

each('frames', ({ hex: body, frames, error }, row) => {
  // What follows a close, this end never reads.
  const closed = frames === undefined && /^08.*0900000000$/.test(body);
  everyWay(bytes(body), () => new FrameReader(), (items, found, reader) => {
    if (frames) assert.deepEqual([items.map(shown), found, reader.inside], [frames, null, false], row);
    else if (!closed) assert.equal(found ?? (reader.inside && 'cut'), error, row);
  });
  if (frames) assert.equal(hex(join(frames.map(encoded))), body, row);
});

each('events', ({ event, frame, error }, row) => {
  everyWay(utf8(event), () => new EventReader(), (items, found) => {
    const read = items.find((item) => item.comment === undefined);
    assert.equal(found, error ?? null, row);
    assert.deepEqual(read && shown(read), frame, row);
  });
});

/** One page's end of a pipe, that lives a script. */
class Actor {
  now = 1000;
  constructor(form) {
    this.client = new PipeClient(form === 'stream', 'A'.repeat(22), 'session-resume.v1, at.abcdefghijklmnop', this.now, () => 1);
  }

  step(step, place) {
    const { client, now } = this;
    client.aborts.length = 0;
    if (step.request) assert.deepEqual(this.#request(), step.request, place);
    else if (step.none) assert.equal(client.request(now), null, place);
    else if (step.lane) this.#answer(step);
    else if (step.more) client.body(utf8(step.more), now);
    else if (step.fails) client.fail(step.fails, now);
    else if (step.sends !== undefined) client.send(step.sends);
    else if (step.closes) client.close({ code: step.closes[0], reason: step.closes[1] }, now);
    else if (step.arrives) assert.deepEqual(this.#arrived(), step.arrives, place);
    else {
      this.now += step.after;
      client.timeout(this.now);
    }
  }

  #request() {
    const { method, headers, body } = this.client.request(this.now) ?? assert.fail('no request');
    const frames = [...new FrameReader().feed(body ?? new Uint8Array())].map(shown);
    return method === 'GET' ? { method, headers } : { method, headers, frames };
  }

  #answer({ lane, status, headers, stream, hex, frames = [] }) {
    const { client, now } = this;
    if (!client.answer(lane, status, (name) => headers[name] ?? null, now)) return;
    if (stream) return client.body(utf8(stream), now);
    client.body(hex ? bytes(hex) : join(frames.map(encoded)), now);
    client.end(now);
  }

  #arrived() {
    return this.client.arrivals.splice(0).map(({ data, closed, broken, copied, refused }) => {
      if (data !== undefined) return typeof data === 'string' ? data : { binary: hex(data) };
      if (copied) return { copied };
      if (broken) return { broken };
      return refused ? { refused } : { closed: closed && [closed.code, closed.reason] };
    });
  }
}

each('pipe', ({ name, form, steps }) => {
  const actor = new Actor(form);
  steps.forEach((step, n) => actor.step(step, `${name}, step ${n}`));
});

each('choice', ({ name, allowed, remembered, steps }) => {
  const choice = new Choice(allowed, remembered);
  let now = 1000;
  const memory = (path) => (path === undefined ? 'leave' : (path ?? 'forget'));
  for (const [n, step] of steps.entries()) {
    const place = `${name}, step ${n}`;
    if (step.after) now += step.after;
    else if (step.way) assert.equal(choice.way, step.way, place);
    else if (step.fails) assert.equal(choice.failed(step.fails), step.at_once, place);
    else if (step.greeted) assert.equal(memory(choice.greeted(step.greeted, now)), step.remember, place);
    else if (step.heard) assert.equal(memory(choice.heard()), step.heard, place);
    else if ('gone' in step) choice.gone(step.gone, now);
    else if (step.held_back) assert.equal(memory(choice.heldBack()), step.held_back, place);
    else if (step.moves_network) choice.moved(now);
    else if ('looks' in step) assert.equal(choice.looks(now), step.looks, place);
    else if ('looked' in step) assert.equal(choice.looked(step.looked, now), step.moves, place);
    else assert.equal(choice.due === null ? null : choice.due - now, step.due, place);
  }
});
