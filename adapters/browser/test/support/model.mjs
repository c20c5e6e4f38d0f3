// A server that speaks session-resume.v1, without sockets and clocks: the other side in the random
// scripts, and behind real WebSockets in e2e/mock-server.mjs. It follows core/proto/PROTOCOL.md for
// one session key, and writes down every fault of a client in `faults`.

const MARK = '\u0001';
const control = (object) => MARK + JSON.stringify(object);

export class ModelServer {
  faults = [];
  session = null;
  #sessions = 0;
  #epochs = 0;
  #settings;

  constructor(settings = {}) {
    this.#settings = {
      attach: 'takeover',
      heartbeat: 30_000,
      window: { messages: 256, bytes: 1 << 20 },
      limit: 1 << 20,
      lifetime: 120_000,
      /** Whether it answers pings. */
      ping: true,
      /** Called when the handler takes a message. */
      onMessage: () => {},
      ...settings,
    };
  }

  /** Whether a list of subprotocols would get a 101, else a 400. */
  static parse(protocols) {
    const ours = protocols.filter((name) => name.startsWith('at.') || name.startsWith('session-resume.'));
    if (ours.length !== 2 || !ours.includes('session-resume.v1')) return null;
    const words = ours.find((name) => name.startsWith('at.')).split('.');
    const [, client, session, epoch, received, n] = words;
    if (!/^[\w-]{16,32}$/.test(client) || ![2, 5, 6].includes(words.length)) return null;
    if (words.length === 2) return { client, cursor: null };
    if (![session, epoch].every((name) => /^[\w-]{1,64}$/.test(name))) return null;
    const numbers = words.slice(4);
    if (!numbers.every((number) => /^(0|[1-9]\d{0,15})$/.test(number))) return null;
    return { client, cursor: { session, epoch, received: Number(received), n: n && Number(n) } };
  }

  /** Attaches a transport: `send(frame)` and `close(code, reason)` are how it is written to. */
  attach({ client: id, cursor }, transport) {
    const conn = new Conn(this, id, transport);
    if (this.refusal) return conn.close(...this.refusal);
    this.session ??= this.#create();
    const session = this.session;
    const { heartbeat: heartbeat_ms, lifetime: lifetime_ms, window, limit, ping } = this.#settings;
    let client = session.clients.get(id);
    const same = cursor?.session === session.id;
    if (same && client && cursor.n !== undefined && cursor.n < client.heardOn) return conn.close(4113, 'stale');
    if (same && cursor.epoch === session.epoch && cursor.received > session.head) return conn.close(4103, 'cursor above the head');

    // One that was told `null` and has sent nothing since may not have seen it.
    let received = client?.unsure ? null : (client?.received ?? 0);
    let status;
    let gap = null;
    let from = session.settled();
    if (!cursor) {
      status = session.isNew ? 'new' : session.restored ? 'restored' : 'reused';
    } else if (!same) {
      status = session.isNew ? 'new' : 'reused';
      gap = { from: cursor.received, to: null, reason: 'expired' };
    } else if (!session.honours(cursor)) {
      status = session.epochs.includes(cursor.epoch) ? 'restored' : 'reused';
      gap = { from: cursor.received, to: null, reason: 'restarted' };
      if (!client) received = null;
    } else if (!client || client.unsure) {
      status = 'reused';
      received = null;
      from = Math.max(cursor.received, session.base);
      if (from > cursor.received) gap = { from: cursor.received, to: from, reason: 'evicted' };
    } else {
      status = 'resumed';
      from = Math.max(cursor.received, session.base);
      if (from > cursor.received) gap = { from: cursor.received, to: from, reason: 'overflow' };
    }
    session.isNew = session.restored = false;
    if (!client) {
      // One that was pushed out may come with its first offer, late: its cursor does not count from 0 until a frame says so.
      client = { received: 0, taken: 0, acked: from, heardOn: 0, inbox: [], unsure: received === null || session.pushedOut };
      session.clients.set(id, client);
    }
    client.conn?.close(4100, 'replaced');
    if (this.#settings.attach === 'takeover') {
      for (const other of session.clients.values()) if (other !== client) other.conn?.close(4100, 'superseded');
    }
    client.conn = conn;
    client.acked = from;
    // A client that starts fresh cannot know what of its earlier messages is still in the inbox.
    const known = status === 'resumed' || status === 'restored' ? client.taken : client.received;
    conn.start(session, client, ++session.attachments, from, known);
    conn.write(
      control({
        hello: {
          v: 1, session: session.id, epoch: session.epoch, attachment: conn.n, status, from, received, gap,
          heartbeat_ms, lifetime_ms, window, limit, ...(ping && { ping }), unknown: true,
        },
      }),
    );
    conn.pump();
    return conn;
  }

  #create() {
    return new Session(`s${++this.#sessions}`, `e${++this.#epochs}`);
  }

  /** The handler takes the oldest message of a client; returns whether there was one. */
  take(id) {
    const client = this.session?.clients.get(id);
    if (!client?.inbox.length) return false;
    const data = client.inbox.shift();
    client.taken++;
    this.#settings.onMessage(data, id, this.session);
    return true;
  }

  /** Sends a message; `null` is one for another client alone. */
  push(data) {
    this.session.outbox.push(data);
    this.session.eachConn((conn) => conn.pump());
  }

  /** Drops the oldest `count` messages, sent or not. */
  dropOldest(count) {
    const { session } = this;
    const dropped = Math.min(count, session.outbox.length);
    session.outbox.splice(0, dropped);
    session.base += dropped;
    session.eachConn((conn) => conn.pump());
  }

  /** Comes back from its store: handled messages are kept, the outbox is not. */
  restart() {
    const { session } = this;
    if (!session) return;
    this.rebuild();
    session.lives.clear();
    session.outbox = [];
    session.base = 0;
    for (const client of session.clients.values()) client.acked = 0;
  }

  /** Comes back from its store with its outbox: the stream goes on in another epoch. */
  rebuild() {
    const { session } = this;
    if (!session) return;
    session.eachConn((conn) => conn.close(1006, ''));
    session.lives.set(session.epoch, session.head);
    session.epochs.push(session.epoch);
    session.epoch = `e${++this.#epochs}`;
    session.restored = true;
    for (const client of session.clients.values()) Object.assign(client, { received: client.taken, inbox: [], conn: null });
  }

  /** The session is gone, as after its lifetime. */
  expire() {
    this.session?.eachConn((conn) => conn.close(1006, ''));
    this.session = null;
  }

  /** Pushes a client out of the session's memory. */
  evict(id) {
    this.session?.clients.get(id)?.conn?.close(1006, '');
    if (this.session?.clients.delete(id)) this.session.pushedOut = true;
  }

  /** The handler ends. */
  finish(outcome, code = 1000, reason = outcome) {
    this.session.eachConn((conn) => {
      conn.pump();
      conn.skip();
      conn.write(control({ done: { status: outcome, received: conn.client.taken } }));
      conn.close(code, reason);
    });
    this.session = null;
  }

  /** Closes all transports as a drain does. */
  drain(ms) {
    this.session?.eachConn((conn) => {
      conn.write(control({ retry: ms }));
      conn.close(4112, 'restarting');
    });
  }

  fault(text) {
    this.faults.push(text);
  }

  get answersPings() {
    return this.#settings.ping;
  }

  /** Its transports are pipes. */
  get pipes() {
    return this.#settings.pipes ?? false;
  }

  get window() {
    return this.#settings.window;
  }
}

class Session {
  clients = new Map();
  /** All that it has had. */
  epochs = [];
  /** Those whose history goes on, and where each has ended. */
  lives = new Map();
  outbox = [];
  base = 0;
  attachments = 0;
  isNew = true;
  restored = false;
  /** Whether it has ever forgotten a client. */
  pushedOut = false;
  /** Merged as `MergePolicy::Newest` does. */
  state = { iteration: 0, updated: 0, value: null };

  constructor(id, epoch) {
    this.id = id;
    this.epoch = epoch;
  }

  get head() {
    return this.base + this.outbox.length;
  }

  merge(copy) {
    const { iteration, updated } = this.state;
    if (copy.iteration > iteration || (copy.iteration === iteration && copy.updated > updated)) this.state = copy;
  }

  honours({ epoch, received }) {
    return epoch === this.epoch || received <= (this.lives.get(epoch) ?? -1);
  }

  /** Where a fresh client starts: at what nobody has acknowledged. */
  settled() {
    return Math.max(this.base, ...[...this.clients.values()].map((client) => client.acked));
  }

  eachConn(run) {
    for (const { conn } of [...this.clients.values()]) if (conn) run(conn);
  }
}

class Conn {
  alive = true;
  session = null;
  /** Set to hold messages back, as a full socket would. */
  slow = false;
  #server;
  #transport;

  constructor(server, id, transport) {
    this.#server = server;
    this.id = id;
    this.#transport = transport;
  }

  start(session, client, n, from, told) {
    Object.assign(this, { session, client, n, cursor: from, at: from, from, told, greeted: false, spoke: false });
  }

  write(frame) {
    if (this.alive) this.#transport.send(frame);
  }

  pump() {
    if (!this.alive || this.slow) return;
    const { session } = this;
    if (this.cursor < session.base) {
      this.skip();
      this.write(control({ gap: { from: this.cursor, to: session.base, reason: 'overflow' } }));
      this.cursor = this.at = session.base;
    }
    while (this.cursor < session.head) {
      const data = session.outbox[this.cursor - session.base];
      if (data !== null) {
        this.skip();
        this.write(typeof data === 'string' && data.startsWith(MARK) ? MARK + data : data);
        this.at++;
      }
      this.cursor++;
    }
  }

  /** Tells that what is between is not for this client. */
  skip() {
    if (this.at < this.cursor) this.write(control({ skip: this.cursor }));
    this.at = this.cursor;
  }

  /** Acknowledges what the handler has taken, as an ack or as a heartbeat. */
  ack(name = 'ack') {
    this.told = this.client.taken;
    this.skip();
    this.write(control({ [name]: this.told }));
  }

  /** A frame from the client. */
  frame(frame) {
    if (!this.alive) return;
    const { client, session } = this;
    client.heardOn = Math.max(client.heardOn, this.n);
    client.unsure = false;
    if (typeof frame === 'string' && frame.startsWith(MARK) && frame[1] !== MARK) {
      const { ack, ping, state } = JSON.parse(frame.slice(1));
      if (state !== undefined) {
        if (!this.greeted || this.spoke) this.#breach('a state before the first ack, twice, or behind a message');
        this.spoke = true;
        return session.merge(state);
      }
      if (ping !== undefined) {
        if (!this.#server.answersPings || !this.greeted || ack !== undefined) this.#breach('a ping that nobody has asked for');
        return this.ack('hb');
      }
      // On a pipe one that has not left takes the newer number.
      if (!this.greeted && ack !== this.from && !(this.#server.pipes && ack > this.from)) this.#breach(`acknowledged ${ack} at first, not ${this.from}`);
      else if (!Number.isInteger(ack) || ack > this.at) this.#breach(`acknowledged ${ack} of ${this.at}`);
      else if (ack < client.acked) this.#breach(`acknowledged ${ack} after ${client.acked}`);
      this.greeted = true;
      client.acked = Math.max(client.acked, ack);
      return;
    }
    if (!this.greeted) this.#breach('sent data before its first ack');
    this.spoke = true;
    client.received++;
    if (client.received - this.told > this.#server.window.messages) this.#breach('sent more than the window holds');
    client.inbox.push(typeof frame === 'string' && frame.startsWith(MARK) ? frame.slice(1) : frame);
    // What all have is forgotten.
    const least = Math.min(...[...session.clients.values()].map(({ acked }) => acked));
    if (least > session.base) {
      session.outbox.splice(0, least - session.base);
      session.base = least;
    }
  }

  #breach(text) {
    this.#server.fault(text);
    this.close(4103, text);
  }

  close(code, reason) {
    if (!this.alive) return this;
    this.gone();
    this.#transport.close(code, reason);
    return this;
  }

  /** The transport has gone. */
  gone() {
    this.alive = false;
    if (this.client?.conn === this) this.client.conn = null;
  }
}
