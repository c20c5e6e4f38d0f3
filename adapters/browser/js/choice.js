// By which way a client comes: a WebSocket, a stream over HTTP, or polls.
//
// Nothing is concluded from a failure alone: a server that is down fails on every way, and one that was down a moment
// ago has its hello over HTTP. So a client that has come over HTTP looks whether a WebSocket passes. Where it does not, and
// HTTP goes on to bring something from the same server, WebSockets are blocked.

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
  /** The last WebSocket had no hello, and no transport has had one since. */
  #failed = false;
  /** WebSockets are blocked: no; a look says so; HTTP has brought something since, so that the server was there. @type {'no' | 'perhaps' | 'yes'} */
  #blocked;
  /** WebSockets in a row that died soon after their hello. */
  #deaths = 0;
  /** Something on the way holds streams back. */
  #buffered;
  /** When the WebSocket had its hello that is the transport now. @type {number | null} */
  #since = null;
  /** Which wait follows the next look of the pipe that is the transport now. @type {number | null} */
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
    this.#blocked = http ? 'yes' : 'no';
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
   * The attempt has had its hello. Returns what to remember: null for nothing any more, or undefined for what is there.
   *
   * @param {Way} way
   * @param {number} now
   */
  greeted(way, now) {
    this.#row = 0;
    this.#off();
    this.#next = way === WEBSOCKET;
    const failed = this.#failed;
    this.#failed = false;
    if (this.#next) {
      this.#blocked = 'no';
      this.#since = now;
      return null;
    }
    // The server may have been down when the WebSocket failed: that is soon found out.
    this.#probes = failed ? 0 : 1;
    if (this.#websocket) this.due = failed ? now : now + probeAfter(0);
  }

  /** The pipe has brought something. Returns what to remember. @returns {Way | undefined} */
  heard() {
    if (this.#blocked !== 'perhaps') return;
    this.#blocked = 'yes';
    return this.way;
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
        // As good as none that had a hello. A look just now would find that WebSockets pass.
        this.#deaths = 0;
        this.#turn(true);
      }
    }
    this.#off();
  }

  /** Something on the way holds streams back. Returns what to remember. @returns {Way | undefined} */
  heldBack() {
    this.#buffered = true;
    return this.#probes !== null && this.#poll && this.#blocked === 'yes' ? 'poll' : undefined;
  }

  /**
   * The network has changed: what was found out is of another one, and what is remembered, too.
   *
   * @param {number} now
   */
  moved(now) {
    this.#buffered = false;
    this.#deaths = 0;
    this.#blocked = 'no';
    if (!this.#websocket) return;
    if (this.#probes !== null) {
      this.#probes = 1;
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
    else {
      this.#blocked = 'perhaps';
      this.due = now + probeAfter(this.#probes++);
    }
    return good;
  }

  #off() {
    this.#since = this.#probes = this.due = null;
    // The server of which the look was may be gone.
    if (this.#blocked === 'perhaps') this.#blocked = 'no';
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
