// The client's half of session-resume.v1 as a pure function: what happened goes in, what is to be
// done comes out. Nothing here reads a clock, a random source or a socket.

import { delayBefore } from './backoff.js';
import { byteLength } from './idl.js';
import { acknowledged, ackIfDue, answered, ask as askServer, deliver, dropped as noteDropped, emit, flush, greet, silence, skip, takeInDoubt, untold, writeAck } from './stream.js';
import { decode, offer, PROTOCOL } from './wire.js';

/** @import { Config, Control, Effect, Hello, MachineEvent, Pause, Saved, State, Status, Until } from './types.js' */
/** @import { Cx } from './stream.js' */

/** A server's `retry` is followed up to an hour. */
const LONGEST_HINT = 3_600_000;
/** All clients were told the same delay: they come back spread over this time. */
const HINT_SPREAD = 500;
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
/** After these codes the row of attempts goes on, whatever came before: `replaced`, and a message too big. */
const SLOWER = [4100, 1009];
/** "Try again later"; 1013 from servers before 4113. */
const LATER = [1013, 4113];

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
    client, cursor: null, position: 0, owedMessages: 0, owedBytes: 0, owedSince: null,
    outbox: [], outboxBytes: 0, base: 0, sent: 0, ever: 0, underWay: 0, window: { messages: 0, bytes: 0 }, limit: null,
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
  switch (event.type) {
    case 'start':
      s.hidden = event.hidden;
      s.offline = event.offline;
      // The very first attempt does not look at these: a tab opened in the background is wanted,
      // and `onLine` is wrong on some machines.
      return connect(cx);
    case 'opened':
      s.failed = 0;
      if (event.protocol !== PROTOCOL) {
        leave(cx, 1000, '');
        return end(cx, 1002, NOT_SPOKEN);
      }
      return;
    case 'frame':
      return frame(cx, event.data);
    case 'closed':
      s.attached = false;
      if (s.phase === 'connecting') s.failed++;
      if (s.phase === 'connecting' && event.code === 1006 && s.config.asks && !s.greeted && !s.asked) return ask(cx);
      return dropped(cx, event.code, event.reason);
    case 'answered':
      if (s.phase !== 'waiting' || s.until !== 'answer' || event.of !== s.transport) return;
      if (event.refused !== undefined) return end(cx, 1006, event.refused, { status: 'refused', reason: event.refused });
      if (event.foreign === null) return schedule(cx, 1006, '');
      return end(cx, 1002, `${NOT_SPOKEN}: ${event.foreign}`);
    case 'knocked':
      if (s.phase !== 'waiting' || s.until !== 'knock' || event.of !== s.transport) return;
      if (event.there) return open(cx);
      s.failed++;
      return dropped(cx, 1006, '');
    case 'timer':
      return timer(cx, event.name, event.due);
    case 'send':
      s.outbox = [...s.outbox, { data: event.data, bytes: event.bytes }];
      s.outboxBytes += event.bytes;
      if (s.phase === 'open') flush(cx);
      return;
    case 'close':
      return close(cx, event.code, event.reason);
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
      leave(cx, 1000, '');
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
  cx.effects.push({ type: 'knock', of: s.transport }, { type: 'setTimer', name: 'retry', delay: s.config.connectTimeout });
  pause(cx, 'knock', null);
}

/** @param {Cx} cx */
function open(cx) {
  const { s } = cx;
  s.phase = 'connecting';
  s.attached = true;
  cx.effects.push(
    { type: 'connect', n: s.transport, protocols: offer(s.client, s.kept === 'fresh' ? null : s.cursor, s.position) },
    { type: 'setTimer', name: 'connect', delay: s.config.connectTimeout },
  );
}

/**
 * Connects now, and counts attempts anew.
 *
 * @param {Cx} cx
 */
function again(cx) {
  leave(cx, 1000, '');
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
  cx.effects.push({ type: 'ask', of: cx.s.transport }, { type: 'setTimer', name: 'retry', delay: cx.s.config.connectTimeout });
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
  let breach = null;
  if ('error' in read) breach = read.error;
  else if ('control' in read) breach = control(cx, read.control);
  else if (s.phase === 'connecting') breach = 'data before hello';
  else {
    s.settled = true;
    deliver(cx, read.data);
  }
  if (breach) {
    leave(cx, 4103, breach);
    dropped(cx, 4103, breach);
  } else if (s.attached && s.phase !== 'connecting') ackIfDue(cx);
}

/**
 * @param {Cx} cx
 * @param {Control} control
 * @returns {string | null}
 */
function control(cx, { hello, ack, hb, gap, dropped, retry, done }) {
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
    return ack ?? hb ?? gap ?? dropped ?? done ? 'no hello' : null;
  }
  // Before the count that covers it.
  if (dropped !== undefined) {
    const breach = noteDropped(cx, dropped);
    if (breach) return breach;
  }
  if (ack !== undefined || hb !== undefined) {
    // What was acknowledged before says nothing about the next message, at which this transport may end.
    if (hb !== undefined || (ack ?? 0) > s.base) s.settled = true;
    const breach = acknowledged(cx, Math.max(ack ?? 0, hb ?? 0));
    if (breach) return breach;
    if (hb !== undefined) answered(cx);
    if (s.phase === 'closing' && !s.outbox.length) closeTransport(cx);
  }
  if (gap) return skip(cx, gap);
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
  leave(cx, 1000, '');
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
    leave(cx, 1000, '');
    return endClosed(cx);
  }
  s.phase = 'closing';
  s.done = done;
  cx.effects.push({ type: 'setTimer', name: 'close', delay: s.config.closeTimeout });
}

/**
 * The server has closed after its `done`, or should have.
 *
 * @param {Cx} cx
 * @param {number} code
 * @param {string} reason
 */
function over(cx, code, reason) {
  const { s } = cx;
  const { done, base } = s;
  if (!done) return;
  s.done = null;
  const messages = empty(s, Math.max(0, done.received - base));
  const own = code !== 1000 && code !== 1005 && code !== 1006;
  const said = own || (code === 1000 && reason && reason !== 'done');
  end(cx, own ? code : 1000, said ? reason : done.status, { status: 'done', outcome: done.status, messages });
}

/**
 * A transport has ended: on to the next, or not.
 *
 * @param {Cx} cx
 * @param {number} code
 * @param {string} reason
 */
function dropped(cx, code, reason) {
  const { s } = cx;
  if (s.done) return over(cx, code, reason);
  if (s.phase === 'closing') return endClosed(cx);
  // What is known of the page before may be out of date by the next attempt.
  if (s.kept) s.kept = 'ask';
  if (code === 4100 && reason !== 'replaced') return end(cx, code, reason, { status: 'superseded' });
  // Refused, or one that may only read has sent data.
  if (code === 4101 || code === 4104) return end(cx, code, reason, { status: 'refused', reason });
  if (code === 4103) {
    const fresh = s.phase === 'connecting' && !s.cursor;
    if (s.startedOver || fresh) return end(cx, code, reason);
    s.startedOver = true;
    startOver(cx);
    return schedule(cx, code, reason);
  }
  if (LATER.includes(code) && reason === 'stale') {
    if (s.stale) return copied(cx);
    s.stale = true;
    return connect(cx);
  }
  const open = s.phase === 'open';
  // A server that has told its limit says why, too. Without a reason it is the echo of a browser's or library's
  // own 1009, and the message too big was one of the server's.
  if (code === 1009 && open && (reason || s.limit === null)) s.tooBig = s.sent;
  // The transport was of use, or held long enough to count as good though nothing came: the next attempt goes at
  // once. That is not so where coming back may cause the trouble.
  if (!SLOWER.includes(code) && (s.settled || (open && cx.now - s.heardAt >= HELD))) s.attempt = 0;
  // Nothing is wrong with the way here; but if the next transport brings nothing either, it may not help.
  const atOnce = code === 4106 && (s.settled || !s.reauthenticated);
  s.reauthenticated = code === 4106;
  schedule(cx, code, reason, atOnce);
}

/**
 * This page is a copy of one that holds the client id: it becomes a client of its own.
 *
 * @param {Cx} cx
 */
function copied(cx) {
  const { s, random } = cx;
  leave(cx, 1000, '');
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
 * @param {number} code
 * @param {string} reason
 * @param {boolean} [atOnce] without a wait, if it is time to come back at all
 */
function schedule(cx, code, reason, atOnce = false) {
  const { s } = cx;
  const { reconnect, backoff, whileHidden } = s.config;
  if (!reconnect) return end(cx, code, reason);
  const attempt = s.attempt + 1;
  // What the server said, not what we make of a connection that is gone.
  const said = code === 1006 ? '' : reason;
  if (reconnect === 'prompt') return pause(cx, 'user', waiting(attempt, null, 'user', said));
  if (s.offline) return awaitNetwork(cx);
  // Where one went wrong just now, another at once is of no use.
  const later = LATER.includes(code) || code === 4103 || code === 4106 || SLOWER.includes(code);
  const delay = s.hint === null
    ? delayBefore(backoff, later ? Math.max(attempt, 2) : attempt, cx.random)
    : s.hint + cx.random * HINT_SPREAD;
  if (delay === null) return pause(cx, 'user', { status: 'failed', code, reason });
  if (s.hidden && !whileHidden) return pause(cx, 'visible', waiting(attempt, null, 'visible', said));
  if (atOnce || delay === 0) return connect(cx);
  cx.effects.push({ type: 'setTimer', name: 'retry', delay });
  pause(cx, 'time', waiting(attempt, delay / 1000, 'time', said));
}

/**
 * Waits for the network. A browser may say that there is none where only some of it is away, so attempts go on, slowly,
 * and do not count.
 *
 * @param {Cx} cx
 */
function awaitNetwork(cx) {
  cx.s.attempt = 0;
  cx.effects.push({ type: 'setTimer', name: 'retry', delay: OFFLINE_RETRY });
  pause(cx, 'online', { status: 'offline' });
}

/**
 * @param {number} attempt
 * @param {number | null} delay
 * @param {Until} until
 * @param {string} [reason]
 * @returns {Status}
 */
const waiting = (attempt, delay, until, reason) => ({ status: 'waiting', attempt, delay, until, ...(reason && { reason }) });

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
  if (s.hidden && !s.config.whileHidden) {
    if (s.until !== 'visible') pause(cx, 'visible', waiting(s.attempt + 1, null, 'visible'));
  } else if (!s.offline) again(cx);
  else if (s.until !== 'online') awaitNetwork(cx);
}

/**
 * @param {Cx} cx
 * @param {import('./types.js').Timer} name
 * @param {number} due
 */
function timer(cx, name, due) {
  const { s, now } = cx;
  const talking = s.attached && !s.done && (s.phase === 'open' || s.phase === 'closing');
  if (name === 'retry' && s.phase === 'waiting' && s.until === 'answer') {
    schedule(cx, 1006, '');
  } else if (name === 'retry' && s.phase === 'waiting' && s.until === 'knock') {
    open(cx);
  } else if (name === 'retry' && s.phase === 'waiting' && (s.until === 'time' || s.until === 'online')) {
    if (s.hidden && !s.config.whileHidden) pause(cx, 'visible', waiting(s.attempt + 1, null, 'visible'));
    else connect(cx);
  } else if (name === 'connect' && s.phase === 'connecting') {
    s.failed++;
    leave(cx, 1000, '');
    dropped(cx, 1006, 'connect timeout');
  } else if (name === 'ack' && talking) {
    writeAck(cx);
  } else if ((name === 'watch' || name === 'probe') && talking) {
    // A clock set back must not put the deadline off.
    s.heardAt = Math.min(s.heardAt, now);
    s.askedAt = Math.min(s.askedAt, now);
    const late = now - due > STALL && !s.graced;
    let dead;
    if (name === 'watch') {
      const left = s.heardAt + silence(s) - now;
      dead = left <= 0;
      if (!dead) cx.effects.push({ type: 'setTimer', name, delay: left });
    } else dead = askServer(cx);
    if (dead && late) {
      s.graced = true;
      cx.effects.push({ type: 'setTimer', name, delay: STALL });
    } else if (dead) {
      leave(cx, 1000, '');
      dropped(cx, 1006, 'silence');
    }
  } else if (name === 'close' && s.phase === 'closing') {
    leave(cx, s.closing?.code ?? 1000, s.closing?.reason ?? '');
    if (s.done) over(cx, 1000, '');
    else endClosed(cx);
  }
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
  cx.effects.push({ type: 'setTimer', name: 'close', delay: open ? s.config.closeTimeout : 0 });
  if (!open) leave(cx, code ?? 1000, reason);
  else if (!s.outbox.length) closeTransport(cx);
}

/** @param {Cx} cx */
function closeTransport(cx) {
  const { s } = cx;
  if (s.owedSince !== null) writeAck(cx);
  const { code, reason } = s.closing ?? { code: null, reason: '' };
  cx.effects.push({ type: 'closeTransport', n: s.transport, code: code ?? 1000, reason });
}

/**
 * Closes the transport, if there is one, and hears no more of it.
 *
 * @param {Cx} cx
 * @param {number} code
 * @param {string} reason
 */
function leave(cx, code, reason) {
  if (cx.s.attached) cx.effects.push({ type: 'closeTransport', n: cx.s.transport, code, reason });
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
  const lost = messages.length ? { status: 'lost', messages, reason: 'closed' } : null;
  // One that was closed before it was open has failed; without a code there is none.
  if (opened) ended(cx, lost, closing?.code ?? 1005, closing?.reason ?? '', true);
  else ended(cx, lost, 1006, '', false);
}

/**
 * Ends until the application says `reconnect`. Without a status it is a failure.
 *
 * @param {Cx} cx
 * @param {number} code
 * @param {string} reason
 * @param {Status} [status]
 */
function end(cx, code, reason, status) {
  ended(cx, status ?? { status: 'failed', code, reason }, code, reason, code !== 1006 && code !== 1002);
}

/**
 * @param {Cx} cx
 * @param {Status | null} status
 * @param {number} code
 * @param {string} reason
 * @param {boolean} clean
 */
function ended(cx, status, code, reason, clean) {
  const { s } = cx;
  s.phase = 'ended';
  s.opened = false;
  s.closing = s.done = null;
  s.attempt = 0;
  cx.effects.push({ type: 'clearTimers' });
  if (status) emit(cx, status);
  cx.effects.push({ type: 'ended', code, reason, clean });
}
