// The server's end of pipes, behind a `fetch` whose requests and answers are lost, late, doubled and cut.
//
// It follows core/proto/PROTOCOL.md, "Over HTTP", and hands frames to the model server as a WebSocket would.

import { BINARY, CLOSE, encodeFrame, FrameReader, join, PING, TEXT } from '../../js/frames.js';
import { ModelServer } from './model.mjs';

const utf8 = (text) => new TextEncoder().encode(text);
const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);

/** One frame as an event. */
function event({ kind, data, code, reason }) {
  if (kind === TEXT && /[\r\0]/.test(data)) return `event: json\ndata: ${JSON.stringify(data)}\n\n`;
  if (kind === TEXT) return `${data.split('\n').map((line) => `data: ${line}`).join('\n')}\n\n`;
  if (kind === BINARY) return `event: b64\ndata: ${Buffer.from(data).toString('base64')}\n\n`;
  return kind === PING ? 'event: ping\ndata: \n\n' : `event: close\ndata: ${code} ${reason}\n\n`;
}

const encode = ({ kind, data = '', code, reason }) => (kind === CLOSE ? encodeFrame(CLOSE, reason, code) : encodeFrame(kind, data));

export class HttpServer {
  /** Answers 409: a client alone never gets one. */
  conflicts = 0;
  opens = 0;
  #world;
  #pipes = new Map();
  #tags = 0;
  #absent;
  #hold;

  constructor(world, { absent = 2000, hold = 1000 } = {}) {
    this.#world = world;
    this.#absent = absent;
    this.#hold = hold;
  }

  /** Answers one request: `answer(status, headers)`, then perhaps `write(bytes)`, and `end()`. */
  handle({ method, headers, body = new Uint8Array() }, out) {
    if (method === 'OPTIONS') return this.#say(out, 204, {});
    const name = headers['session-resume-pipe'];
    const down = Number(headers['session-resume-down'] ?? 0);
    if (headers['session-resume-offer']) return this.#get(this.#pipes.get(name) ?? this.#open(name, headers['session-resume-offer']), 0, headers, out);
    const pipe = this.#pipes.get(name.split('.')[0]);
    if (!pipe || pipe.token !== name) return this.#say(out, 410, { 'session-resume-pipe': name });
    this.#live(pipe);
    if (method === 'GET') {
      const ack = headers['session-resume-ack'];
      if (ack !== undefined && down >= pipe.base && down <= pipe.base + pipe.frames.length) pipe.conn?.frame(`\u0001{"ack":${ack}}`);
      return this.#get(pipe, down, headers, out);
    }
    return this.#post(pipe, Number(headers['session-resume-up']), down, body, out);
  }

  /** Asks each pipe whether somebody is there. */
  ping() {
    for (const pipe of this.#pipes.values()) this.#down(pipe, { kind: PING });
  }

  #open(nonce, offer) {
    const pipe = { nonce, token: `${nonce}.t${this.#tags++}`, conn: null, base: 0, frames: [], up: 0, last: null, waiting: null, closed: false, timer: null };
    this.opens++;
    this.#pipes.set(nonce, pipe);
    this.#live(pipe);
    pipe.conn = this.#world.server.attach(ModelServer.parse(offer.split(', ')), {
      send: (data) => {
        if (data.includes?.('"hello"')) data = `\u0001${JSON.stringify({ hello: { ...JSON.parse(data.slice(1)).hello, absent_ms: this.#absent, hold_ms: this.#hold } })}`;
        this.#down(pipe, { kind: typeof data === 'string' ? TEXT : BINARY, data });
      },
      close: (code, reason) => code === 1006 ? this.#gone(pipe) : this.#down(pipe, { kind: CLOSE, code, reason }),
    });
    return pipe;
  }

  /** A request, or an open get, keeps the pipe. */
  #live(pipe) {
    this.#world.cancel(pipe.timer);
    pipe.timer = this.#world.at(this.#absent, () => (pipe.waiting ? this.#live(pipe) : this.#gone(pipe)));
  }

  #gone(pipe) {
    this.#world.cancel(pipe.timer);
    this.#pipes.delete(pipe.nonce);
    pipe.waiting?.end();
    pipe.conn?.gone();
  }

  #down(pipe, frame) {
    if (pipe.closed) return;
    pipe.closed = frame.kind === CLOSE;
    pipe.frames.push(frame);
    pipe.waiting?.more();
  }

  #confirm(pipe, down) {
    if (down <= pipe.base) return;
    pipe.frames.splice(0, down - pipe.base);
    pipe.base = down;
    if (pipe.closed && !pipe.frames.length) this.#gone(pipe);
  }

  #get(pipe, down, headers, out) {
    const own = { 'session-resume-pipe': pipe.token };
    if (down < pipe.base || down > pipe.base + pipe.frames.length) {
      // An open that comes late finds a pipe that has gone on.
      if (headers['session-resume-offer'] === undefined) this.conflicts += out.second ? 0 : 1;
      return this.#say(out, 409, own);
    }
    this.#confirm(pipe, down);
    pipe.waiting?.end();
    pipe.waiting = null;
    const stream = headers.accept === 'text/event-stream';
    const wait = Math.min(Number(headers['session-resume-wait'] ?? Infinity), this.#hold);
    let next = down;
    let done = false;
    const answer = () => out.answer(200, { ...own, 'session-resume-down': `${down}` });
    const waiting = {
      more: () => {
        if (done) return;
        const frames = pipe.frames.slice(next - pipe.base);
        if (!frames.length) return;
        if (stream) {
          out.write(utf8(frames.map(event).join('')));
          if (!next) this.#world.at(100, () => !done && out.write(utf8(': flow\n\n')));
          next += frames.length;
          if (pipe.closed) waiting.end();
        } else {
          answer();
          out.write(join(frames.slice(0, 256).map(encode)));
          finish();
        }
      },
      end: () => {
        if (done) return;
        if (!stream) answer();
        finish();
      },
    };
    const finish = () => {
      done = true;
      if (pipe.waiting === waiting) pipe.waiting = null;
      out.end();
    };
    out.gone = () => {
      done = true;
      if (pipe.waiting === waiting) pipe.waiting = null;
    };
    pipe.waiting = waiting;
    if (stream) {
      answer();
      out.write(utf8(': session-resume\n\n'));
    } else this.#world.at(wait, waiting.end);
    waiting.more();
    if (!this.#pipes.has(pipe.nonce)) waiting.end();
  }

  #post(pipe, up, down, body, out) {
    const own = () => ({ 'session-resume-pipe': pipe.token, 'session-resume-up': `${pipe.up}` });
    const repeated = pipe.last && pipe.last.up === up && same(pipe.last.body, body);
    if (down > pipe.base + pipe.frames.length || (up !== pipe.up && !repeated)) {
      if (!out.second) this.conflicts++;
      return this.#say(out, 409, own());
    }
    if (!repeated || up === pipe.up) {
      const frames = [...new FrameReader().feed(body)];
      if (frames.length) pipe.last = { up, body };
      pipe.up += frames.length;
      for (const { kind, data } of frames) {
        if (kind === CLOSE) this.#gone(pipe);
        else if (this.#pipes.get(pipe.nonce) === pipe) pipe.conn?.frame(data);
      }
    }
    this.#confirm(pipe, down);
    this.#say(out, 204, own());
  }

  #say(out, status, headers) {
    out.answer(status, headers);
    out.end();
  }
}

/** A `fetch` to such a server. `trouble` says what can go wrong, each with its probability. */
export function fetchOf(world, server, trouble) {
  const chance = (name) => !world.calm && world.random() < (trouble[name] ?? 0);
  const late = () => world.latency * world.random() * (chance('late') ? 60 : 1);
  return (url, init) =>
    new Promise((resolve, reject) => {
      const pieces = [];
      let wake = null;
      let failed = false;
      let ended = false;
      const fail = () => {
        failed = true;
        reject(new TypeError('network'));
        out.gone?.();
        wake?.();
      };
      const read = async () => {
        while (!pieces.length && !ended && !failed) await new Promise((resolve) => (wake = resolve));
        if (pieces.length) return { done: false, value: pieces.shift() };
        if (failed) throw new TypeError('cut');
        return { done: true };
      };
      const response = (status, headers) => ({
        status,
        headers: { get: (name) => headers[name] ?? null },
        body: { getReader: () => ({ read }), cancel: async () => out.gone?.() },
        async arrayBuffer() {
          const all = [];
          for (let piece; !(piece = await read()).done; ) all.push(piece.value);
          return join(all).buffer;
        },
      });
      // Pieces of an answer do not overtake each other.
      let free = 0;
      const carry = (run) => {
        free = Math.max(free, world.now + late());
        world.at(free - world.now, () => failed || run());
      };
      const lost = chance('answerLost');
      let left = chance('cut') ? Math.floor(world.random() * 2000) : Infinity;
      const out = {
        answer: (status, headers) => (lost ? carry(fail) : carry(() => resolve(response(status, headers)))),
        write(bytes) {
          const part = bytes.slice(0, Math.min(left, bytes.length));
          left -= bytes.length;
          carry(() => {
            // In pieces of any length.
            const middle = Math.floor(world.random() * part.length);
            for (const piece of [part.slice(0, middle), part.slice(middle)]) if (piece.length) pieces.push(piece);
            wake?.();
          });
          if (left < 0) carry(fail);
        },
        end: () =>
          carry(() => {
            ended = true;
            wake?.();
          }),
      };
      init.signal?.addEventListener('abort', fail);
      if (!world.up || chance('requestLost')) return world.at(late(), fail);
      world.at(late(), () => failed || server.handle(init, out));
      // Browsers and proxies do this by themselves; nobody hears the second answer.
      if (chance('doubled')) world.at(late() + (world.random() < 0.3 ? 3000 : 0), () => server.handle(init, { second: true, answer() {}, write() {}, end() {} }));
    });
}
