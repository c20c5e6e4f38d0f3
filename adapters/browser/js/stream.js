// The two numbered streams of a session: what came in and what goes out.
//
// Everything here works on `cx.s`, the copy of the state that a step may change, and adds to
// `cx.effects`. A returned text is the server's breach of the protocol.

import { byteLength } from './idl.js';
import { ACK_BYTES, ACK_MESSAGES, ANSWER_WITHIN, ASK_AFTER, ASK_AGAIN, BYTES_A_SECOND, SILENT_HEARTBEATS } from './protocol.js';
import { encodeControl, encodeData } from './wire.js';

/** @import { Data, Effect, Gap, Hello, Outgoing, State, Status } from './types.js' */
/** @typedef {{ s: State, effects: Effect[], now: number, random: number }} Cx */

/** An answer that takes longer is told to the page. */
const STALLED = 1500;

/**
 * Takes a hello in: from here on messages flow.
 *
 * @param {Cx} cx
 * @param {Hello} hello
 * @returns {string | null}
 */
export function greet(cx, hello) {
  const { s } = cx;
  const { session, epoch, attachment, status, from, gap } = hello;
  const same = s.cursor?.session === session;
  const sameEpoch = same && s.cursor?.epoch === epoch;
  const received = same ? hello.received : null;
  // In another epoch a store may have gone back in time.
  const undone = received === null ? 0 : Math.max(0, s.base - received);
  if (undone && sameEpoch) return 'received below what was acknowledged';
  // Never a silent loss, never a double: a stream that goes on does so here, or its gap is told.
  if (same && !s.kept && gap?.to !== null && (gap ? from < s.position : from !== s.position)) {
    return 'resumed at another position';
  }

  /** @type {Status[]} */
  const told = [{ status: 'open', session }, { status, session, gap }];
  if (gap) told.push({ status: gap.reason === 'expired' && status !== 'resumed' ? 'expired' : 'gap', gap });
  if (received === null) {
    const messages = takeInDoubt(s);
    s.base = s.ever = s.sent = hello.received ?? 0;
    s.underWay = 0;
    if (messages.length) told.push({ status: 'lost', messages, reason: 'in doubt' });
  } else if (undone) {
    // What is kept was sent later than all that the session has now: it goes again, under new numbers.
    s.outbox = s.outbox.filter(({ dropped }) => !dropped);
    s.outboxBytes = bytesOf(s.outbox);
    s.base = s.ever = s.sent = received;
    s.underWay = 0;
    told.push({ status: 'takenback', count: undone });
  } else {
    // Only the process that has closed knows how far it had come: in another it may be less.
    if (s.tooBig !== null && received < s.tooBig && sameEpoch && status === 'resumed') {
      const at = received - s.base;
      told.push({ status: 'lost', messages: [s.outbox[at].data], reason: 'too big' });
      s.outboxBytes -= s.outbox[at].bytes;
      s.outbox = s.outbox.filter((_, i) => i !== at);
      s.ever--;
    }
    replayFrom(s, received);
  }
  s.limit = hello.limit ?? null;
  const tooBig = takeTooBig(s);
  if (tooBig.length) told.push({ status: 'lost', messages: tooBig, reason: 'too big' });

  s.cursor = { session, epoch, attachment };
  s.position = from;
  s.window = hello.window;
  s.heartbeat = hello.heartbeat_ms;
  s.lifetime = hello.lifetime_ms;
  s.graced = s.stale = false;
  s.answers = hello.ping ?? false;
  s.probe = null;
  s.greeted = true;
  s.kept = null;
  s.tooBig = null;
  if (status === 'resumed') s.startedOver = false;
  s.phase = 'open';
  MEET: if (s.hold && received === null) s.hold = 'now';
  writeAck(cx);
  // Before any message: what was sent since would not be in it.
  s.copySaid = s.copy !== null && s.limit !== null && byteLength(s.copy) <= s.limit;
  if (s.copySaid) write(cx, /** @type {string} */ (s.copy));
  flush(cx);
  if (s.heartbeat) setTimer(cx, 'watch', silence(s));
  if (!s.opened) cx.effects.push({ type: 'opened' });
  s.opened = true;
  for (const status of told) emit(cx, status);
  MEET: if (s.hold && received === null) cx.effects.push({ type: 'session' });
  if (!s.copySaid && s.copy !== null) withdraw(cx);
  return null;
}

/**
 * The page's copy of the state is longer than the server takes: it is not offered any more.
 *
 * @param {Cx} cx
 */
export function withdraw(cx) {
  cx.s.copy = null;
  emit(cx, { status: 'unoffered' });
}

/**
 * The session has accepted all before `received`: what was written from there on is written again. `flush` does it.
 *
 * @param {State} s
 * @param {number} received
 */
function replayFrom(s, received) {
  s.sent = received;
  s.underWay = bytesOf(s.outbox.slice(0, received - s.base));
}

/**
 * How long a server may say nothing, in milliseconds.
 *
 * @param {State} s
 */
export const silence = (s) => SILENT_HEARTBEATS * s.heartbeat;

/**
 * @param {Cx} cx
 * @param {Data} data
 */
export function deliver(cx, data) {
  const { s, effects } = cx;
  s.position++;
  s.owedMessages++;
  s.owedBytes += byteLength(data);
  owe(cx);
  // Effects run in order and messages are dispatched synchronously: an ack that follows counts
  // what the application has taken.
  effects.push({ type: 'deliver', data });
}

/**
 * @param {Cx} cx
 * @param {Gap & { to: number }} gap
 * @returns {string | null}
 */
export function miss(cx, gap) {
  if (gap.from !== cx.s.position) return 'gap at another position';
  cx.s.position = gap.to;
  emit(cx, { status: 'gap', gap });
  writeAck(cx);
  return null;
}

/**
 * What lies before a position and has not arrived is not for us.
 *
 * @param {Cx} cx
 * @param {number} position
 * @returns {string | null}
 */
export function skip(cx, position) {
  if (position < cx.s.position) return 'skip backwards';
  if (position > cx.s.position) owe(cx);
  cx.s.position = position;
  return null;
}

/**
 * From now on the server waits for an ack.
 *
 * @param {Cx} cx
 */
function owe(cx) {
  if (cx.s.owedSince === null) {
    cx.s.owedSince = cx.now;
    setTimer(cx, 'ack', cx.s.ackAfter);
  }
}

/**
 * Acknowledges if it is time. Asked on every frame, since timers of a hidden page may be late by a minute.
 *
 * @param {Cx} cx
 */
export function ackIfDue(cx) {
  const { owedMessages, owedBytes, owedSince, ackAfter, window } = cx.s;
  if (
    owedSince !== null &&
    (owedMessages >= Math.min(ACK_MESSAGES, window.messages / 2) ||
      owedBytes >= Math.min(ACK_BYTES, window.bytes / 2) ||
      cx.now - owedSince >= ackAfter)
  ) {
    writeAck(cx);
  }
}

/** @param {Cx} cx */
export function writeAck(cx) {
  const { s } = cx;
  s.owedMessages = s.owedBytes = 0;
  s.owedSince = null;
  write(cx, encodeControl({ ack: s.position }));
  if (s.heartbeat) setTimer(cx, 'ack', s.heartbeat);
}

/**
 * Lets go of what the server's handler has taken.
 *
 * @param {Cx} cx
 * @param {number} count
 * @returns {string | null}
 */
export function acknowledged(cx, count) {
  const { s } = cx;
  if (count > s.sent) return 'ack above what was sent';
  if (count <= s.base) return null;
  const bytes = bytesOf(s.outbox.slice(0, count - s.base));
  s.outbox = s.outbox.slice(count - s.base);
  s.outboxBytes -= bytes;
  s.underWay -= bytes;
  s.base = count;
  flush(cx);
  return null;
}

/**
 * Tells that the session has given up one of our messages. It stays here until an ack covers it.
 *
 * @param {Cx} cx
 * @param {number} number
 * @returns {string | null}
 */
export function dropped(cx, number) {
  const { s } = cx;
  if (number >= s.sent) return 'dropped what was never sent';
  const at = number - s.base;
  if (at < 0 || s.outbox[at].dropped) return null;
  const message = { ...s.outbox[at], dropped: true };
  s.outbox = s.outbox.with(at, message);
  emit(cx, { status: 'lost', messages: [message.data], reason: 'dropped' });
  return null;
}

/**
 * Writes what the window has room for, unless the application is asked first; a message larger than the window goes alone.
 *
 * @param {Cx} cx
 */
export function flush(cx) {
  const { s } = cx;
  for (;;) {
    const next = s.outbox[s.sent - s.base];
    if (!next) break;
    MEET: if (s.hold === 'now') return;
    const alone = s.sent === s.base;
    if (!alone && (s.sent - s.base >= s.window.messages || s.underWay + next.bytes > s.window.bytes)) break;
    write(cx, encodeData(next.data));
    s.underWay += next.bytes;
    s.sent++;
    s.ever = Math.max(s.ever, s.sent);
  }
  if (s.answers && !s.probe && s.sent > s.base) probe(cx, 'armed', ASK_AFTER);
}

/**
 * @param {Cx} cx
 * @param {'armed' | 'asking' | 'stalled'} now
 * @param {number} delay
 */
function probe(cx, now, delay) {
  cx.s.probe = now;
  setTimer(cx, 'probe', delay);
}

/**
 * The server has said its number: every question is answered by that, however busy the handler is.
 *
 * @param {Cx} cx
 */
export function answered(cx) {
  if (cx.s.probe === 'asking') probe(cx, 'armed', ASK_AGAIN);
}

/**
 * The next step of a question; returns whether the server is dead.
 *
 * @param {Cx} cx
 */
export function ask(cx) {
  const { s, now } = cx;
  if (!s.probe || s.sent === s.base) {
    s.probe = null;
    return false;
  }
  if (s.probe === 'armed') {
    write(cx, encodeControl({ ping: true }));
    s.askedAt = now;
    s.load = 1000 * Math.floor(s.underWay / BYTES_A_SECOND);
    probe(cx, 'asking', STALLED + s.load);
    return false;
  }
  // A network that brings something is not dead, however long the answer takes.
  const quiet = now - Math.max(s.heardAt, s.askedAt);
  const limit = (s.probe === 'asking' ? STALLED : ANSWER_WITHIN) + s.load;
  if (quiet < limit) probe(cx, s.probe, limit - quiet);
  else if (s.probe === 'stalled') return true;
  else {
    emit(cx, { status: 'stalled' });
    probe(cx, 'stalled', ANSWER_WITHIN - STALLED);
  }
  return false;
}

/**
 * Removes the messages that were written but never acknowledged; what was never written stays,
 * because the server cannot have it.
 *
 * @param {State} s
 */
export function takeInDoubt(s) {
  const written = s.outbox.slice(0, s.ever - s.base);
  s.outbox = s.outbox.slice(written.length);
  s.outboxBytes -= bytesOf(written);
  return untold(written);
}

/**
 * Removes what is still to be written and longer than the server takes: it does not count any more.
 *
 * @param {State} s
 */
function takeTooBig(s) {
  const { limit } = s;
  if (limit === null) return [];
  const from = s.sent - s.base;
  const written = s.ever - s.base;
  const isTooBig = (/** @type {{ bytes: number }} */ { bytes }, /** @type {number} */ at) => at >= from && bytes > limit;
  const taken = s.outbox.filter(isTooBig);
  if (!taken.length) return [];
  s.ever -= s.outbox.slice(0, written).filter(isTooBig).length;
  s.outbox = s.outbox.filter((message, at) => !isTooBig(message, at));
  s.outboxBytes -= bytesOf(taken);
  return taken.map(({ data }) => data);
}

/**
 * The messages of which the application does not know what has become of them.
 *
 * @param {Outgoing[]} messages
 */
export const untold = (messages) => messages.filter(({ dropped }) => !dropped).map(({ data }) => data);

/**
 * @param {Cx} cx
 * @param {Data} data
 */
function write(cx, data) {
  cx.effects.push({ type: 'write', n: cx.s.transport, data });
}

/**
 * @param {Cx} cx
 * @param {import('./types.js').Timer} name
 * @param {number} delay
 */
export function setTimer(cx, name, delay) {
  cx.effects.push({ type: 'setTimer', name, delay });
}

/**
 * @param {Cx} cx
 * @param {Status} status
 */
export function emit(cx, status) {
  cx.effects.push({ type: 'emit', status });
}

/** @param {{ bytes: number }[]} messages */
export const bytesOf = (messages) => messages.reduce((sum, { bytes }) => sum + bytes, 0);
