// A pipe with the members of a WebSocket: it carries out what the pure end in pipe.js decides.

import { GOODBYE, lost, refusal } from './close.js';
import { PipeClient } from './pipe.js';
import { PIPE_ACK_AFTER, PROTOCOL } from './protocol.js';

/** @import { Arrival, CloseKind, Env, Lane, PipeRequest, Transport, Way } from './types.js' */

/** Browsers refuse to send more on behalf of a page that is gone. */
const KEEPALIVE = 60_000;

/** @implements {Transport} */
export class Pipe {
  /** @type {BinaryType} */
  binaryType = 'blob';
  protocol = PROTOCOL;
  ackAfter = PIPE_ACK_AFTER;
  readyState = 0;
  /** @type {Transport['onopen']} */
  onopen = null;
  /** @type {Transport['onmessage']} */
  onmessage = null;
  /** @type {Transport['onclose']} */
  onclose = null;
  /** @type {Transport['onerror']} */
  onerror = null;
  /** The stream was held back: it polls from now on. @type {(() => void) | null} */
  onform = null;
  #env;
  #url;
  /** @type {PipeClient} */
  #client;
  /** @type {Partial<Record<Lane, AbortController>>} */
  #underWay = {};
  /** @type {unknown} */
  #timer;
  #woken = false;
  /** What is behind a Blob whose bytes are not there yet. @type {(string | Uint8Array<ArrayBuffer> | null)[]} */
  #behind = [];
  /** What `close` was told. @type {{ code: number, reason: string } | null} */
  #closing = null;
  #stream;
  #init;

  /**
   * @param {Env} env
   * @param {string} url
   * @param {string[]} protocols
   * @param {boolean} stream
   * @param {RequestInit} [init] the application's headers and credentials
   */
  constructor(env, url, protocols, stream, { headers, credentials = 'include' } = {}) {
    this.#init = { headers, credentials };
    this.#env = env;
    this.#url = url;
    this.#stream = stream;
    this.#client = new PipeClient(stream, nonce(), protocols.join(', '), env.now(), () => env.random());
  }

  /** Frames come down on a stream; something on the way may make polls of it. */
  get stream() {
    return this.#client.stream;
  }

  /** How they come now. @returns {Way} */
  get way() {
    return this.#client.stream && !this.#client.asks ? 'sse' : 'poll';
  }

  /**
   * Whether gets may wait at the server.
   *
   * @param {boolean} may
   */
  hangs(may) {
    if (may) this.#client.asks = false;
    else if (!this.#client.asks) this.#client.giveWayToOthers(this.#env.now());
    this.run();
  }

  /** @param {any} data */
  send(data) {
    const blob = typeof data === 'object' && 'size' in data;
    if (!blob && !this.#behind.length) return this.#send(bytesOf(data));
    const at = this.#behind.length;
    this.#behind.push(blob ? null : bytesOf(data));
    if (blob) this.#read(data, at);
  }

  /**
   * @param {number} [code]
   * @param {string} [reason]
   */
  close(code = GOODBYE.code, reason = '') {
    if (this.readyState > 1) return;
    this.readyState = 2;
    this.#closing = { code, reason };
    this.#client.close(this.#closing, this.#env.now());
    // At once: the page may be about to go.
    this.run();
  }

  /**
   * Does what is to be done now. What has come goes first: a get then tells its position.
   */
  run() {
    const client = this.#client;
    const now = this.#env.now();
    this.#woken = false;
    client.timeout(now);
    do {
      for (const lane of client.aborts.splice(0)) {
        this.#underWay[lane]?.abort();
        this.#underWay[lane] = undefined;
      }
      for (const arrival of client.arrivals.splice(0)) this.#arrive(arrival);
      for (let request; (request = client.request(now)); ) this.#fetch(request);
    } while (client.aborts.length || client.arrivals.length);
    if (client.over && this.#closing) this.#closed(this.#closing);
    if (client.stream !== this.#stream) {
      this.#stream = client.stream;
      this.onform?.();
    }
    this.#env.clearTimeout(this.#timer);
    if (client.due < Infinity) this.#timer = this.#env.setTimeout(() => this.run(), Math.max(0, client.due - this.#env.now()));
  }

  /** Soon, with what else is sent meanwhile. */
  #wake() {
    if (this.#woken) return;
    this.#woken = true;
    Promise.resolve().then(() => this.#woken && this.run());
  }

  /** @param {string | Uint8Array<ArrayBuffer>} data */
  #send(data) {
    this.#client.send(data);
    this.#wake();
  }

  /**
   * @param {Blob} blob
   * @param {number} at
   */
  async #read(blob, at) {
    const behind = this.#behind;
    behind[at] = new Uint8Array(await blob.arrayBuffer());
    // Indexes stay good: what has been sent is undefined.
    for (const [i, data] of behind.entries()) {
      if (data === null) return;
      if (data !== undefined) this.#send(data);
      delete behind[i];
    }
    this.#behind = [];
  }

  /** @param {Arrival} arrival */
  #arrive(arrival) {
    if (this.readyState > 1) return;
    const { data, closed, copied, refused } = arrival;
    if (data !== undefined) {
      this.onmessage?.({ data: typeof data === 'string' ? data : this.binaryType === 'blob' ? new Blob([data]) : data.buffer });
    } else if (refused) this.#closed(refusal(refused));
    else this.#closed({ ...(closed ?? lost()), copied });
  }

  /** @param {{ code: number, reason: string, kind?: CloseKind, copied?: boolean }} close */
  #closed(close) {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.#closing = null;
    this.onclose?.(close);
  }

  /** @param {PipeRequest} request */
  async #fetch({ lane, method, headers, body, whole, last }) {
    const client = this.#client;
    const controller = (this.#underWay[lane] = new AbortController());
    const { signal } = controller;
    /** @type {(run: (now: number) => void) => void} */
    const heard = (run) => {
      // Of a request that was aborted nothing matters.
      if (this.#underWay[lane] !== controller) return;
      run(this.#env.now());
      this.run();
    };
    let done = false;
    try {
      const keepalive = last && (body?.length ?? 0) < KEEPALIVE;
      const response = await /** @type {any} */ (this.#env.fetch)(this.#url, {
        // Chromium and Firefox run two gets of one URL one after the other, unless they are not to be stored.
        ...this.#init, headers: { ...this.#init.headers, ...headers }, method, body, signal, keepalive, cache: 'no-store', redirect: 'error',
      });
      let matters = false;
      heard((now) => {
        matters = client.answer(lane, response.status, (name) => response.headers.get(name), now);
        if (!client.open || this.readyState) return;
        this.readyState = 1;
        this.onopen?.({});
      });
      if (!matters) {
        done = true;
        return await response.body?.cancel();
      }
      if (whole) {
        const bytes = new Uint8Array(await response.arrayBuffer());
        heard((now) => client.body(bytes, now));
      } else {
        const reader = response.body.getReader();
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          heard((now) => client.body(value, now));
          if (this.#underWay[lane] !== controller) return;
        }
      }
      done = true;
      heard((now) => client.end(now));
    } catch {
      if (!done) heard((now) => client.fail(lane, now));
    }
  }
}

/** @param {any} data */
const bytesOf = (data) =>
  typeof data === 'string' ? data : ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);

/** 22 characters of 128 random bits: never those of another attempt. */
function nonce() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return btoa(String.fromCharCode(...bytes)).slice(0, 22).replace(/\+/g, '-').replace(/\//g, '_');
}
