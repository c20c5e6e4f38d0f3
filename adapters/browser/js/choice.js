// By which way a client comes: a WebSocket, a stream over HTTP, or polls.
//
// Nothing is concluded from a failure alone: a server that is down fails on every way. Only a hello over HTTP where a
// WebSocket had none says that WebSockets are blocked. Then the client looks back now and then.

import { CHOICE_DEATHS, CHOICE_DIED_WITHIN, CHOICE_PROBES } from './protocol.js';

/** @import { Way } from './types.js' */

const WEBSOCKET = 'websocket';

/** @param {number} probes */
const probeAfter = (probes) => CHOICE_PROBES[Math.min(probes, CHOICE_PROBES.length - 1)];

export class Choice {
  #websocket;
  #sse;
  #poll;
  /** The next attempt is a WebSocket. */
  #next;
  /** Attempts in a row without a hello. */
  #row = 0;
  /** The last WebSocket had no hello, and none has had one since. */
  #failed = false;
  /** WebSockets in a row that died soon after their hello. */
  #deaths = 0;
  /** Something on the way holds streams back. */
  #buffered;
  /** When the WebSocket had its hello that is the transport now. @type {number | null} */
  #since = null;
  /** How often the pipe has looked for a WebSocket that is the transport now. @type {number | null} */
  #probes = null;
  /** When it looks again; null: a look is under way, or WebSockets are not allowed. @type {number | null} */
  due = null;

  /**
   * @param {readonly Way[]} allowed
   * @param {Way | null} remembered what another page has found out at this origin
   */
  constructor(allowed, remembered) {
    const [websocket, sse, poll] = /** @type {Way[]} */ ([WEBSOCKET, 'sse', 'poll']).map((way) => allowed.includes(way));
    this.#websocket = websocket;
    this.#sse = sse;
    this.#poll = poll;
    const http = (sse || poll) && remembered !== WEBSOCKET ? remembered : null;
    this.#next = websocket && !http;
    this.#buffered = http === 'poll';
  }

  /** The way of the next attempt. @returns {Way} */
  get way() {
    return this.#next ? WEBSOCKET : this.#sse && !(this.#buffered && this.#poll) ? 'sse' : 'poll';
  }

  /**
   * The attempt has had no hello. Returns whether another follows at once.
   *
   * @param {Way} way
   */
  failed(way) {
    this.#off();
    this.#failed ||= way === WEBSOCKET;
    this.#row++;
    return this.#turn(way === WEBSOCKET) && this.#row % 2 === 1;
  }

  /**
   * The attempt has had its hello. Returns what to remember: a way, null for nothing any more, or undefined.
   *
   * @param {Way} way
   * @param {number} now
   */
  greeted(way, now) {
    this.#row = 0;
    this.#off();
    this.#next = way === WEBSOCKET;
    if (this.#next) {
      this.#failed = false;
      this.#since = now;
      return null;
    }
    this.#probes = 0;
    if (this.#websocket) this.due = now + probeAfter(0);
    const blocked = this.#failed;
    this.#failed = false;
    return blocked ? way : undefined;
  }

  /**
   * The transport is gone that had had its hello.
   *
   * @param {boolean} closed the server said a close
   * @param {number} now
   */
  gone(closed, now) {
    if (this.#since !== null) {
      this.#deaths = !closed && now < this.#since + CHOICE_DIED_WITHIN ? this.#deaths + 1 : 0;
      if (this.#deaths >= CHOICE_DEATHS) {
        // As good as none that had a hello.
        this.#deaths = 0;
        this.#failed = true;
        this.#turn(true);
      }
    }
    this.#off();
  }

  /** Something on the way holds streams back. Returns what to remember. @returns {Way | undefined} */
  heldBack() {
    this.#buffered = true;
    return this.#probes !== null && this.#poll ? 'poll' : undefined;
  }

  /**
   * The network has changed: what was found out is of another one, and what is remembered, too.
   *
   * @param {number} now
   */
  moved(now) {
    this.#buffered = false;
    this.#deaths = 0;
    if (!this.#websocket) return;
    if (this.#probes !== null) {
      this.#probes = 0;
      this.due = now;
    } else if (this.#since === null) this.#next = true;
  }

  /**
   * Whether to look now if a WebSocket passes.
   *
   * @param {number} now
   */
  looks(now) {
    const due = this.due !== null && now >= this.due;
    if (due) this.due = null;
    return due;
  }

  /**
   * What a look has found. Returns whether to come by a WebSocket, at once.
   *
   * @param {boolean} good
   * @param {number} now
   */
  looked(good, now) {
    if (this.#probes === null) return false;
    if (good) this.#next = true;
    else this.due = now + probeAfter(++this.#probes);
    return good;
  }

  #off() {
    this.#since = this.#probes = this.due = null;
  }

  /**
   * The next attempt is of the other side, if that is allowed. Returns whether it is.
   *
   * @param {boolean} websocket
   */
  #turn(websocket) {
    const allowed = websocket ? this.#sse || this.#poll : this.#websocket;
    this.#next = websocket !== allowed;
    return allowed;
  }
}
