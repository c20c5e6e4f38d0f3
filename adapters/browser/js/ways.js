// The ways to a server, and what makes a transport of them: a WebSocket, and where that does not pass, a pipe.

import { Pipe } from './carrier.js';
import { Choice } from './choice.js';
import { lost } from './close.js';
import { httpUrl, knock } from './knock.js';
import { CHOICE_MUTE, CHOICE_OPTIONS, CHOICE_REMEMBERED, PROBE, PROTOCOL } from './protocol.js';
import { decode } from './wire.js';

/** @import { Env, Hooks, Transport, Way } from './types.js' */

/** @type {Way[]} */
const ALL = ['websocket', 'sse', 'poll'];
const KEY = 'session-resume';
/** Of the six connections that a browser has for a host on HTTP/1.1, all its pages together leave three for the rest. */
const LOCKS = 3;
/** A page without one asks for one again. */
const LOCK_AGAIN = 2000;
/** A look that the application's function prevents is put off. */
const LOOK_AGAIN = 30_000;
/** A page that goes. */
const AWAY = 1001;

/**
 * Returns the ways that a socket has; null where there are only WebSockets.
 *
 * @param {Env} env
 * @param {Way[] | undefined} given
 * @param {number} timeout of an attempt, in milliseconds
 * @param {Hooks} hooks
 */
export function waysOf(env, given = ALL, timeout, hooks) {
  if (!given.length || given.some((way) => !ALL.includes(way))) throw new TypeError(`transports must be some of ${ALL} (got ${given})`);
  const allowed = env.fetch ? given : given.filter((way) => way === ALL[0]);
  if (!allowed.length) throw new TypeError('there is no fetch here');
  return allowed.some((way) => way !== ALL[0]) ? new Ways(env, allowed, timeout, hooks) : null;
}

/** What the environment has for these alone. */
const browser = {
  // Node has a `localStorage`, and warns of it.
  memory: () => (globalThis.document ? globalThis.localStorage : undefined),
  multiplexed: (/** @type {string} */ origin) =>
    ['navigation', 'resource'].some((type) =>
      /** @type {any[]} */ (performance.getEntriesByType(type)).some(({ name, nextHopProtocol }) => name.startsWith(`${origin}/`) && /^h[23]/.test(nextHopProtocol)),
    ),
};

/** What one socket knows of the ways to its server. */
export class Ways {
  env;
  /** Of the last attempt, for requests. @type {URL} */
  url = /** @type {any} */ (null);
  allowed;
  timeout;
  /** What is known of the last attempt's origin. @type {Choice} */
  choice;
  hooks;
  /** The transport that is there. @type {Route | null} */
  route = null;
  /** Gives back the lock that we have. @type {(() => void) | null} */
  #unlock = null;
  #locking = false;
  /** Asks again for a lock. @type {unknown} */
  #again;

  /**
   * @param {Env} env
   * @param {Way[]} allowed
   * @param {number} timeout
   * @param {Hooks} hooks
   */
  constructor(env, allowed, timeout, hooks) {
    this.env = { ...browser, ...env };
    this.allowed = allowed;
    this.timeout = timeout;
    this.hooks = hooks;
    this.choice = new Choice(allowed, null);
  }

  /**
   * @param {URL} url of a WebSocket
   * @param {string[]} protocols
   * @param {RequestInit} [init] what requests are made with
   */
  open(url, protocols, init) {
    const { origin } = this.url ?? {};
    this.url = httpUrl(url);
    const forced = this.env.forced?.();
    if (forced) this.choice = new Choice([forced], null);
    else if (this.url.origin !== origin) this.choice = new Choice(this.allowed, this.#recall());
    return (this.route = new Route(this, url, protocols, init));
  }

  /** @param {AbortSignal} signal */
  listen(signal) {
    const { window, document, navigator } = this.env;
    const moved = () => {
      this.choice.moved(this.env.now());
      this.remember(null);
      this.route?.arm();
    };
    window?.addEventListener('online', moved, { signal });
    /** @type {any} */ (navigator)?.connection?.addEventListener?.('change', moved, { signal });
    // A WebSocket is closed by the browser.
    window?.addEventListener('pagehide', (e) => /** @type {any} */ (e).persisted || this.route?.pipe?.close(AWAY), { signal });
    document?.addEventListener('visibilitychange', () => this.share(), { signal });
  }

  /** @returns {Way | null} */
  #recall() {
    try {
      const { path, until } = JSON.parse(/** @type {any} */ (this.env.memory()).getItem(KEY))[this.url.origin];
      return until > this.env.now() ? path : null;
    } catch {
      // Nothing there, or forbidden.
      return null;
    }
  }

  /** @param {Way | null | undefined} path null: nothing any more; undefined: what is there */
  remember(path) {
    if (path === undefined) return;
    try {
      const memory = /** @type {Storage} */ (this.env.memory());
      const all = JSON.parse(memory.getItem(KEY) ?? '{}');
      const { origin } = this.url;
      if (!path && !all[origin]) return;
      all[origin] = path ? { path, until: this.env.now() + CHOICE_REMEMBERED } : undefined;
      memory.setItem(KEY, JSON.stringify(all));
    } catch {
      // Forbidden, or full.
    }
  }

  /**
   * Lets the pipe that is there wait at the server, if this page may have one of the browser's connections for that; takes
   * it back from a hidden page.
   *
   * @returns {Promise<void>}
   */
  async share() {
    const { env } = this;
    const pipe = this.route?.pipe;
    env.clearTimeout(this.#again);
    if (!pipe || pipe.readyState > 1 || !this.limited || env.document?.hidden) {
      this.#unlock?.();
      this.#unlock = null;
    }
    if (!pipe || pipe.readyState > 1) return;
    if (!this.limited) return pipe.hangs(true);
    if (!env.document?.hidden && !this.#unlock && !this.#locking) {
      this.#locking = true;
      for (let i = 0; i < LOCKS && !this.#unlock; i++) await this.#lock(i);
      this.#locking = false;
      if (this.route?.pipe !== pipe || pipe.readyState > 1 || env.document?.hidden) return this.share();
    }
    if (this.#locking) return;
    pipe.hangs(this.#unlock !== null);
    if (!this.#unlock && !env.document?.hidden) this.#again = env.setTimeout(() => this.route?.pipe === pipe && this.share(), LOCK_AGAIN);
  }

  /** Browsers have few connections for a host on HTTP/1.1; elsewhere there is no origin. */
  get limited() {
    const { location } = this.env;
    return Boolean(location) && !this.env.multiplexed(this.url.origin);
  }

  /** @param {number} i */
  async #lock(i) {
    await new Promise((resolve) => {
      const held = /** @type {any} */ (this.env.navigator)?.locks?.request(`${KEY}:${this.url.host}:${i}`, { ifAvailable: true }, (/** @type {unknown} */ lock) => {
        const keeps = lock && new Promise((unlock) => (this.#unlock = () => unlock(undefined)));
        resolve(0);
        return keeps;
      });
      if (held) held.catch(resolve);
      else resolve(0);
    });
  }
}

/**
 * One attempt, and the transport that comes of it. To the machine it is a WebSocket.
 *
 * @implements {Transport}
 */
class Route {
  /** @type {Transport['onopen']} */
  onopen = null;
  /** @type {Transport['onmessage']} */
  onmessage = null;
  /** @type {Transport['onclose']} */
  onclose = null;
  /** @type {Transport['onerror']} */
  onerror = null;
  /** The transport, if it is one. @type {Pipe | null} */
  pipe = null;
  #ways;
  #url;
  #protocols;
  #init;
  /** @type {Transport} */
  #inner;
  /** @type {BinaryType} */
  #binaryType = 'blob';
  /** When the way that is tried was begun. */
  #began = 0;
  /** It has had its hello. */
  #greeted = false;
  /** When something came last. */
  #heardAt = 0;
  /** @type {unknown} */
  #timer;

  /**
   * @param {Ways} ways
   * @param {URL} url
   * @param {string[]} protocols
   * @param {RequestInit} [init]
   */
  constructor(ways, url, protocols, init) {
    this.#ways = ways;
    this.#url = url;
    this.#protocols = protocols;
    this.#init = init;
    this.#inner = this.#try();
  }

  get readyState() {
    return this.#inner.readyState;
  }

  get protocol() {
    return this.#inner.protocol;
  }

  get ackAfter() {
    return this.#inner.ackAfter;
  }

  /** @returns {Way} */
  get way() {
    return this.pipe?.way ?? 'websocket';
  }

  get binaryType() {
    return this.#binaryType;
  }

  set binaryType(type) {
    this.#binaryType = this.#inner.binaryType = type;
  }

  /** @param {any} data */
  send(data) {
    this.#inner.send(data);
  }

  /**
   * @param {number} [code]
   * @param {string} [reason]
   * @param {boolean} [silent] nothing came any more
   */
  close(code, reason, silent = false) {
    const { choice, env, timeout } = this.#ways;
    const now = env.now();
    // The machine has given it up, or the application has.
    if (!this.#greeted && now - this.#began >= Math.min(CHOICE_MUTE, timeout)) choice.failed(this.#tried);
    // It died when it was last heard, and not when that was noticed.
    else choice.gone(!silent, silent ? this.#heardAt : now);
    env.clearTimeout(this.#timer);
    this.#greeted = true;
    this.#inner.close(code, reason);
    this.#ways.share();
  }

  /** Looks for a WebSocket when it is time to. */
  arm() {
    const { choice, env } = this.#ways;
    // The timer may be that of an attempt under way.
    if (choice.due === null) return;
    env.clearTimeout(this.#timer);
    this.#timer = env.setTimeout(() => {
      if (choice.looks(env.now())) this.#look();
    }, Math.max(0, choice.due - env.now()));
  }

  /** What the choice has tried. */
  get #tried() {
    return this.pipe ? (this.pipe.stream ? 'sse' : 'poll') : 'websocket';
  }

  /** @returns {Transport} */
  #try() {
    const { choice, env, url } = this.#ways;
    const { way } = choice;
    this.#began = env.now();
    /** @type {Transport & Partial<Pipe>} */
    const inner = way === 'websocket' ? new env.WebSocket(this.#url.href, this.#protocols) : (this.pipe = new Pipe(env, url.href, this.#protocols, way === 'sse', this.#init));
    this.#inner = inner;
    inner.binaryType = this.#binaryType;
    /** @type {(run: (event: any) => void) => (event: any) => void} */
    const heard = (run) => (event) => this.#inner === inner && run(event);
    inner.onerror = heard((event) => this.onerror?.(event));
    inner.onopen = heard((event) => this.onopen?.(event));
    inner.onmessage = heard((event) => {
      this.#heardAt = env.now();
      if (!this.#greeted) this.#greet(event.data);
      else if (this.pipe) this.#ways.remember(choice.heard());
      this.onmessage?.(event);
    });
    inner.onclose = heard((event) => this.#over(event));
    if (this.pipe) {
      this.pipe.onform = () => {
        this.#ways.remember(choice.heldBack());
        if (this.#greeted) this.#ways.hooks.changed();
      };
      // Not before its handlers are there, and it is known whether it may wait.
      Promise.resolve().then(() => this.#ways.share());
    } else this.#timer = env.setTimeout(() => this.#doubt(inner), CHOICE_MUTE);
    return inner;
  }

  /** @param {unknown} data */
  #greet(data) {
    const read = decode(/** @type {any} */ (data));
    if (!('control' in read) || !read.control.hello) return;
    const { choice, env } = this.#ways;
    this.#greeted = true;
    env.clearTimeout(this.#timer);
    this.#ways.remember(choice.greeted(this.#tried, env.now()));
    this.arm();
  }

  /** @param {{ code: number, reason: string, copied?: boolean }} close */
  #over(close) {
    const { choice, env } = this.#ways;
    env.clearTimeout(this.#timer);
    const silent = close.code === lost().code && !close.copied;
    // Nothing is known of the server: the other side, at once.
    if (!this.#greeted && silent) {
      if (choice.failed(this.#tried)) {
        this.pipe = null;
        this.#try();
        return;
      }
      // The close of a transport that another one has replaced says nothing of the way.
    } else if (this.#ways.route === this) choice.gone(!silent, env.now());
    this.onclose?.(close);
    this.#ways.share();
  }

  /**
   * A WebSocket has had no hello for a while. Where the server answers otherwise, WebSockets do not pass.
   *
   * @param {Transport} inner
   */
  async #doubt(inner) {
    const { env, url } = this.#ways;
    // No answer: it is as silent as the WebSocket.
    if (!(await knock(env, url, CHOICE_OPTIONS)) || this.#inner !== inner || this.#greeted) return;
    inner.onclose = inner.onerror = null;
    inner.close();
    this.#over(lost());
  }

  /** Looks whether a WebSocket passes now. It touches no session. */
  async #look() {
    const { choice, env, hooks, timeout } = this.#ways;
    const url = await hooks.url().catch(() => null);
    if (!url) {
      // Nothing was found out.
      choice.due = env.now() + LOOK_AGAIN;
      return this.arm();
    }
    if (this.#ways.route !== this) return;
    const socket = new env.WebSocket(url.href, [PROTOCOL, PROBE]);
    const done = (/** @type {boolean} */ good) => {
      env.clearTimeout(timer);
      socket.onmessage = socket.onclose = null;
      socket.onerror = () => {};
      socket.close();
      if (this.#ways.route !== this || this.readyState > 1) return;
      if (choice.looked(good, env.now())) hooks.reconnect();
      else this.arm();
    };
    const timer = env.setTimeout(() => done(false), timeout);
    socket.binaryType = 'arraybuffer';
    socket.onmessage = ({ data }) => (typeof data === 'string' ? socket.send(new Uint8Array(9)) : done(true));
    socket.onclose = socket.onerror = () => done(false);
  }
}
