// The client's half of session-resume.v1 as a pure function: what happened goes in, what is to be
// done comes out. Nothing here reads a clock, a random source or a socket.

import { delayBefore } from './backoff.js';
import { breach, foreign, GOODBYE, lost, NO_CODE, parseClose } from './close.js';
import { byteLength } from './idl.js';
import { ACK_AFTER, PROTOCOL, RETRY_SPREAD } from './protocol.js';
import { acknowledged, ackIfDue, answered, ask as askServer, bytesOf, deliver, dropped as noteDropped, emit, flush, greet, miss, setTimer, silence, skip as pass, takeInDoubt, untold, withdraw, writeAck } from './stream.js';
import { decode, offer } from './wire.js';

/** @import { Close, CloseKind, Config, Control, Effect, Hello, Hold, MachineEvent, Outgoing, Pause, Saved, State, Status, Until } from './types.js' */
/** @import { Cx } from './stream.js' */

/** A server's `retry` is followed up to an hour. */
const LONGEST_HINT = 3_600_000;
/** A watchdog that fires this late was stalled, and frames may be waiting behind it. */
const STALL = 1000;
/** A transport on which anything came after the hello, or that held this long, was of use. */
const HELD = 5000;
const NOT_SPOKEN = `the server does not speak ${PROTOCOL}`;
/** Where the browser says that there is no network, it may be wrong. */
const OFFLINE_RETRY = 30_000;
/** This many attempts may fail in a row before the next one asks first whether there is a server. */
const UNASKED = 3;
/** Where the answer is never seen (a policy of the page's may forbid it), every such attempt does without it. */
const ANYWAY = 8;
/** The least number of the next attempt, which tells how long it waits: at once, */
const AT_ONCE = 0;
/** and not at once, because another one just now is of no use. */
const LATER = 2;

/**
 * @param {Config} config
 * @param {string} client
 * @param {Saved | null} [saved]
 * @returns {State}
 */
export function initial(config, client, saved = null) {
  /** @type {State} */
  const state = {
    config, phase: 'idle', opened: false, until: 'time',
    transport: 0, attached: false, attempt: 0, failed: 0, hint: null,
    hidden: false, offline: false, suspect: false, closing: null,
    client, cursor: null, position: 0, owedMessages: 0, owedBytes: 0, owedSince: null, ackAfter: ACK_AFTER,
    outbox: [], outboxBytes: 0, base: 0, sent: 0, ever: 0, underWay: 0, window: { messages: 0, bytes: 0 }, hold: null, limit: null, copy: null, copySaid: false,
    heartbeat: 0, lifetime: 0, heardAt: 0, graced: false, answers: false, probe: null, askedAt: 0, load: 0,
    greeted: false, asked: false, done: null,
    settled: false, stale: false, reauthenticated: false, startedOver: false, tooBig: null, kept: null,
  };
  if (!saved) return state;
  const outbox = saved.messages.map((data) => ({ data, bytes: byteLength(data) }));
  const outboxBytes = outbox.reduce((sum, { bytes }) => sum + bytes, 0);
  if (!saved.cursor) return { ...state, outbox, outboxBytes };
  const { position, base, ever, cursor } = saved;
  return { ...state, outbox, outboxBytes, client: saved.client, cursor, position, base, ever, sent: base, kept: 'ask' };
}

/**
 * Takes an event in. The given state is left as it is.
 *
 * @param {State} state
 * @param {MachineEvent} event
 * @returns {{ state: State, effects: Effect[] }}
 */
export function step(state, event) {
  /** @type {Cx} */
  const cx = { s: { ...state }, effects: [], now: event.now, random: event.random };
  if (!('n' in event) || (event.n === state.transport && state.attached)) handle(cx, event);
  return { state: cx.s, effects: cx.effects };
}

/**
 * @param {Cx} cx
 * @param {MachineEvent} event
 */
function handle(cx, event) {
  const { s } = cx;
  MEET: if (event.type === 'queue') return queue(cx, event.messages, event.hold);
  switch (event.type) {
    case 'start':
      s.hidden = event.hidden;
      s.offline = event.offline;
      // The very first attempt does not look at these: a tab opened in the background is wanted,
      // and `onLine` is wrong on some machines.
      return connect(cx);
    case 'opened':
      s.failed = 0;
      s.ackAfter = event.ackAfter ?? ACK_AFTER;
      if (event.protocol !== PROTOCOL) {
        leave(cx);
        return end(cx, foreign(NOT_SPOKEN));
      }
      return;
    case 'frame':
      return frame(cx, event.data);
    case 'closed':
      return closed(cx, event.kind ? { code: event.code, reason: event.reason, kind: event.kind } : parseClose(event.code, event.reason));
    case 'copied':
      return copied(cx);
    case 'answered':
      if (s.phase !== 'waiting' || s.until !== 'answer' || event.of !== s.transport) return;
      // As where a WebSocket is refused: there was no close.
      if (event.refused) return refused(cx, lost(event.refused.reason), event.refused.kind);
      if (event.foreign === null) return schedule(cx, lost());
      return end(cx, foreign(`${NOT_SPOKEN}: ${event.foreign}`));
    case 'knocked':
      if (s.phase !== 'waiting' || s.until !== 'knock' || event.of !== s.transport) return;
      if (event.there) return open(cx);
      s.failed++;
      return dropped(cx, lost());
    case 'timer':
      return timer(cx, event.name, event.due);
    case 'send':
      s.outbox = [...s.outbox, { data: event.data, bytes: event.bytes }];
      s.outboxBytes += event.bytes;
      if (s.phase === 'open') flush(cx);
      return;
    case 'close':
      return close(cx, event.code, event.reason);
    case 'offer':
      s.copy = event.frame;
      return;
    case 'reconnect':
      if (s.phase === 'connecting' || s.phase === 'closing' || (s.phase === 'waiting' && s.until === 'knock')) return;
      s.hidden = event.hidden;
      s.offline = event.offline;
      return again(cx);
    case 'online':
      s.offline = false;
      // What was begun before the network went is most likely dead, and to replace it costs little.
      return s.suspect && (s.phase === 'open' || s.phase === 'connecting') ? again(cx) : wake(cx);
    case 'offline':
      s.offline = true;
      s.suspect = s.attached;
      if (s.phase === 'waiting' && s.until === 'time') return awaitNetwork(cx);
      if (s.phase === 'open') emit(cx, { status: 'offline' });
      return;
    case 'hidden':
      s.hidden = true;
      return;
    case 'visible':
      s.hidden = false;
      return shown(cx);
    case 'shown':
      s.hidden = event.hidden;
      return shown(cx);
    case 'cached':
      // Browsers keep no page that holds an open socket, or close it themselves.
      if (s.phase !== 'open' && s.phase !== 'connecting') return;
      leave(cx);
      return pause(cx, 'visible', null);
  }
}

/**
 * Begins an attempt. Firefox holds back a WebSocket by ever more seconds after each one that failed, so where some have
 * failed in a row, a plain request finds out first whether a server is there.
 *
 * @param {Cx} cx
 */
function connect(cx) {
  const { s } = cx;
  s.transport++;
  s.attempt++;
  s.suspect = s.settled = false;
  s.hint = null;
  emit(cx, { status: 'connecting', attempt: s.attempt });
  if (!s.config.knocks || s.failed < UNASKED || s.failed % ANYWAY === 0) return open(cx);
  cx.effects.push({ type: 'knock', of: s.transport });
  setTimer(cx, 'retry', s.config.connectTimeout);
  pause(cx, 'knock', null);
}

/** @param {Cx} cx */
function open(cx) {
  const { s } = cx;
  s.phase = 'connecting';
  s.attached = true;
  cx.effects.push({ type: 'connect', n: s.transport, attempt: s.attempt, protocols: offer(s.client, s.kept === 'fresh' ? null : s.cursor, s.position) });
  setTimer(cx, 'connect', s.config.connectTimeout);
}

/**
 * Connects now, and counts attempts anew.
 *
 * @param {Cx} cx
 */
function again(cx) {
  leave(cx);
  cx.s.attempt = 0;
  cx.s.asked = false;
  connect(cx);
}

/**
 * The first attempt failed before it was open. Some browsers hide that a route does not speak the protocol.
 * A plain request to the route tells.
 *
 * @param {Cx} cx
 */
function ask(cx) {
  cx.s.asked = true;
  cx.effects.push({ type: 'ask', of: cx.s.transport });
  setTimer(cx, 'retry', cx.s.config.connectTimeout);
  pause(cx, 'answer', null);
}

/**
 * @param {Cx} cx
 * @param {import('./types.js').Data} data
 */
function frame(cx, data) {
  const { s } = cx;
  if (s.done) return;
  s.heardAt = cx.now;
  s.graced = false;
  const stalled = s.probe === 'stalled';
  if ((s.suspect || stalled) && s.phase === 'open' && s.cursor) emit(cx, { status: 'open', session: s.cursor.session });
  s.suspect = false;
  if (stalled) s.probe = 'asking';
  const read = decode(data);
  let wrong = null;
  if ('error' in read) wrong = read.error;
  else if ('control' in read) wrong = control(cx, read.control);
  else if (s.phase === 'connecting') wrong = 'data before hello';
  else {
    s.settled = true;
    deliver(cx, read.data);
  }
  if (wrong) {
    leave(cx, breach(wrong));
    dropped(cx, breach(wrong));
  } else if (s.attached && s.phase !== 'connecting') ackIfDue(cx);
}

/**
 * @param {Cx} cx
 * @param {Control} control
 * @returns {string | null}
 */
function control(cx, { hello, ack, hb, skip, gap, dropped, retry, done }) {
  const { s } = cx;
  if (retry !== undefined) s.hint = Math.min(retry, LONGEST_HINT);
  if (hello && s.phase !== 'connecting') return 'a second hello';
  if (hello) {
    if (s.cursor?.session === hello.session && hello.received !== null && hello.received > s.ever) {
      copied(cx);
      return null;
    }
    return s.kept === 'ask' ? recall(cx, hello) : greet(cx, hello);
  }
  if (s.phase === 'connecting') {
    return ack ?? hb ?? skip ?? gap ?? dropped ?? done ? 'no hello' : null;
  }
  // Before the count that covers it.
  if (dropped !== undefined) {
    const wrong = noteDropped(cx, dropped);
    if (wrong) return wrong;
  }
  if (ack !== undefined || hb !== undefined) {
    // What was acknowledged before says nothing about the next message, at which this transport may end.
    if (hb !== undefined || (ack ?? 0) > s.base) s.settled = true;
    const wrong = acknowledged(cx, Math.max(ack ?? 0, hb ?? 0));
    if (wrong) return wrong;
    if (hb !== undefined) answered(cx);
    if (s.phase === 'closing' && !s.outbox.length) closeTransport(cx);
  }
  if (skip !== undefined) {
    const breach = pass(cx, skip);
    if (breach) return breach;
  }
  if (gap) return miss(cx, gap);
  if (done) finish(cx, done);
  return null;
}

/**
 * The session has told what it has of the page before. This page needs its view, so it comes back as one that holds nothing;
 * the numbers of its client go on.
 *
 * @param {Cx} cx
 * @param {Hello} hello
 */
function recall(cx, { session, epoch, attachment, received }) {
  const { s } = cx;
  const known = s.cursor?.session === session && received !== null && received >= s.base;
  leave(cx);
  s.attempt = 0;
  if (known) {
    s.cursor = { session, epoch, attachment };
    s.kept = 'fresh';
  } else startOver(cx);
  connect(cx);
  return null;
}

/**
 * The session is over. The server's close follows, and may have a code of the application's own.
 *
 * @param {Cx} cx
 * @param {NonNullable<Control['done']>} done
 */
function finish(cx, done) {
  const { s } = cx;
  writeAck(cx);
  if (s.phase === 'closing') {
    s.outbox = s.outbox.slice(Math.max(0, done.received - s.base));
    leave(cx);
    return endClosed(cx);
  }
  s.phase = 'closing';
  s.done = done;
  setTimer(cx, 'close', s.config.closeTimeout);
}

/**
 * The server has closed after its `done`, or should have.
 *
 * @param {Cx} cx
 * @param {Close} close
 */
function over(cx, close) {
  const { s } = cx;
  const { done, base } = s;
  if (!done) return;
  s.done = null;
  const messages = empty(s, Math.max(0, done.received - base));
  const { kind, reason } = close;
  // A close without a code, or a bare one, says no more than how it ended.
  const bare = kind === 'done' || kind === 'no-code' || kind === 'lost' || (kind === 'normal' && !reason);
  end(cx, bare ? { ...GOODBYE, reason: done.status } : close, { status: 'done', outcome: done.status, messages });
}

/**
 * The transport has closed.
 *
 * @param {Cx} cx
 * @param {Close} close
 */
function closed(cx, close) {
  const { s } = cx;
  s.attached = false;
  if (s.phase === 'connecting') {
    // Of an attempt that was not prepared the browser knows nothing.
    if (close.kind !== 'unprepared') s.failed++;
    if (close.kind === 'lost' && s.config.asks && !s.greeted && !s.asked) return ask(cx);
  }
  dropped(cx, close);
}

/**
 * A transport has ended: on to the next, or not.
 *
 * @param {Cx} cx
 * @param {Close} close
 */
function dropped(cx, close) {
  const { s } = cx;
  const { kind, reason } = close;
  if (s.done) return over(cx, close);
  if (s.phase === 'closing') return endClosed(cx);
  // What is known of the page before may be out of date by the next attempt.
  if (s.kept) s.kept = 'ask';
  const open = s.phase === 'open';
  // The transport was of use, or held long enough to count as good though nothing came: the next attempt goes at
  // once. That is not so where coming back may cause the trouble.
  let good = s.settled || (open && cx.now - s.heardAt >= HELD);
  let least = 1;
  switch (kind) {
    case 'superseded':
      return end(cx, close, { status: 'superseded' });
    case 'refused':
    case 'unauthorized':
    // A transport that may only read has sent data.
    case 'read-only':
    // The server's application has closed the transport.
    case 'application':
      return refused(cx, close);
    case 'protocol-error':
      if (s.startedOver || (s.phase === 'connecting' && !s.cursor)) return end(cx, close);
      s.startedOver = true;
      startOver(cx);
      return schedule(cx, close, LATER);
    case 'stale':
      if (s.stale) return copied(cx);
      s.stale = true;
      return connect(cx);
    case 'too-big':
      // A server that has told its limit says why, too. Without a reason it is the echo of a browser's or library's
      // own 1009, and the message too big was one of the server's.
      if (open && (reason || s.limit === null)) {
        // It was the copy of the state, or a message: without the copy the next 1009 tells.
        if (s.copySaid) withdraw(cx);
        else s.tooBig = s.sent;
      }
    // falls through
    case 'replaced':
      good = false;
    // falls through
    case 'try-again':
      least = LATER;
      break;
    case 'reauthenticate':
      // Nothing is wrong with the way here; but if the next transport brings nothing either, it may not help.
      least = s.settled || !s.reauthenticated ? AT_ONCE : LATER;
      break;
    default:
      /** @satisfies {'normal' | 'done' | 'no-code' | 'lost' | 'internal-error' | 'restarting' | 'moved' | 'other' | 'foreign' | 'unprepared'} */ (kind);
  }
  if (good) s.attempt = 0;
  s.reauthenticated = kind === 'reauthenticate';
  schedule(cx, close, least);
}

/**
 * This page is a copy of one that holds the client id: it becomes a client of its own.
 *
 * @param {Cx} cx
 */
function copied(cx) {
  const { s, random } = cx;
  leave(cx);
  s.stale = false;
  // Another page sends what the page before has left: never twice.
  if (s.kept) s.ever = s.base + s.outbox.length;
  // Original and copy share the id and all else but this number.
  s.client = s.client.slice(0, 16) + Math.floor(random * 2 ** 52).toString(36);
  startOver(cx);
  connect(cx);
}

/**
 * Gives the session up, and says what that leaves in doubt.
 *
 * @param {Cx} cx
 */
function startOver(cx) {
  const messages = takeInDoubt(cx.s);
  forget(cx.s);
  if (messages.length) emit(cx, { status: 'lost', messages, reason: 'in doubt' });
}

/**
 * Forgets the session with all that was to be sent, and returns what of it was not `taken`.
 *
 * @param {State} s
 * @param {number} taken
 */
function empty(s, taken = 0) {
  const messages = untold(s.outbox.slice(taken));
  s.outbox = [];
  s.outboxBytes = 0;
  forget(s);
  return messages;
}

/** @param {State} s */
function forget(s) {
  s.cursor = s.kept = null;
  s.position = s.base = s.sent = s.ever = s.underWay = 0;
}

/**
 * @param {Cx} cx
 * @param {Close} close
 * @param {number} [least] `AT_ONCE`, if it is time to come back at all, or `LATER`
 */
function schedule(cx, close, least = 1) {
  const { s } = cx;
  const { reconnect, backoff } = s.config;
  if (!reconnect) return end(cx, close);
  const attempt = s.attempt + 1;
  if (reconnect === 'prompt') return pause(cx, 'user', waiting(attempt, null, 'user', close));
  if (s.offline) return awaitNetwork(cx);
  const delay = s.hint === null ? delayBefore(backoff, Math.max(attempt, least), cx.random) : s.hint + cx.random * RETRY_SPREAD;
  if (delay === null) return pause(cx, 'user', { status: 'failed', ...close });
  if (hides(cx, close)) return;
  if (least === AT_ONCE || delay === 0) return connect(cx);
  setTimer(cx, 'retry', delay);
  pause(cx, 'time', waiting(attempt, delay / 1000, 'time', close));
}

/**
 * Waits for the network. A browser may say that there is none where only some of it is away, so attempts go on, slowly,
 * and do not count.
 *
 * @param {Cx} cx
 */
function awaitNetwork(cx) {
  cx.s.attempt = 0;
  setTimer(cx, 'retry', OFFLINE_RETRY);
  pause(cx, 'online', { status: 'offline' });
}

/**
 * With what the server has said, not with what we make of a connection that is gone.
 *
 * @param {number} attempt
 * @param {number | null} delay
 * @param {Until} until
 * @param {Close} [close]
 * @returns {Status}
 */
const waiting = (attempt, delay, until, { kind, reason } = lost()) => ({
  status: 'waiting', attempt, delay, until, ...(kind !== 'lost' && { kind, ...(reason && { reason }) }),
});

/**
 * @param {Cx} cx
 * @param {Pause} until
 * @param {Status | null} status
 */
function pause(cx, until, status) {
  cx.s.phase = 'waiting';
  cx.s.until = until;
  if (status) emit(cx, status);
}

/**
 * The page is looked at, or comes back from a cache or a freeze.
 *
 * @param {Cx} cx
 */
function shown(cx) {
  const { s } = cx;
  if (s.phase === 'open' && s.heartbeat && cx.now - s.heardAt > silence(s)) again(cx);
  else wake(cx);
}

/**
 * Something speaks for an attempt now. Where the application wants to prompt, only the user does.
 *
 * @param {Cx} cx
 */
function wake(cx) {
  const { s } = cx;
  if (s.phase !== 'waiting' || (s.until === 'user' && s.config.reconnect === 'prompt')) return;
  if (hides(cx)) return;
  if (!s.offline) again(cx);
  else if (s.until !== 'online') awaitNetwork(cx);
}

/**
 * @param {Cx} cx
 * @param {import('./types.js').Timer} name
 * @param {number} due
 */
function timer(cx, name, due) {
  const { s, now } = cx;
  const waits = s.phase === 'waiting';
  const talking = s.attached && !s.done && (s.phase === 'open' || s.phase === 'closing');
  switch (name) {
    case 'retry':
      if (waits && s.until === 'answer') schedule(cx, lost());
      else if (waits && s.until === 'knock') open(cx);
      else if (waits && (s.until === 'time' || s.until === 'online') && !hides(cx)) connect(cx);
      return;
    case 'connect':
      if (s.phase !== 'connecting') return;
      s.failed++;
      return drop(cx, 'connect timeout');
    case 'ack':
      if (talking) writeAck(cx);
      return;
    case 'close':
      if (s.phase !== 'closing') return;
      leave(cx, goodbye(s));
      return s.done ? over(cx, GOODBYE) : endClosed(cx);
  }
  if (!talking) return;
  // A clock set back must not put the deadline off.
  s.heardAt = Math.min(s.heardAt, now);
  s.askedAt = Math.min(s.askedAt, now);
  let dead;
  if (name === 'watch') {
    const left = s.heardAt + silence(s) - now;
    dead = left <= 0;
    if (!dead) setTimer(cx, name, left);
  } else dead = askServer(cx);
  if (!dead) return;
  if (s.graced || now - due <= STALL) return drop(cx, 'silence');
  s.graced = true;
  setTimer(cx, name, STALL);
}

/**
 * Gives up a transport on which nothing comes.
 *
 * @param {Cx} cx
 * @param {string} reason
 */
function drop(cx, reason) {
  leave(cx, GOODBYE, true);
  dropped(cx, lost(reason));
}

/**
 * Where the page is hidden and does not want to connect then, waits until it is looked at; returns whether it does.
 *
 * @param {Cx} cx
 * @param {Close} [close]
 */
function hides(cx, close) {
  const { s } = cx;
  const away = s.hidden && !s.config.whileHidden;
  if (away && (close || s.phase !== 'waiting' || s.until !== 'visible')) {
    pause(cx, 'visible', waiting(s.attempt + 1, null, 'visible', close));
  }
  return away;
}

/**
 * The application says what the queue is, or that it has had its say.
 *
 * @param {Cx} cx
 * @param {Outgoing[]} messages
 * @param {Hold | null} hold
 */
function queue(cx, messages, hold) {
  const { s } = cx;
  s.outbox = [...s.outbox.slice(0, s.ever - s.base), ...messages];
  s.outboxBytes = bytesOf(s.outbox);
  s.hold = hold;
  // Also where it has closed meanwhile: what was sent before goes out.
  if (s.attached && s.phase !== 'connecting') flush(cx);
}

/**
 * The application closes. What it has sent gets `closeTimeout` to be acknowledged.
 *
 * @param {Cx} cx
 * @param {number | null} code
 * @param {string} reason
 */
function close(cx, code, reason) {
  const { s } = cx;
  if (s.phase === 'closing' || s.phase === 'ended') return;
  const open = s.phase === 'open';
  s.phase = 'closing';
  s.closing = { code, reason };
  // Without a transport there is nothing to wait for, but `close` is never fired inside a call.
  setTimer(cx, 'close', open ? s.config.closeTimeout : 0);
  if (!open) leave(cx, goodbye(s));
  else if (!s.outbox.length) closeTransport(cx);
}

/** @param {Cx} cx */
function closeTransport(cx) {
  const { s } = cx;
  if (s.owedSince !== null) writeAck(cx);
  const { code, reason } = goodbye(s);
  cx.effects.push({ type: 'closeTransport', n: s.transport, code, reason });
}

/**
 * What we say when the application closes. Without a code of its own that is 1000.
 *
 * @param {State} s
 */
const goodbye = ({ closing }) => ({ code: closing?.code ?? GOODBYE.code, reason: closing?.reason ?? '' });

/**
 * Closes the transport, if there is one, and hears no more of it.
 *
 * @param {Cx} cx
 * @param {{ code: number, reason: string }} [close]
 * @param {boolean} [silent] nothing came any more
 */
function leave(cx, { code, reason } = GOODBYE, silent = undefined) {
  if (cx.s.attached) cx.effects.push({ type: 'closeTransport', n: cx.s.transport, code, reason, ...(silent && { silent }) });
  cx.s.attached = false;
}

/**
 * The application's own close is done: the event has the codes that a WebSocket's has.
 *
 * @param {Cx} cx
 */
function endClosed(cx) {
  const { s } = cx;
  const { opened, closing } = s;
  const messages = empty(s);
  /** @type {Status | null} */
  const unsent = messages.length ? { status: 'lost', messages, reason: 'closed' } : null;
  // One that was closed before it was open has failed; without a code there is none.
  if (opened) ended(cx, unsent, { code: closing?.code ?? NO_CODE.code, reason: closing?.reason ?? '' }, true);
  else ended(cx, unsent, lost(), false);
}

/**
 * Ends until the application says `reconnect`. Without a status it is a failure.
 *
 * @param {Cx} cx
 * @param {Close} close
 * @param {Status} [status]
 */
function end(cx, close, status = { status: 'failed', ...close }) {
  ended(cx, status, close, !['lost', 'foreign', 'unprepared'].includes(close.kind));
}

/**
 * The server does not want this page.
 *
 * @param {Cx} cx
 * @param {Close} close
 * @param {CloseKind} [kind]
 */
function refused(cx, close, kind = close.kind) {
  end(cx, close, { status: 'refused', kind, reason: close.reason });
}

/**
 * @param {Cx} cx
 * @param {Status | null} status
 * @param {{ code: number, reason: string }} close
 * @param {boolean} clean
 */
function ended(cx, status, { code, reason }, clean) {
  const { s } = cx;
  s.phase = 'ended';
  s.opened = false;
  s.closing = s.done = null;
  s.attempt = 0;
  cx.effects.push({ type: 'clearTimers' });
  if (status) emit(cx, status);
  cx.effects.push({ type: 'ended', code, reason, clean });
}
