// A virtual clock, a seeded random source, a network that misbehaves, and a page: all that a
// ResumableSocket needs from outside.

import { ResumableSocket } from './subject.mjs';
import { ModelServer } from './model.mjs';

/** A small generator (mulberry32), so that a seed replays a run. */
export function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class World {
  now = 1_000_000;
  /** Up: connections can be made, and requests sent. */
  up = true;
  /** What becomes of WebSockets: `refused`, or `mute`, which open and bring nothing. @type {'pass' | 'refused' | 'mute'} */
  webSockets = 'pass';
  links = new Set();
  #due = [];
  #order = 0;

  constructor(seed, settings = {}) {
    this.random = generator(seed);
    this.server = new ModelServer(settings);
    this.latency = settings.latency ?? 5;
  }

  at(delay, run) {
    const job = { time: this.now + Math.max(0, delay), order: this.#order++, run };
    this.#due.push(job);
    return job;
  }

  cancel(job) {
    if (job) job.run = () => {};
  }

  /** Runs what is due in the next `ms`. */
  advance(ms) {
    const end = this.now + ms;
    for (;;) {
      let first = null;
      for (const job of this.#due) {
        if (!first || job.time < first.time || (job.time === first.time && job.order < first.order)) first = job;
      }
      if (!first || first.time > end) break;
      this.#due.splice(this.#due.indexOf(first), 1);
      this.now = first.time;
      first.run();
    }
    this.now = end;
  }

  page() {
    const page = { window: new EventTarget(), document: new EventTarget(), navigator: { onLine: true } };
    const kept = new Map();
    page.storage = () => ({
      getItem: (key) => kept.get(key) ?? null,
      setItem: (key, text) => void kept.set(key, text),
      removeItem: (key) => void kept.delete(key),
    });
    page.document.hidden = false;
    page.document.baseURI = 'http://example.test/app/';
    return page;
  }

  /** The page that comes in this one's place, in the same tab. */
  reload(page) {
    page.window.dispatchEvent(Object.assign(new Event('pagehide'), { persisted: false }));
    page.gone = true;
    for (const link of page.links ?? []) {
      link.onopen = link.onmessage = link.onclose = null;
      if (this.random() < 0.5) link.close();
      else link.cut({ client: null, server: this.random() * 1000 });
    }
    return { ...this.page(), storage: page.storage };
  }

  connect(options = {}, page = this.page(), url = '/live') {
    // What these worlds have; test/support/http.mjs has the others.
    return new ResumableSocket(url, { transports: ['websocket'], ...options, env: { ...this.env(page), ...options.env } });
  }

  /** What a socket in a page of this world has from outside. */
  env(page) {
    const world = this;
    let ids = 0;
    return {
      WebSocket: class extends Link {
        constructor(url, protocols) {
          super(world, protocols);
          this.url = url;
          (page.links ??= []).push(this);
          // Once it has its handlers.
          if (world.onLink) world.at(0, () => world.onLink(this));
        }
      },
      setTimeout: (run, ms) => world.at(ms, () => page.gone || run()),
      clearTimeout: (job) => world.cancel(job),
      now: () => world.now,
      random: world.random,
      clientId: () => `client-${String(world.random()).slice(2, 12)}-${ids++}`.padEnd(20, '_'),
      fetch: undefined,
      ...page,
    };
  }
}

/** A WebSocket over the world's network. */
class Link {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;
  readyState = 0;
  protocol = '';
  binaryType = 'blob';
  sent = [];
  #world;
  #conn = null;
  /** A frame never overtakes one before it. */
  #upFree = 0;
  #downFree = 0;
  #cut = false;

  constructor(world, protocols) {
    this.#world = world;
    this.protocols = protocols;
    world.links.add(this);
    const probe = protocols.includes('at.probe');
    const offer = probe || ModelServer.parse(protocols);
    if (!offer) world.server.fault(`malformed offer ${protocols}`);
    if (!world.up || !offer || world.webSockets === 'refused') {
      world.at(world.latency, () => this.#lost());
      return;
    }
    this.#up(() => {
      if (!world.up) return this.#lost();
      this.#down(() => {
        if (this.readyState !== 0) return;
        this.readyState = 1;
        this.protocol = 'session-resume.v1';
        this.onopen?.({});
      });
      if (world.webSockets === 'mute') return;
      if (probe) {
        const say = (data) => this.#down(() => this.readyState < 2 && this.onmessage?.({ data }));
        this.#conn = { frame: say, gone() {} };
        return say('\u0001{"probe":true}');
      }
      this.#conn = world.server.attach(offer, {
        send: (frame) => this.#down(() => this.readyState < 2 && this.onmessage?.({ data: frame })),
        close: (code, reason) => this.#down(() => this.#closed(code, reason)),
      });
    });
  }

  get conn() {
    return this.#conn;
  }

  send(data) {
    this.sent.push(data);
    this.#up(() => this.#conn?.frame(data));
  }

  close(code = 1000, reason = '') {
    if (this.readyState >= 2) return;
    this.closedWith = [code, reason];
    this.readyState = 2;
    this.#up(() => {
      this.#conn?.gone();
      this.#down(() => this.#closed(code, reason));
    });
  }

  /**
   * Breaks: whatever is under way is lost. Each side notices later, or never.
   */
  cut({ client = 10, server = 10 } = {}) {
    if (this.#cut) return;
    this.#cut = true;
    if (client !== null) this.#world.at(client, () => this.#lost());
    if (server !== null) this.#world.at(server, () => this.#conn?.gone());
  }

  /** Late: what is under way takes that much longer. */
  delay(ms) {
    this.#upFree = Math.max(this.#upFree, this.#world.now) + ms;
    this.#downFree = Math.max(this.#downFree, this.#world.now) + ms;
  }

  #lost() {
    this.#closed(1006, '');
  }

  #closed(code, reason) {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.#world.links.delete(this);
    this.onclose?.({ code, reason });
  }

  #up(run) {
    this.#upFree = this.#carry(this.#upFree, run);
  }

  #down(run) {
    this.#downFree = this.#carry(this.#downFree, run);
  }

  #carry(free, run) {
    const { now, latency, random } = this.#world;
    const time = Math.max(free, now + latency * random());
    this.#world.at(time - now, () => this.#cut || run());
    return time;
  }
}
