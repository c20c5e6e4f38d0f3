// A page for libraries, which take what they need from its globals: all of these are a world's. And a server for its sessions, which
// gives each to a handler as a library's server is given a connection.

import assert from 'node:assert/strict';
import { follow } from './clock.mjs';
import { World } from './world.mjs';

/** What a handler has of its session. */
class Peer {
  /** Set by the handler. */
  onmessage = () => {};
  #model;
  #session;

  /** `protocols` are those that the page has offered, without ours. */
  constructor(model, protocols) {
    this.#model = model;
    this.#session = model.session;
    this.protocols = protocols;
  }

  send(data) {
    if (this.#model.session === this.#session) this.#model.push(data);
  }

  /** The application closes the session. */
  close(code, reason) {
    if (this.#model.session === this.#session) this.#model.finish('done', code, reason);
  }
}

export class Stage {
  /** The handlers' ends of the sessions, oldest first. */
  peers = [];
  #session = null;
  #accept;

  /** Each session is given to `accept`, with the stage. The globals are put back after the test. */
  constructor(t, accept) {
    this.#accept = accept;
    this.world = new World(1, { onMessage: (data) => this.peers.at(-1).onmessage(data) });
    this.page = this.world.page();
    const { world } = this;
    const { WebSocket } = world.env(this.page);
    const clear = (handle) => world.cancel(handle?.job);
    const globals = {
      WebSocket,
      fetch: undefined,
      location: { href: 'http://example.test/app/', origin: 'http://example.test' },
      setTimeout: (run, ms = 0, ...args) => ({ job: world.at(ms, () => run(...args)) }),
      clearTimeout: clear,
      setInterval(run, ms, ...args) {
        const handle = {};
        const again = () => {
          handle.job = world.at(ms, () => {
            again();
            run(...args);
          });
        };
        again();
        return handle;
      },
      clearInterval: clear,
    };
    for (const name in globals) {
      const before = Object.getOwnPropertyDescriptor(globalThis, name);
      Object.defineProperty(globalThis, name, { value: globals[name], configurable: true, writable: true });
      t.after(() => (before ? Object.defineProperty(globalThis, name, before) : delete globalThis[name]));
    }
    follow(t, world);
    t.mock.method(Math, 'random', world.random);
  }

  /** The WebSockets that were opened, oldest first. */
  get links() {
    return this.page.links ?? [];
  }

  /** Lets time pass, with what promises do in between, and lets the handler take what has come. */
  async pass(ms = 100) {
    for (let end = this.world.now + ms; this.world.now < end; ) {
      this.world.advance(Math.min(10, end - this.world.now));
      this.#serve();
      await new Promise(setImmediate);
    }
  }

  /** The connection breaks with all that is under way, and is back after `ms`. */
  async cut(ms = 0) {
    this.world.up = ms === 0;
    this.links.at(-1).cut();
    await this.pass(ms);
    this.world.up = true;
  }

  #serve() {
    const { server } = this.world;
    if (server.session && server.session !== this.#session) {
      this.#session = server.session;
      const peer = new Peer(server, this.links.at(-1).protocols.filter((name) => !/^(at|session-resume)\./.test(name)));
      this.peers.push(peer);
      this.#accept(peer, this);
    }
    for (const [id, { conn }] of server.session?.clients ?? []) {
      let taken = 0;
      while (server.session && server.take(id)) taken++;
      if (taken) conn?.ack();
    }
  }
}

/** Counts on and on, while its subscription is there. */
export class Ticks {
  /** How often it was subscribed to. */
  begun = 0;
  ended = 0;
  #every;

  constructor(every = 10) {
    this.#every = every;
  }

  async *[Symbol.asyncIterator]() {
    this.begun++;
    try {
      for (let n = 0; ; n++) {
        yield n;
        await new Promise((resolve) => setTimeout(resolve, this.#every));
      }
    } finally {
      this.ended++;
    }
  }
}

/**
 * Takes the library through what networks do: a connection that breaks in the middle of a stream, one that does so when the next has hardly begun,
 * one that is away for a while.
 */
export async function troubles(stage) {
  await stage.pass(300);
  await stage.cut();
  await stage.pass(30);
  await stage.cut();
  await stage.pass(500);
  await stage.cut(3000);
  await stage.pass(20_000);
  assert.ok(stage.links.length >= 4, 'there were cuts');
  assert.equal(stage.peers.length, 1, 'of which the server knows nothing');
  assert.deepEqual(stage.world.server.faults, []);
}

/** The last connection was closed so, and no other one comes. */
export async function gone(stage, closedWith) {
  await stage.pass(1000);
  const { length } = stage.links;
  assert.deepEqual(stage.links.at(-1).closedWith, closedWith);
  await stage.pass(100_000);
  assert.deepEqual([stage.links.length, stage.world.links.size], [length, 0]);
}

/** What `Ticks` count first. */
export const upTo = (n) => Array.from({ length: n }, (_, i) => i);
