// A WebSocket that outlives its connections: the machine's effects carried out.

import { milliseconds, parseBackoff } from './backoff.js';
import { initial, step } from './machine.js';
import { byteLength } from './wire.js';

/** @import { Config, Data, Effect, Env, Event_, EventMap, Options, State, Status, StatusEvent, Timer, Transport } from './types.js' */

const MOMENTS = ['new', 'resumed', 'reused', 'restored', 'gap', 'expired', 'takenback', 'lost'];

/**
 * The WebSocket interface over a session: `readyState` stays `OPEN` through drops, `send` keeps
 * what it cannot write yet, `close` comes when nothing will be tried any more. What happens
 * underneath is told by `status` events.
 */
export class ResumableSocket extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;
  CONNECTING = 0;
  OPEN = 1;
  CLOSING = 2;
  CLOSED = 3;

  /** @type {State} */
  #state;
  /** @type {Env} */
  #env;
  /** @type {Transport | null} */
  #transport = null;
  /** The number of `#transport`. */
  #n = 0;
  /** @type {Effect[]} */
  #effects = [];
  #running = false;
  /** @type {Map<Timer, unknown>} */
  #timers = new Map();
  /** @type {Map<string, (event: any) => void>} */
  #handlers = new Map();
  #page = new AbortController();
  #maxMessages;
  #maxBytes;
  /** @type {BinaryType} */
  #binaryType;
  #origin;
  /** @type {string[]} */
  #protocols;
  /** @type {Status} */
  #current = { status: 'connecting', attempt: 1 };

  /**
   * @param {string | URL} url
   * @param {Options | string | string[]} [options] or, as with a WebSocket, the application's own subprotocols
   */
  constructor(url, options = {}) {
    super();
    const given = typeof options === 'string' || Array.isArray(options) ? { protocols: options } : options;
    this.#env = { ...browser(), ...given.env };
    this.url = parseUrl(url, this.#env.document?.baseURI);
    this.#origin = new URL(this.url).origin;
    this.#protocols = [given.protocols ?? []].flat();
    this.#binaryType = given.binaryType ?? 'blob';
    this.#maxMessages = given.maxBufferedMessages ?? 4096;
    this.#maxBytes = given.maxBufferedBytes ?? 8 * 1024 * 1024;
    this.#state = initial(
      {
        reconnect: given.reconnect ?? true,
        backoff: parseBackoff(given.backoff),
        whileHidden: given.whileHidden ?? false,
        connectTimeout: milliseconds(given.connectTimeout ?? 10, 'connectTimeout'),
        closeTimeout: milliseconds(given.closeTimeout ?? 2, 'closeTimeout'),
      },
      this.#env.clientId(),
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
    this.#binaryType = type;
    if (this.#transport) this.#transport.binaryType = type;
  }

  get protocol() {
    return this.#transport?.protocol ?? '';
  }

  get extensions() {
    return '';
  }

  /** The session's id, or null before the first one: what `GET /sessions/{id}` takes. */
  get session() {
    return this.#state.cursor?.session ?? null;
  }

  /** The last status that lasts; the moments (`resumed`, `gap`, …) are events only. */
  get current() {
    return this.#current;
  }

  /**
   * Sends a message, at once or as soon as there is a connection, exactly once.
   *
   * Throws a `QuotaExceededError` when the buffer is full, and an `InvalidStateError` after
   * `close`: a message is never dropped silently.
   *
   * @param {Data} data
   */
  send(data) {
    if (this.readyState > 1) throw new DOMException('the socket is closed', 'InvalidStateError');
    const message = own(data);
    const bytes = byteLength(message);
    const { outbox, outboxBytes } = this.#state;
    // As on the server, one message larger than the buffer is let in when it is empty.
    if (outbox.length && (outbox.length >= this.#maxMessages || outboxBytes + bytes > this.#maxBytes)) {
      throw new DOMException(`${outbox.length} messages wait to be acknowledged`, 'QuotaExceededError');
    }
    this.#step({ type: 'send', data: message, bytes });
  }

  /**
   * Closes for good, once what was sent is acknowledged or `closeTimeout` is over.
   *
   * @param {number} [code]
   * @param {string} [reason]
   */
  close(code = 1000, reason = '') {
    if (code !== 1000 && !(code >= 3000 && code < 5000)) {
      throw new DOMException('the code must be 1000 or from 3000 to 4999', 'InvalidAccessError');
    }
    if (byteLength(reason) > 123) throw new DOMException('the reason is longer than 123 bytes', 'SyntaxError');
    this.#step({ type: 'close', code, reason });
  }

  /** Connects now, whatever it waits for, also after `close` events; an open transport is replaced. */
  reconnect() {
    if (this.readyState === 3) this.#listen();
    this.#step({ type: 'reconnect', ...this.#weather() });
  }

  /** @returns {((this: ResumableSocket, event: Event) => any) | null} */
  get onopen() {
    return this.#handlers.get('open') ?? null;
  }
  set onopen(handler) {
    this.#handle('open', handler);
  }
  /** @returns {((this: ResumableSocket, event: MessageEvent) => any) | null} */
  get onmessage() {
    return this.#handlers.get('message') ?? null;
  }
  set onmessage(handler) {
    this.#handle('message', handler);
  }
  /** @returns {((this: ResumableSocket, event: CloseEvent) => any) | null} */
  get onclose() {
    return this.#handlers.get('close') ?? null;
  }
  set onclose(handler) {
    this.#handle('close', handler);
  }
  /** @returns {((this: ResumableSocket, event: Event) => any) | null} */
  get onerror() {
    return this.#handlers.get('error') ?? null;
  }
  set onerror(handler) {
    this.#handle('error', handler);
  }
  /** @returns {((this: ResumableSocket, event: StatusEvent) => any) | null} */
  get onstatus() {
    return this.#handlers.get('status') ?? null;
  }
  set onstatus(handler) {
    this.#handle('status', handler);
  }

  /**
   * @param {string} type
   * @param {any} handler
   */
  #handle(type, handler) {
    const old = this.#handlers.get(type);
    if (old) this.removeEventListener(type, old);
    this.#handlers.delete(type);
    if (typeof handler !== 'function') return;
    this.#handlers.set(type, handler);
    this.addEventListener(type, handler);
  }

  /** Whether the page is hidden and the network away. */
  #weather() {
    return { hidden: this.#env.document?.hidden ?? false, offline: this.#env.navigator?.onLine === false };
  }

  #listen() {
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
    on(window, 'online', () => ({ type: 'online' }));
    on(window, 'offline', () => ({ type: 'offline' }));
    on(window, 'pagehide', (e) => (e.persisted ? { type: 'cached' } : null));
    on(window, 'pageshow', (e) => (e.persisted ? { type: 'shown', ...this.#weather() } : null));
    on(document, 'resume', () => ({ type: 'shown', ...this.#weather() }));
    on(document, 'visibilitychange', () => ({ type: this.#weather().hidden ? 'hidden' : 'visible' }));
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
    switch (effect.type) {
      case 'connect':
        return this.#connect(effect.n, effect.protocols);
      case 'write':
        // Nothing is written to a transport that has failed meanwhile; its close event is on the way.
        if (this.#n === effect.n && this.#transport?.readyState === 1) this.#transport.send(effect.data);
        return;
      case 'closeTransport':
        if (this.#n === effect.n) this.#transport?.close(effect.code, effect.reason);
        return;
      case 'setTimer':
        return this.#setTimer(effect.name, effect.delay);
      case 'clearTimers':
        for (const timer of this.#timers.values()) this.#env.clearTimeout(timer);
        return this.#timers.clear();
      case 'deliver':
        this.dispatchEvent(new MessageEvent('message', { data: effect.data, origin: this.#origin }));
        return;
      case 'emit':
        if (!MOMENTS.includes(effect.status.status)) this.#current = effect.status;
        this.dispatchEvent(Object.assign(new Event('status'), effect.status));
        return;
      case 'opened':
        this.dispatchEvent(new Event('open'));
        return;
      case 'ended': {
        const { code, reason, clean } = effect;
        this.#page.abort();
        if (!clean) this.dispatchEvent(new Event('error'));
        this.dispatchEvent(Object.assign(new Event('close'), { code, reason, wasClean: clean }));
      }
    }
  }

  /**
   * @param {number} n
   * @param {string[]} protocols
   */
  #connect(n, protocols) {
    const transport = new this.#env.WebSocket(this.url, [...protocols, ...this.#protocols]);
    this.#transport = transport;
    this.#n = n;
    transport.binaryType = this.#binaryType;
    transport.onopen = () => this.#step({ type: 'opened', n, protocol: transport.protocol });
    transport.onmessage = ({ data }) => this.#step({ type: 'frame', n, data });
    transport.onclose = ({ code, reason }) => this.#step({ type: 'closed', n, code, reason });
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
  const { WebSocket, window, document, navigator } = globalThis;
  return {
    WebSocket: /** @type {any} */ (WebSocket),
    setTimeout: (run, ms) => setTimeout(run, ms),
    clearTimeout: (timer) => clearTimeout(timer),
    now: Date.now,
    random: Math.random,
    clientId,
    window,
    document,
    navigator,
  };
}

/** A new id for every page load: kept anywhere, a duplicated tab would share it. */
function clientId() {
  // Not `randomUUID`, which plain http does not have.
  const words = crypto.getRandomValues(new Uint32Array(4));
  return Array.from(words, (word) => word.toString(16).padStart(8, '0')).join('');
}

/**
 * @param {string | URL} given
 * @param {string | undefined} base
 */
function parseUrl(given, base) {
  const url = new URL(given, base);
  url.protocol = url.protocol.replace('http', 'ws');
  if (!/^wss?:$/.test(url.protocol) || url.hash) {
    throw new DOMException(`not the URL of a WebSocket: ${given}`, 'SyntaxError');
  }
  return url.href;
}

/**
 * Returns what cannot change any more while it waits.
 *
 * @param {any} data
 * @returns {Data}
 */
function own(data) {
  if (data instanceof ArrayBuffer) return data.slice(0);
  if (ArrayBuffer.isView(data)) {
    return new Uint8Array(/** @type {ArrayBuffer} */ (data.buffer), data.byteOffset, data.byteLength).slice();
  }
  return data instanceof Blob ? data : String(data);
}
