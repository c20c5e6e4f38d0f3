// A socket for libraries that know nothing of sessions.

import { ResumableSocket } from './index.js';

/** @import { Data, ForAttempt, Options } from './types.js' */

/** Of our own, where something is gone. */
const BROKEN = 4000;
/** What these tell is something that the library has had, or counts on, and that is gone. */
const GONE = ['expired', 'gap', 'takenback', 'lost'];

/**
 * A socket that is whole or closed. A library that talks a protocol of its own over a WebSocket does not look at `status`. So where something of its
 * session is gone, this one breaks as a connection does: a `close` event that is not clean, with code 4000 and the reason. Nothing comes
 * behind the gap, and what was sent to one session never goes to another.
 */
export class StrictSocket extends ResumableSocket {
  #broken = false;

  /**
   * @param {ForAttempt<string | URL>} url or a function that names it for each attempt
   * @param {Options | string | string[]} [options] or, as with a WebSocket, the application's own subprotocols
   */
  constructor(url, options = undefined) {
    // Not by name: a call without a URL is told from one with `undefined`.
    super(.../** @type {[any, any]} */ (/** @type {unknown} */ (arguments)));
    // These listeners come before all others.
    let sessions = 0;
    this.addEventListener('session', () => {
      if (sessions++) this.#break('another session');
    });
    this.addEventListener('status', ({ status }) => {
      if (GONE.includes(status)) this.#break(status);
    });
    this.addEventListener('message', (event) => {
      if (this.#broken) event.stopImmediatePropagation();
    });
    this.addEventListener('close', (event) => {
      if (this.#broken) Object.defineProperty(event, 'wasClean', { value: false });
    });
  }

  /**
   * Sends a message, at once or as soon as there is a connection, exactly once.
   *
   * As with a WebSocket, what is sent after `close` goes nowhere, and a buffer that is full, or a message that is longer than the server
   * takes, breaks the socket.
   *
   * @param {Data} data
   */
  send(data) {
    // Not by name, as above.
    if (arguments.length && this.readyState > 1) return;
    try {
      super.send(.../** @type {[Data]} */ (/** @type {unknown} */ (arguments)));
    } catch (/** @type {any} */ error) {
      if (error.name !== 'QuotaExceededError') throw error;
      this.#break(error.message);
    }
  }

  /** @param {string} reason */
  #break(reason) {
    // Once, and not for what an end leaves over.
    if (this.readyState > 1) return;
    this.#broken = true;
    // For the session that is gone.
    this.queued = [];
    this.close(BROKEN, reason);
  }
}
