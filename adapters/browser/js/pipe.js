// The client's end of a pipe, as pure as the machine: which requests to send, and what has come of them. It is the twin
// of `pipe::client` in the Rust crate `session-resume-proto`, and tests/vectors/http.json has scripts for both.
//
// At most two requests are under way: a get (or the open) and a post.

import { encodeFrame, CLOSE, BINARY, EventReader, FrameReader, join, PING, readCloseLine, TEXT } from './frames.js';
import {
  EVENTS, FRAMES, PIPE_ABSENT, PIPE_BATCH_BYTES, PIPE_BATCH_FRAMES, PIPE_BUFFERED, PIPE_CONFIRM_BYTES, PIPE_CONFIRM_FRAMES, PIPE_GET_SLACK, PIPE_HOLD,
  PIPE_OPEN_REPEATED, PIPE_PAUSE, PIPE_POST_GIVEN_UP, PIPE_RETRY,
} from './protocol.js';
import { byteLength } from './idl.js';
import { decode, encodeControl } from './wire.js';

/** @import { Arrival, Lane, PipeFrame, PipeRequest } from './types.js' */

/** @typedef {{ code: number, reason: string }} Said */
/** @typedef {'open' | 'closed' | 'confirming' | 'leaving' | 'over'} Phase `closed`: the server has; one more request confirms that */
/**
 * @typedef {object} Get the open or the get that is under way
 * @property {boolean} stream
 * @property {number | undefined} ack what it says of our position
 * @property {number} began
 * @property {number} until when it is given up
 * @property {FrameReader | EventReader | null} reader of its body
 * @property {number} next the number of the next frame in it
 * @property {boolean} begun a byte of the body has come
 * @property {boolean} useful a frame has come
 * @property {boolean} flows the mark of flow has come
 * @property {number} flow when something on the way is found to hold the stream back
 */
/** @typedef {{ bytes: Uint8Array<ArrayBuffer>, size: number, message: boolean, ack?: boolean }} Queued */
/** @typedef {{ body: Uint8Array<ArrayBuffer>, frames: number, messages: number, at: number, sent: boolean }} Post `at`: when it is sent, or given up */

const PREFIX = 'session-resume-';
const ACK = /^\u0001\{"ack":(\d+)\}$/;

/** @param {string | null} text */
const integer = (text) => (text !== null && /^\d{1,16}$/.test(text) ? +text : undefined);

export class PipeClient {
  /** @type {Arrival[]} */
  arrivals = [];
  /** Requests to abort: nothing of them matters any more. @type {Lane[]} */
  aborts = [];
  /** Gets may not wait: they come again every second. */
  asks = false;
  /** Frames come down on a stream, if gets may wait. */
  stream;
  #nonce;
  #offer;
  #random;
  /** @type {string | null} */
  #token = null;
  #absent = PIPE_ABSENT;
  #hold = PIPE_HOLD;
  #heartbeat = PIPE_HOLD;
  /** @type {Phase} */
  #phase = 'open';
  /** When `confirming` or `leaving` is over. */
  #until = 0;
  /** The number of the next frame down; all before `told` were confirmed by a request. */
  #next = 0;
  #told = 0;
  /** Bytes since. */
  #bytes = 0;
  /** When a post must confirm what has come on a stream. @type {number | null} */
  #due = null;
  /** @type {Get | null} */
  #get = null;
  /** When the next get goes. */
  #getAt;
  /** Gets in a row that were answered with nothing before their time. */
  #displaced = 0;
  /** The number of the next frame up that no answer covers. */
  #up = 0;
  /** @type {Queued[]} */
  #queue = [];
  /** It is repeated byte for byte until it is answered. @type {Post | null} */
  #post = null;
  /** Requests in a row that failed. @type {{ [lane in Lane]: { since: number | null, row: number } }} */
  #failures = { get: { since: null, row: 0 }, post: { since: null, row: 0 } };
  /** The first acknowledgement has left us: the answer to the hello. */
  #answered = false;
  /** The position that the next get tells. @type {number | undefined} */
  #ack;
  /** How many of our messages the server has for sure; null before the hello. @type {number | null} */
  #sure = null;
  /** What an answer to a post must cover first, with how many messages it needs. @type {[number, Arrival][]} */
  #held = [];

  /**
   * @param {boolean} stream
   * @param {string} nonce fresh for each attempt
   * @param {string} offer as `Sec-WebSocket-Protocol` has it
   * @param {number} now
   * @param {() => number} random
   */
  constructor(stream, nonce, offer, now, random) {
    this.stream = stream;
    this.#nonce = nonce;
    this.#offer = offer;
    this.#getAt = now;
    this.#random = random;
  }

  /** Nothing will ever happen here again. */
  get over() {
    return this.#phase === 'over';
  }

  /** The server has named the pipe. */
  get open() {
    return this.#token !== null;
  }

  /**
   * Queues a frame of the machine.
   *
   * @param {string | Uint8Array<ArrayBuffer>} data
   */
  send(data) {
    if (this.#phase !== 'open') return;
    const text = typeof data === 'string';
    const ack = text && ACK.exec(data)?.[1];
    if (ack) {
      // The next get tells it, and needs no post.
      if (!this.stream && this.#token && !this.#get) this.#ack = +ack;
      else this.#pushAck(+ack);
      return;
    }
    // The answer to the hello comes first.
    if (!this.#answered) this.#postAck();
    const bytes = encodeFrame(text ? TEXT : BINARY, data);
    this.#queue.push({ bytes, size: bytes.length - 5, message: !text || !data.startsWith('\u0001{') });
  }

  /**
   * Closes: what is queued goes up, and this behind it. Nothing comes down any more.
   *
   * @param {Said} close
   * @param {number} now
   */
  close({ code, reason }, now) {
    if (this.#phase !== 'open') return;
    if (!this.#token) return this.abandon();
    this.#postAck();
    const bytes = encodeFrame(CLOSE, reason, code);
    this.#queue.push({ bytes, size: bytes.length - 5, message: false });
    this.#phase = 'leaving';
    this.#until = now + PIPE_POST_GIVEN_UP;
    this.#abortGet(now);
  }

  /** Drops the pipe without a word: the server finds it absent. */
  abandon() {
    if (this.#get) this.aborts.push('get');
    if (this.#post?.sent) this.aborts.push('post');
    this.#phase = 'over';
  }

  /** @param {number} now */
  giveWayToOthers(now) {
    this.asks = true;
    this.#abortGet(now);
  }

  /**
   * The head of an answer has come. Returns whether its body matters: then it goes to `body`, and `end` or `fail` ends it.
   *
   * @param {Lane} lane
   * @param {number} status
   * @param {(name: string) => string | null} header
   * @param {number} now
   */
  answer(lane, status, header, now) {
    const phase = this.#phase;
    if (phase === 'over') return false;
    if (phase === 'confirming' && lane === 'get') {
      this.#phase = 'over';
      return false;
    }
    const pipe = header(`${PREFIX}pipe`);
    const ours = this.#token ? pipe === this.#token : pipe?.startsWith(`${this.#nonce}.`);
    const number = (/** @type {string} */ name) => integer(header(name));
    const retryAfter = 1000 * (number('retry-after') ?? 0);
    if (status === 413) this.#end({ closed: { code: 1009, reason: 'message too big' } });
    else if (status === 401 || status === 403) this.#end({ refused: status });
    else if (!ours || status === 408 || status === 425 || status === 429) this.fail(lane, now, retryAfter);
    else if (status === 200 && lane === 'get') return this.#begin(/** @type {string} */ (pipe), number(`${PREFIX}down`), now);
    else if (status === 204 && lane === 'post') this.#taken(number(`${PREFIX}up`), now);
    else if (status === 409) this.#end({ copied: true });
    else if (status === 410) {
      this.#release(Infinity);
      this.#end({ closed: readCloseLine(header(`${PREFIX}close`)) });
    } else if (status === 503 && lane === 'post') {
      // The handler is busy, and the pipe is well.
      this.#well(lane);
      this.#repeat(now + (retryAfter || PIPE_PAUSE));
    } else if (status >= 400 && status < 500) this.#end({ refused: status });
    else this.fail(lane, now, retryAfter);
    return false;
  }

  /**
   * The next piece of the answer to a get.
   *
   * @param {Uint8Array<ArrayBuffer>} piece
   * @param {number} now
   */
  body(piece, now) {
    const get = this.#get;
    if (!get?.reader || this.#phase !== 'open' || !piece.length) return;
    if (get.stream) {
      get.until = now + Math.max(this.#hold, this.#heartbeat) + PIPE_GET_SLACK;
      if (!get.begun) get.flow = Infinity;
      get.begun = true;
    }
    try {
      for (const item of get.reader.feed(piece)) {
        this.#take(get, item, now);
        if (this.#phase !== /** @type {Phase} */ ('open')) return;
      }
    } catch {
      const reason = 'protocol error';
      this.arrivals.push({ closed: { code: 4103, reason }, broken: true });
      this.close({ code: 4103, reason }, now);
    }
  }

  /**
   * The answer to a get has ended cleanly.
   *
   * @param {number} now
   */
  end(now) {
    const get = this.#get;
    if (!get) return;
    if (!get.reader || get.reader.inside) return this.fail('get', now);
    if (this.#phase !== 'open') return;
    const soon = Math.min(PIPE_PAUSE, this.#hold / 2);
    const early = !get.useful && (!soon || now < get.began + soon);
    this.#displaced = early ? this.#displaced + 1 : 0;
    this.#well('get');
    this.#get = null;
    // What has come must be confirmed at once: the server may be asking whether somebody is there.
    this.#getAt = this.asks && !get.useful ? get.began + PIPE_PAUSE : this.#displaced > 1 ? now + PIPE_PAUSE : now;
  }

  /**
   * The request has failed, or its answer was cut.
   *
   * @param {Lane} lane
   * @param {number} now
   * @param {number} [retryAfter]
   */
  fail(lane, now, retryAfter = 0) {
    if (this.over) return;
    if (this.#phase === 'confirming' && lane === 'get') {
      this.#phase = 'over';
      return;
    }
    const failures = this.#failures[lane];
    failures.since ??= now;
    const end = failures.since + (this.#token ? this.#absent : PIPE_OPEN_REPEATED);
    if (now >= end) return this.#end({ closed: null });
    const half = (PIPE_RETRY / 2) * 2 ** failures.row++;
    const at = Math.min(end, now + Math.max(retryAfter, half + half * this.#random()));
    if (lane === 'post') return this.#repeat(at);
    this.#get = null;
    this.#getAt = at;
  }

  /** @param {number} now */
  timeout(now) {
    const phase = this.#phase;
    if (phase === 'over') return;
    if ((phase === 'confirming' || phase === 'leaving') && now >= this.#until) return this.abandon();
    const get = this.#get;
    if (get && phase === 'open') {
      if (now >= get.flow) {
        // What it has brought is good. The next get goes on, on the same pipe.
        this.stream = false;
        this.#abortGet(now);
      } else if (now >= get.until) {
        this.aborts.push('get');
        this.fail('get', now);
      }
    }
    if (this.#post?.sent && now >= this.#post.at) {
      this.aborts.push('post');
      this.fail('post', now);
    }
  }

  /**
   * The next request to send. What has come goes to the machine first, and its frames to `send`: a get then tells its
   * position.
   *
   * @param {number} now
   * @returns {PipeRequest | null}
   */
  request(now) {
    switch (this.#phase) {
      case 'open':
        return this.#pollGet(now) ?? this.#pollPost(now);
      case 'closed':
        // The close is confirmed by a request to which nobody listens long.
        if (this.#held.length && this.#post) return this.#pollPost(now);
        if (this.#post?.sent) this.aborts.push('post');
        this.#phase = 'confirming';
        this.#until = now + PIPE_GET_SLACK;
        return this.#getRequest(false, 0);
      case 'leaving':
        return this.#pollPost(now);
    }
    return null;
  }

  /** When to call `timeout` and `request`. */
  get due() {
    const post = this.#post?.at ?? Infinity;
    switch (this.#phase) {
      case 'over':
        return Infinity;
      case 'confirming':
        return this.#until;
      case 'leaving':
        return Math.min(this.#until, post);
      case 'closed':
        return post;
    }
    const get = this.#get;
    return Math.min(get ? Math.min(get.flow, get.until) : this.#getAt, post, this.#post ? Infinity : (this.#due ?? Infinity));
  }

  // ------------------------------------------------------------------ gets

  /** @param {number} now */
  #pollGet(now) {
    if (this.#get || now < this.#getAt) return null;
    const stream = this.stream && !this.asks;
    const wait = this.asks ? 0 : undefined;
    this.#get = {
      stream, ack: this.#ack, began: now, reader: null, next: 0, begun: false, useful: false, flows: false,
      until: now + (wait ?? this.#hold) + PIPE_GET_SLACK,
      flow: stream ? now + PIPE_BUFFERED : Infinity,
    };
    if (this.#token) {
      this.#answered ||= this.#ack !== undefined;
      this.#confirmed();
    }
    return this.#getRequest(stream, wait, this.#ack);
  }

  /**
   * @param {boolean} stream
   * @param {number} [wait]
   * @param {number} [ack]
   * @returns {PipeRequest}
   */
  #getRequest(stream, wait, ack) {
    const headers = this.#headers('accept', stream ? EVENTS : FRAMES);
    if (this.#token) headers[`${PREFIX}down`] = `${this.#next}`;
    else {
      headers['content-type'] = FRAMES;
      headers[`${PREFIX}offer`] = this.#offer;
    }
    if (wait !== undefined) headers[`${PREFIX}wait`] = `${wait}`;
    if (ack !== undefined) headers[`${PREFIX}ack`] = `${ack}`;
    return { lane: 'get', method: this.#token ? 'GET' : 'POST', headers, body: undefined, whole: !stream };
  }

  /**
   * @param {string} name
   * @param {string} value
   * @returns {Record<string, string>}
   */
  #headers(name, value) {
    return { [name]: value, [`${PREFIX}pipe`]: this.#token ?? this.#nonce };
  }

  /**
   * @param {string} pipe
   * @param {number | undefined} down
   * @param {number} now
   */
  #begin(pipe, down = this.#next, now) {
    const get = this.#get;
    if (!get) return false;
    if (down > this.#next) {
      this.fail('get', now);
      return false;
    }
    get.reader = get.stream ? new EventReader() : new FrameReader();
    get.next = down;
    if (get.ack === this.#ack) this.#ack = undefined;
    this.#token ??= pipe;
    return true;
  }

  /**
   * @param {Get} get
   * @param {PipeFrame} item
   * @param {number} now
   */
  #take(get, item, now) {
    if (item.comment !== undefined) {
      if (item.comment === 'flow') {
        get.flows = true;
        get.flow = Infinity;
      }
      return;
    }
    const number = get.next++;
    if (!number && get.stream && !get.flows) get.flow = now + PIPE_BUFFERED;
    if (number < this.#next) return;
    get.useful = true;
    this.#well('get');
    this.#next++;
    const { data, close } = item;
    if (data !== undefined) this.#bytes += byteLength(data);
    if (get.stream) this.#due ??= now + this.#heartbeat;
    if (typeof data === 'string') this.#pass(data);
    else if (data) this.arrivals.push({ data });
    else if (item.kind === PING) this.#due = now;
    else if (close) {
      this.#passBehind({ closed: close });
      this.#phase = 'closed';
      this.#queue = [];
      this.#abortGet(now);
    }
  }

  /**
   * The get is of no use any more; the next one may go at once.
   *
   * @param {number} now
   */
  #abortGet(now) {
    if (this.#get) this.aborts.push('get');
    this.#get = null;
    this.#getAt = now;
  }

  // ----------------------------------------------------------------- posts

  /**
   * @param {number} now
   * @returns {PipeRequest | null}
   */
  #pollPost(now) {
    if (!this.#token) return null;
    if (this.#post) {
      if (this.#post.sent || now < this.#post.at) return null;
    } else {
      if (!this.#queue.length && !this.#mustConfirm(now)) return null;
      this.#post = this.#batch();
    }
    this.#post.sent = true;
    this.#post.at = now + PIPE_POST_GIVEN_UP;
    const headers = this.#headers('content-type', FRAMES);
    headers[`${PREFIX}up`] = `${this.#up}`;
    headers[`${PREFIX}down`] = `${this.#next}`;
    this.#confirmed();
    return { lane: 'post', method: 'POST', headers, body: this.#post.body, whole: true, last: this.#phase === 'leaving' };
  }

  /** @returns {Post} */
  #batch() {
    const queue = this.#queue;
    let frames = 0;
    for (let bytes = 0; frames < Math.min(queue.length, PIPE_BATCH_FRAMES); frames++) {
      bytes += queue[frames].size;
      if (frames && bytes > PIPE_BATCH_BYTES) break;
    }
    const taken = queue.splice(0, frames);
    return { body: join(taken.map(({ bytes }) => bytes)), frames, messages: taken.filter(({ message }) => message).length, at: 0, sent: false };
  }

  /**
   * On a stream posts must confirm what has come: there is no next get.
   *
   * @param {number} now
   */
  #mustConfirm(now) {
    const frames = this.#next - this.#told;
    const due = this.#phase === 'open' && frames > 0 ? this.#due : null;
    return due !== null && (now >= due || frames >= PIPE_CONFIRM_FRAMES || this.#bytes >= PIPE_CONFIRM_BYTES);
  }

  /**
   * @param {number | undefined} expected
   * @param {number} now
   */
  #taken(expected, now) {
    const post = this.#post;
    if (!post?.sent) return;
    const next = this.#up + post.frames;
    if ((expected ?? next) !== next) return this.fail('post', now);
    this.#up = next;
    this.#post = null;
    this.#well('post');
    if (this.#sure !== null) this.#release((this.#sure += post.messages));
    if (this.#phase === 'leaving' && !this.#queue.length) this.#phase = 'over';
  }

  /** @param {number} at */
  #repeat(at) {
    if (!this.#post?.sent) return;
    this.#post.sent = false;
    this.#post.at = at;
  }

  /** An acknowledgement that a get was to tell goes with the next post. */
  #postAck() {
    if (this.#ack !== undefined) this.#pushAck(this.#ack);
  }

  /**
   * One that no post has takes the newer number.
   *
   * @param {number} position
   */
  #pushAck(position) {
    this.#answered = true;
    this.#ack = undefined;
    if (this.#queue.at(-1)?.ack) this.#queue.pop();
    const bytes = encodeFrame(TEXT, encodeControl({ ack: position }));
    this.#queue.push({ bytes, size: bytes.length - 5, message: false, ack: true });
  }

  // ------------------------------------------------------------- both lanes

  /** A request says that everything so far has come. */
  #confirmed() {
    this.#told = this.#next;
    this.#bytes = 0;
    this.#due = null;
  }

  /** @param {Lane} lane */
  #well(lane) {
    this.#failures[lane] = { since: null, row: 0 };
  }

  /**
   * The transport is over, whatever is under way.
   *
   * @param {Arrival} arrival
   */
  #end(arrival) {
    if (this.#phase === 'open') this.arrivals.push(arrival);
    // The server's close is news even where nothing covers what it was behind.
    else if (this.#phase === 'closed') this.arrivals.push(...this.#held.map(([, held]) => held).filter(({ closed }) => closed !== undefined));
    this.#held = [];
    this.abandon();
  }

  // ----------------------- what no answer to a post covers
  //
  // Copies of a page share a pipe without knowing it. The server acknowledges the messages of both, and only the answers to
  // posts tell whose they were.

  /** @param {string} text */
  #pass(text) {
    const read = decode(text);
    // What cannot be read is the machine's to judge.
    const control = 'control' in read ? read.control : {};
    const { hello, ...others } = control;
    if (hello) {
      this.#sure = hello.received ?? 0;
      this.#absent = hello.absent_ms ?? this.#absent;
      this.#hold = hello.hold_ms ?? this.#hold;
      this.#heartbeat = hello.heartbeat_ms || this.#hold;
    }
    const { ack, hb, dropped, done, ...now } = others;
    const later = { ack, hb, dropped, done };
    const needs = Math.max(ack ?? -1, hb ?? -1, (dropped ?? -2) + 1, done?.received ?? -1);
    if (needs < 0 || (!this.#held.length && needs <= (this.#sure ?? Infinity))) {
      this.arrivals.push({ data: text });
      return;
    }
    // It has its place between the messages.
    if (hello || Object.keys(now).length) this.arrivals.push({ data: encodeControl({ hello, ...now }) });
    this.#held.push([needs, { data: encodeControl(later) }]);
  }

  /**
   * Passes on, behind what waits.
   *
   * @param {Arrival} arrival
   */
  #passBehind(arrival) {
    this.#held.push([0, arrival]);
    if (this.#held.length === 1) this.#release(0);
  }

  /**
   * Passes on what is covered.
   *
   * @param {number} sure
   */
  #release(sure) {
    while (this.#held.length && this.#held[0][0] <= sure) this.arrivals.push(/** @type {[number, Arrival]} */ (this.#held.shift())[1]);
  }
}
