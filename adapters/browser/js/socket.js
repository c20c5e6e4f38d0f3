// A WebSocket that outlives its connections: the machine's effects carried out.

import { milliseconds, parseBackoff } from './backoff.js';
import { lost, refusal, unprepared } from './close.js';
import { asInterface, byteLength, closeEvent, Handlers, isBinaryType, isProtocols, own, readClose, readProtocols, readUrl } from './idl.js';
import { httpUrl, isOwn, knock, request } from './knock.js';
import { keep, takeKept } from './keep.js';
import { initial, step } from './machine.js';
import { CLOSE_AFTER_DONE, PROTOCOL } from './protocol.js';
import { encodeState } from './wire.js';

/** @import { Data, Effect, Env, Event_, EventMap, ForAttempt, Hooks, Options, Outgoing, State, StateCopy, Status, StatusEvent, Timer, Transport, Way } from './types.js' */
/** @typedef {(env: Env, given: Way[] | undefined, timeout: number, hooks: Hooks) => import('./ways.js').Ways | null} WaysOf */

/** There the network is always up, whatever the browser says. */
const LOOPBACK = /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/;
/** Statuses that say nothing about what a route is. */
const PASSING = [408, 425, 429];
/** Statuses by which a server says that it does not want this page. */
const REFUSING = [401, 403, 409];
const MOMENTS = ['new', 'resumed', 'reused', 'restored', 'gap', 'expired', 'takenback', 'unoffered', 'lost'];

/**
 * For session.js: takes an event in, if there is one, and returns the state.
 *
 * @type {(socket: ResumableSocket, event?: Event_) => State}
 */
export let inside;

/**
 * For session.js: makes of data what the queue has, or throws as `send` does.
 *
 * @type {(socket: ResumableSocket, data: Data) => Outgoing}
 */
export let outgoing;

/**
 * Asks the application before the queue goes to another session.
 *
 * @type {(socket: any) => void}
 */
let meet;

/** Set by session.js. @param {typeof meet} ask */
export function meetBy(ask) {
  meet = ask;
}

/**
 * The WebSocket interface over a session: `readyState` stays `OPEN` through drops, `send` keeps
 * what it cannot write yet, `close` comes when nothing will be tried any more. What happens
 * underneath is told by `status` events.
 */
export class ResumableSocket extends EventTarget {
  /** What other ways than a WebSocket there are: index.js adds them. @type {WaysOf | null} */
  static ways = null;

  static {
    MEET: inside = (socket, event) => {
      if (event) socket.#step(event);
      return socket.#state;
    };
    MEET: outgoing = (socket, data) => socket.#outgoing(data);
  }

  // Made constants below, as an interface has them.
  static get CONNECTING() {
    return /** @type {const} */ (0);
  }
  static get OPEN() {
    return /** @type {const} */ (1);
  }
  static get CLOSING() {
    return /** @type {const} */ (2);
  }
  static get CLOSED() {
    return /** @type {const} */ (3);
  }
  get CONNECTING() {
    return /** @type {const} */ (0);
  }
  get OPEN() {
    return /** @type {const} */ (1);
  }
  get CLOSING() {
    return /** @type {const} */ (2);
  }
  get CLOSED() {
    return /** @type {const} */ (3);
  }

  /** @type {State} */
  #state;
  /** @type {Env} */
  #env;
  /** @type {Transport | null} */
  #transport = null;
  /** The number of `#transport`. */
  #n = 0;
  /** @type {ReturnType<WaysOf> | undefined} */
  #ways;
  /** @type {Effect[]} */
  #effects = [];
  #running = false;
  /** There has been an `open` event. */
  #opened = false;
  /** @type {Map<Timer, unknown>} */
  #timers = new Map();
  #handlers = new Handlers(this);
  #page = new AbortController();
  #maxMessages;
  #keepUnsent;
  #confirmLeave;
  /** @type {Data[]} */
  #kept = [];
  #maxBytes;
  /** @type {BinaryType} */
  #binaryType;
  /** What each attempt is made with: the URL, the headers, the credentials. @type {[ForAttempt<string | URL>, Options['headers'], Options['credentials']]} */
  #given;
  /** The URL of the last attempt: null before the first one, if a function names it. @type {URL | null} */
  #url = null;
  /** What the requests of that attempt are made with. @type {RequestInit} */
  #init = {};
  /** @type {string[]} */
  #protocols;
  /** @type {Status} */
  #current = { status: 'connecting', attempt: 1 };

  /**
   * @param {ForAttempt<string | URL>} url or a function that names it for each attempt
   * @param {Options | string | string[]} [options] or, as with a WebSocket, the application's own subprotocols
   */
  constructor(url, options = undefined) {
    if (!arguments.length) throw new TypeError('a WebSocket needs a URL');
    super();
    const given = isProtocols(options) ? { protocols: options } : options;
    this.#env = { ...browser(), ...given.env };
    if (typeof url !== 'function') url = this.#url = this.#readUrl(url);
    this.#given = [url, given.headers, given.credentials];
    this.#protocols = readProtocols(given.protocols);
    this.#binaryType = given.binaryType ?? 'blob';
    if (!isBinaryType(this.#binaryType)) throw new TypeError(`binaryType must be "blob" or "arraybuffer" (got ${this.#binaryType})`);
    this.#maxMessages = given.maxBufferedMessages ?? 4096;
    this.#maxBytes = given.maxBufferedBytes ?? 8 * 1024 * 1024;
    this.#confirmLeave = given.confirmLeave ?? false;
    // A URL that is made for each attempt may have a secret in it, and has another one in the next page.
    this.#keepUnsent = given.keepUnsent === true ? this.url : given.keepUnsent;
    if (this.#keepUnsent === '') throw new TypeError('keepUnsent must be a name where a function names the URL');
    const connectTimeout = milliseconds(given.connectTimeout ?? 10, 'connectTimeout');
    this.#ways = ResumableSocket.ways?.(this.#env, given.transports, connectTimeout, {
      reconnect: () => this.reconnect(),
      changed: () => this.#state.phase === 'open' && this.#run({ type: 'emit', status: { status: 'open', session: /** @type {string} */ (this.session) } }),
      url: async () => this.#readUrl(typeof url === 'function' ? await url(0) : url),
    });
    const saved = this.#keepUnsent ? takeKept(this.#env.storage, this.#keepUnsent) : null;
    if (saved) this.#kept = saved.messages;
    this.#state = initial(
      {
        reconnect: given.reconnect ?? true,
        backoff: parseBackoff(given.backoff),
        whileHidden: given.whileHidden ?? false,
        connectTimeout,
        closeTimeout: milliseconds(given.closeTimeout ?? CLOSE_AFTER_DONE / 1000, 'closeTimeout'),
        asks: Boolean(this.#env.fetch),
        knocks: Boolean(this.#env.fetch),
      },
      this.#env.clientId(),
      saved,
    );
    // Listens only then: a constructor that throws must leave nothing behind.
    this.#step({ type: 'start', ...this.#weather() });
    this.#listen();
  }

  /**
   * @template {keyof EventMap} K
   * @overload
   * @param {K} type
   * @param {(this: ResumableSocket, event: EventMap[K]) => any} listener
   * @param {boolean | AddEventListenerOptions} [options]
   * @returns {void}
   */
  /**
   * @overload
   * @param {string} type
   * @param {EventListenerOrEventListenerObject | null} listener
   * @param {boolean | AddEventListenerOptions} [options]
   * @returns {void}
   */
  /**
   * @param {string} type
   * @param {any} listener
   * @param {boolean | AddEventListenerOptions} [options]
   */
  addEventListener(type, listener, options) {
    super.addEventListener(type, listener, options);
  }

  /** Of the last attempt, where a function names it; empty before the first one. */
  get url() {
    return this.#url?.href ?? '';
  }

  get readyState() {
    const { phase, opened } = this.#state;
    return phase === 'ended' ? 3 : phase === 'closing' ? 2 : opened ? 1 : 0;
  }

  /** Bytes that the server's application has not yet acknowledged. */
  get bufferedAmount() {
    return this.#state.outboxBytes;
  }

  get binaryType() {
    return this.#binaryType;
  }

  set binaryType(type) {
    if (!isBinaryType(type)) return;
    this.#binaryType = type;
    if (this.#transport) this.#transport.binaryType = type;
  }

  /** The application's subprotocol, if it has offered one. Which of several is in use, the server does not say. */
  get protocol() {
    return this.#opened && this.#protocols.length === 1 ? this.#protocols[0] : '';
  }

  get extensions() {
    return '';
  }

  /** The session's id, or null before the first one: what `GET /sessions/{id}` takes. */
  get session() {
    return this.#state.cursor?.session ?? null;
  }

  /** How the page is connected, or null where it is not. */
  get transport() {
    return this.#state.phase === 'open' ? (this.#transport?.way ?? 'websocket') : null;
  }

  /** What the page before this one has left unacknowledged (`keepUnsent`): it is sent by itself. */
  get kept() {
    return this.#kept;
  }

  /** How long the session waits for this page when it is away, in seconds; 0 before the first hello. */
  get lifetime() {
    return this.#state.lifetime / 1000;
  }

  /** The last status that lasts; the moments (`resumed`, `gap`, …) are events only. */
  get current() {
    return this.#current;
  }

  /**
   * Sends a message, at once or as soon as there is a connection, exactly once.
   *
   * Throws a `QuotaExceededError` when the buffer is full or the message is longer than the server takes, and
   * an `InvalidStateError` after `close`: a message is never dropped silently.
   *
   * @param {Data} data
   */
  send(data) {
    if (!arguments.length) throw new TypeError('nothing to send');
    if (this.readyState > 1) throw new DOMException('the socket is closed', 'InvalidStateError');
    const message = this.#outgoing(data);
    const { outbox, outboxBytes } = this.#state;
    // As on the server, one message larger than the buffer is let in when it is empty.
    if (outbox.length && (outbox.length >= this.#maxMessages || outboxBytes + message.bytes > this.#maxBytes)) {
      throw new DOMException(`${outbox.length} messages wait to be acknowledged`, 'QuotaExceededError');
    }
    this.#step({ type: 'send', ...message });
  }

  /**
   * @param {Data} given
   * @returns {Outgoing}
   */
  #outgoing(given) {
    const data = own(given);
    // What is in it can be read only when it is too late.
    if (this.#keepUnsent && typeof data === 'object' && 'size' in data) throw new TypeError('a Blob cannot be kept: send its arrayBuffer()');
    const bytes = byteLength(data);
    const { limit } = this.#state;
    if (limit !== null && bytes > limit) {
      throw new DOMException(`the message has ${bytes} bytes, and the server takes ${limit}`, 'QuotaExceededError');
    }
    return { data, bytes };
  }

  /**
   * Closes for good, once what was sent is acknowledged or `closeTimeout` is over.
   *
   * @param {number} [code]
   * @param {string} [reason]
   */
  close(code = undefined, reason = undefined) {
    this.#step({ type: 'close', ...readClose(code, reason) });
  }

  /** Connects now, whatever it waits for, also after `close` events; an open transport is replaced. */
  reconnect() {
    if (this.readyState === 3) this.#listen();
    this.#step({ type: 'reconnect', ...this.#weather() });
  }

  /**
   * Sets this page's own copy of the session's state; null takes it back. It is offered at each connection from now on,
   * before any message, and the server's policy decides what becomes of it.
   *
   * @param {StateCopy | null} copy
   */
  offerState(copy) {
    this.#step({ type: 'offer', frame: copy && encodeState(copy) });
  }

  // What is read is of any `this`, as else a socket's type would not be that of a WebSocket.
  /** @returns {((this: any, event: Event) => any) | null} */
  get onopen() {
    return this.#handlers.get('open');
  }
  /** @param {((this: ResumableSocket, event: Event) => any) | null} handler */
  set onopen(handler) {
    this.#handlers.set('open', handler);
  }
  /** @returns {((this: any, event: MessageEvent) => any) | null} */
  get onmessage() {
    return this.#handlers.get('message');
  }
  /** @param {((this: ResumableSocket, event: MessageEvent) => any) | null} handler */
  set onmessage(handler) {
    this.#handlers.set('message', handler);
  }
  /** @returns {((this: any, event: CloseEvent) => any) | null} */
  get onclose() {
    return this.#handlers.get('close');
  }
  /** @param {((this: ResumableSocket, event: CloseEvent) => any) | null} handler */
  set onclose(handler) {
    this.#handlers.set('close', handler);
  }
  /** @returns {((this: any, event: Event) => any) | null} */
  get onerror() {
    return this.#handlers.get('error');
  }
  /** @param {((this: ResumableSocket, event: Event) => any) | null} handler */
  set onerror(handler) {
    this.#handlers.set('error', handler);
  }
  /** @returns {((this: ResumableSocket, event: StatusEvent) => any) | null} */
  get onstatus() {
    return this.#handlers.get('status');
  }
  set onstatus(handler) {
    this.#handlers.set('status', handler);
  }

  get #loopback() {
    return this.#url && LOOPBACK.test(this.#url.hostname);
  }

  /** @param {unknown} url */
  #readUrl(url) {
    return readUrl(url, this.#env.document?.baseURI ?? this.#env.location?.href);
  }

  /** Whether the page is hidden and the network away. */
  #weather() {
    return { hidden: this.#env.document?.hidden ?? false, offline: !this.#loopback && this.#env.navigator?.onLine === false };
  }

  /**
   * Listens to the page: to all that the machine wants to know, or, once it has ended, to whether the page is left while there is
   * something that `reconnect` would send.
   *
   * @param {boolean} [ended]
   */
  #listen(ended) {
    this.#page.abort();
    if (ended && !this.#state.outbox.length) return;
    const { window, document } = this.#env;
    const { signal } = (this.#page = new AbortController());
    /** @type {(target: EventTarget | undefined, type: string, event: (e: any) => Event_ | null) => void} */
    const on = (target, type, event) =>
      target?.addEventListener(
        type,
        (e) => {
          const happened = event(e);
          if (happened) this.#step(happened);
        },
        { signal },
      );
    on(window, 'pagehide', (e) => {
      if (e.persisted) return { type: 'cached' };
      if (this.#keepUnsent) this.#keep();
      return null;
    });
    if (this.#confirmLeave) {
      on(window, 'beforeunload', (e) => {
        if (this.#state.outbox.length) e.preventDefault();
        return null;
      });
    }
    if (ended) return;
    for (const type of /** @type {const} */ (['online', 'offline'])) on(window, type, () => (this.#loopback ? null : { type }));
    on(window, 'pageshow', (e) => (e.persisted ? { type: 'shown', ...this.#weather() } : null));
    on(document, 'resume', () => ({ type: 'shown', ...this.#weather() }));
    this.#ways?.listen(signal);
    on(document, 'visibilitychange', () => ({ type: this.#weather().hidden ? 'hidden' : 'visible' }));
  }

  #keep() {
    const { client, cursor, position, base, ever, outbox } = this.#state;
    keep(this.#env.storage, /** @type {string} */ (this.#keepUnsent), { client, cursor, position, base, ever, messages: outbox.map(({ data }) => data) });
  }

  /**
   * Takes an event in at once, so that `send` can answer for it, and runs the effects in the order of
   * the events, also of those that a listener causes in between.
   *
   * @param {Event_} event
   */
  #step(event) {
    const { state, effects } = step(this.#state, { ...event, now: this.#env.now(), random: this.#env.random() });
    this.#state = state;
    this.#effects.push(...effects);
    if (this.#running) return;
    this.#running = true;
    try {
      for (let effect; (effect = this.#effects.shift()); ) this.#run(effect);
    } finally {
      this.#running = false;
    }
  }

  /** @param {Effect} effect */
  #run(effect) {
    MEET: if (effect.type === 'session') return meet(this);
    switch (effect.type) {
      case 'connect':
        return this.#connect(effect.n, effect.attempt, effect.protocols);
      case 'write':
        // Nothing is written to a transport that has failed meanwhile; its close event is on the way.
        if (this.#n === effect.n && this.#transport?.readyState === 1) this.#transport.send(effect.data);
        return;
      case 'closeTransport':
        if (this.#n === effect.n) this.#transport?.close(effect.code, effect.reason, effect.silent);
        return;
      case 'setTimer':
        return this.#setTimer(effect.name, effect.delay);
      case 'clearTimers':
        for (const timer of this.#timers.values()) this.#env.clearTimeout(timer);
        return this.#timers.clear();
      case 'deliver':
        this.dispatchEvent(new MessageEvent('message', { data: effect.data, origin: this.#url?.origin }));
        return;
      case 'emit':
        if (!MOMENTS.includes(effect.status.status)) this.#current = effect.status;
        if (effect.status.status === 'open') effect.status.transport = this.transport ?? undefined;
        this.dispatchEvent(Object.assign(new Event('status'), effect.status));
        return;
      case 'opened':
        this.#opened = true;
        this.dispatchEvent(new Event('open'));
        return;
      case 'ask':
        this.#ask(effect.of);
        return;
      case 'knock':
        this.#knock(effect.of);
        return;
      case 'ended': {
        const { code, reason, clean } = effect;
        this.#listen(this.readyState > 2);
        if (!clean) this.dispatchEvent(new Event('error'));
        this.dispatchEvent(closeEvent({ code, reason, wasClean: clean }));
      }
    }
  }

  /**
   * Asks whether there is a server, at the address of the attempt before: that one was made.
   *
   * @param {number} of
   */
  async #knock(of) {
    this.#step({ type: 'knocked', of, there: !this.#url || (await knock(this.#env, httpUrl(this.#url), this.#state.config.connectTimeout)) });
  }

  /**
   * Asks the route what it is: a route that speaks the protocol says so to plain requests, too.
   *
   * @param {number} of
   */
  async #ask(of) {
    let foreign = null;
    let refused;
    const url = httpUrl(/** @type {URL} */ (this.#url));
    const fetch = (/** @type {RequestInit} */ init) => request(this.#env, url, this.#state.config.connectTimeout, { ...this.#init, ...init });
    // Of another origin no answer can be read.
    if (!isOwn(this.#env, url)) return this.#step({ type: 'answered', of, foreign, refused });
    try {
      const { status, headers } = await fetch({ redirect: 'manual' });
      const ours = headers.get('sec-websocket-protocol')?.includes(PROTOCOL);
      // A status of 0 is a redirect, which no WebSocket follows.
      if (REFUSING.includes(status)) refused = refusal(status);
      else if (ours) {
        // With this method a browser names the page's origin.
        const answer = await fetch({ method: 'OPTIONS' });
        if (REFUSING.includes(answer.status)) refused = refusal(answer.status, (await answer.text()).slice(0, 200));
      } else if (status < 500 && !PASSING.includes(status)) foreign = status ? `it answers with status ${status}` : 'it redirects';
    } catch {
      // Not reached: as with the attempt.
    }
    this.#step({ type: 'answered', of, foreign, refused });
  }

  /**
   * @param {number} n
   * @param {number} attempt
   * @param {string[]} protocols
   */
  #connect(n, attempt, protocols) {
    this.#n = n;
    this.#transport = null;
    /** @type {(given: any[]) => void} */
    const go = ([url, headers, credentials]) => {
      // The machine may have given it up meanwhile.
      if (this.#state.transport !== n || !this.#state.attached) return;
      this.#url = this.#readUrl(url);
      this.#init = { headers: Object.fromEntries(new Headers(headers)), credentials };
      this.#open(n, [...protocols, ...this.#protocols]);
    };
    if (!this.#given.some((value) => typeof value === 'function')) return go(this.#given);
    Promise.all(this.#given.map(async (value) => (typeof value === 'function' ? value(attempt) : value)))
      .then(go)
      .catch((error) => this.#step({ type: 'closed', n, ...unprepared(error) }));
  }

  /**
   * @param {number} n
   * @param {string[]} offers
   */
  #open(n, offers) {
    const url = /** @type {URL} */ (this.#url);
    /** @type {Transport} */
    const transport = this.#ways?.open(url, offers, this.#init) ?? new this.#env.WebSocket(url.href, offers);
    let unreadable = false;
    // First of all: where a socket's error has no listener, Node ends the process.
    transport.onerror = (event) => {
      unreadable ||= event?.error?.code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH';
      // When Chromium and WebKitGTK refuse a message by themselves, they tell it by an error alone. Where a close event
      // has come, too, this has no effect.
      this.#env.setTimeout(() => transport.readyState === 3 && this.#step({ type: 'closed', n, ...lost() }), 0);
    };
    this.#transport = transport;
    transport.binaryType = this.#binaryType;
    transport.onopen = () => this.#step({ type: 'opened', n, protocol: transport.protocol, ackAfter: transport.ackAfter });
    transport.onmessage = ({ data }) => this.#step({ type: 'frame', n, data });
    // What the other end echoes when this one cannot read a message says nothing about ours.
    transport.onclose = ({ code, reason, copied, kind }) =>
      this.#step(copied ? { type: 'copied', n } : { type: 'closed', n, reason, kind, code: unreadable ? lost().code : code });
  }

  /**
   * @param {Timer} name
   * @param {number} delay
   */
  #setTimer(name, delay) {
    this.#env.clearTimeout(this.#timers.get(name));
    const due = this.#env.now() + delay;
    this.#timers.set(
      name,
      this.#env.setTimeout(() => this.#step({ type: 'timer', name, due }), delay),
    );
  }
}

/** @returns {Env} */
function browser() {
  const { WebSocket, document, location, navigator, fetch } = globalThis;
  return {
    WebSocket: /** @type {any} */ (WebSocket),
    setTimeout: (run, ms) => setTimeout(run, ms),
    clearTimeout: (timer) => clearTimeout(timer),
    now: Date.now,
    random: Math.random,
    clientId,
    // A worker has no window, and hears of the network all the same.
    window: 'addEventListener' in globalThis ? globalThis : undefined,
    document,
    location,
    fetch: fetch && ((url, init) => fetch(url, init)),
    navigator,
    storage: () => globalThis.sessionStorage,
  };
}

/** A new id for every page load: kept anywhere, a duplicated tab would share it. */
function clientId() {
  // Not `randomUUID`, which plain http does not have.
  const words = crypto.getRandomValues(new Uint32Array(4));
  return Array.from(words, (word) => word.toString(16).padStart(8, '0')).join('');
}

asInterface(ResumableSocket, 'ResumableSocket', { CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3 });
