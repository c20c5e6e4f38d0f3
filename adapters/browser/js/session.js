// A socket whose queue meets another session only after the application has had its say.

import { asInterface, Handlers, isProtocols } from './idl.js';
import { inside, meetBy, outgoing, ResumableSocket as Socket } from './socket.js';

/** @import { Data, ForAttempt, Hold, Options, Outgoing, SessionEvent, SessionEventMap, State, StatusEvent } from './types.js' */

/** @param {State} state */
const unwritten = ({ outbox, ever, base }) => outbox.slice(ever - base);

/**
 * The WebSocket interface over a session, see `Socket`. Before another session gets what is queued, the application may look
 * at it: `session` events, `queued`, `inDoubt`, and the option `initial`.
 */
export class ResumableSocket extends Socket {
  #handler = new Handlers(this);
  /** @type {Options['initial']} */
  #initial;
  /** @type {readonly Data[]} */
  #inDoubt = Object.freeze([]);

  static {
    meetBy((/** @type {ResumableSocket} */ socket) => socket.#meet());
  }

  /**
   * @param {ForAttempt<string | URL>} url or a function that names it for each attempt
   * @param {Options | string | string[]} [options] or, as with a WebSocket, the application's own subprotocols
   */
  constructor(url, options = undefined) {
    const initial = isProtocols(options) ? undefined : options.initial;
    if (initial !== undefined && typeof initial !== 'function') throw new TypeError('initial must be a function');
    // Not by name: a call without a URL is told from one with `undefined`.
    super(.../** @type {[any, any]} */ (/** @type {unknown} */ (arguments)));
    this.#initial = initial;
    if (initial) this.#hold();
    super.addEventListener('status', (/** @type {StatusEvent} */ event) => {
      // Where nobody is asked, nothing takes them out again.
      if (inside(this).hold && event.status === 'lost' && event.reason === 'in doubt') this.#inDoubt = Object.freeze([...this.#inDoubt, ...event.messages]);
    });
  }

  /**
   * @template {keyof SessionEventMap} K
   * @overload
   * @param {K} type
   * @param {(this: ResumableSocket, event: SessionEventMap[K]) => any} listener
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
    if (type === 'session') this.#hold();
  }

  /** @returns {((this: ResumableSocket, event: SessionEvent) => any) | null} */
  get onsession() {
    return this.#handler.get('session');
  }
  set onsession(handler) {
    this.#handler.set('session', handler);
  }

  /**
   * What was sent and never written, oldest first: no server has it. What is assigned takes its place; it counts in
   * `bufferedAmount`, and no limit of the buffer is looked at.
   *
   * Throws as `send` does where the socket is closed or a message is longer than the server takes; then nothing is changed.
   *
   * @returns {readonly Data[]}
   */
  get queued() {
    return Object.freeze(unwritten(inside(this)).map(({ data }) => data));
  }
  set queued(messages) {
    if (this.readyState > 1) throw new DOMException('the socket is closed', 'InvalidStateError');
    this.#replace(Array.from(messages, (data) => outgoing(this, data)), inside(this).hold);
  }

  /**
   * What the session before may or may not have had, as `lost` has told: until the queue goes to the next one. It is never
   * sent again by itself. What is assigned takes its place. Empty where neither a `session` listener nor `initial` is there.
   *
   * @returns {readonly Data[]}
   */
  get inDoubt() {
    return this.#inDoubt;
  }
  set inDoubt(messages) {
    this.#inDoubt = Object.freeze([...messages]);
  }

  /** Asks from now on. */
  #hold() {
    const state = inside(this);
    if (!state.hold) this.#replace(unwritten(state), 'next');
  }

  /**
   * @param {Outgoing[]} messages
   * @param {Hold | null} hold
   */
  #replace(messages, hold) {
    inside(this, { type: 'queue', messages, hold });
  }

  /** There is another session: the application first, then the queue. */
  #meet() {
    this.dispatchEvent(Object.assign(new Event('session'), { queued: this.queued, inDoubt: this.inDoubt }));
    /** @type {Outgoing[]} */
    let first = [];
    // As a listener: what it throws is reported, and stops nothing here.
    const hook = new EventTarget();
    hook.addEventListener('session', () => {
      const given = this.#initial?.() ?? [];
      first = (Array.isArray(given) ? given : [given]).map((data) => outgoing(this, data));
    });
    hook.dispatchEvent(new Event('session'));
    this.#inDoubt = Object.freeze([]);
    this.#replace([...first, ...unwritten(inside(this))], 'next');
  }
}

// One interface, not one that inherits: tools that patch a WebSocket look at its own members.
const { prototype } = ResumableSocket;
Object.defineProperties(prototype, { ...Object.getOwnPropertyDescriptors(Socket.prototype), ...Object.getOwnPropertyDescriptors(prototype) });
asInterface(ResumableSocket, 'ResumableSocket', { CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3 });
