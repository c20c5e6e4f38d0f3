// The words that the modules share. Only types: nothing here exists at run time.

/** What a message may be. Views and buffers are copied by `send`. */
export type Data = string | ArrayBuffer | ArrayBufferView<ArrayBuffer> | Blob;

/** Positions `from..to` (half open) that will never come; `to` is null where the old stream is gone for good. */
export interface Gap {
  from: number;
  to: number | null;
  reason: 'overflow' | 'expired' | 'restarted' | 'evicted' | 'checkpoint';
}

/** Delays between attempts, in seconds: a literal list, or full jitter below a cap that doubles. */
export type Backoff = number[] | { initial?: number; max?: number; attempts?: number };

/**
 * A value, or a function that is asked for it at each attempt. `attempt` counts from 1 as `status` does; it is 0 where the
 * socket only looks whether a WebSocket passes.
 */
export type ForAttempt<T> = T | ((attempt: number) => T | PromiseLike<T>);

/** All times in seconds. README.md has the table of meanings and defaults. */
export interface Options {
  reconnect?: boolean | 'prompt';
  backoff?: Backoff;
  whileHidden?: boolean;
  confirmLeave?: boolean;
  /** Or the name under which it is kept. */
  keepUnsent?: boolean | string;
  connectTimeout?: number;
  closeTimeout?: number;
  transports?: Way[];
  /** Headers of requests over HTTP. */
  headers?: ForAttempt<HeadersInit | undefined>;
  /** The same of requests over HTTP. */
  credentials?: ForAttempt<RequestCredentials | undefined>;
  maxBufferedMessages?: number;
  maxBufferedBytes?: number;
  binaryType?: BinaryType;
  protocols?: string | string[];
  /** What goes to another session before the queue. */
  initial?: () => Data | Data[] | undefined | void;
  env?: Partial<Env>;
}

/** The outside world; each part can be replaced, which is how the tests drive the socket. */
export interface Env {
  WebSocket: new (url: string, protocols: string[]) => Transport;
  setTimeout(run: () => void, ms: number): unknown;
  clearTimeout(timer: any): void;
  /** Milliseconds; must go on while the machine sleeps. */
  now(): number;
  /** From 0 up to, not including, 1. */
  random(): number;
  /** A new client id: 16 to 32 of `[A-Za-z0-9_-]`. */
  clientId(): string;
  window: EventTarget | undefined;
  document: (EventTarget & { hidden: boolean; baseURI: string }) | undefined;
  /** What a relative URL is relative to where there is no document. */
  location: { href: string; origin: string } | undefined;
  /** Asks a route that does not open what it is, and whether there is a server. */
  fetch: ((url: string, init: RequestInit) => Promise<Response>) | undefined;
  navigator: { onLine?: boolean } | undefined;
  /** Where `keepUnsent` keeps; to look may throw. */
  storage(): Storage | undefined;
  /** Where pages of an origin remember that WebSockets are blocked; to look may throw. */
  memory?(): Storage | undefined;
  /** The only way of the next attempt, where tests want one. */
  forced?(): Way | undefined;
  /** Whether one connection to this origin is known to carry any number of requests: HTTP/2 and HTTP/3 do. */
  multiplexed?(origin: string): boolean;
}

/** What the ways ask of their socket. */
export interface Hooks {
  /** A better way is there. */
  reconnect(): void;
  /** A stream was held back: it polls from now on. */
  changed(): void;
  /** The URL for a look. */
  url(): Promise<URL>;
}

/** The part of the browser's WebSocket that is used. */
export interface Transport {
  binaryType: BinaryType;
  readonly protocol: string;
  readonly readyState: number;
  /** How long an acknowledgement may wait here, if not as on a WebSocket. */
  readonly ackAfter?: number;
  /** Which way it is, if not a WebSocket. */
  readonly way?: Way;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: any): void;
  /** `silent`: nothing came any more. */
  close(code?: number, reason?: string, silent?: boolean): void;
}

/** Why nothing is under way: the backoff, a hidden page, a network that is away, or the user's turn. */
export type Until = 'time' | 'visible' | 'online' | 'user';

/** The same, or the question what a route is, or whether there is a server. */
export type Pause = Until | 'answer' | 'knock';

/** What a close means; `close.js` reads it. A match on it names every kind. */
export type CloseKind =
  | 'normal'
  | 'done'
  | 'no-code'
  /** There was no close frame. */
  | 'lost'
  /** The server does not speak the protocol. */
  | 'foreign'
  | 'too-big'
  | 'internal-error'
  | 'superseded'
  | 'replaced'
  | 'refused'
  /** Refused by status 401: the server does not know who asks. */
  | 'unauthorized'
  | 'protocol-error'
  | 'read-only'
  | 'reauthenticate'
  | 'restarting'
  | 'moved'
  | 'try-again'
  | 'stale'
  /** A code of the server's application. */
  | 'application'
  /** A function of the page's application (`url`, `headers`, `credentials`) has failed. */
  | 'unprepared'
  | 'other';

/** A close, read. */
export interface Close {
  code: number;
  reason: string;
  kind: CloseKind;
}

/** How a session ended. */
export type Outcome = 'done' | 'failed' | 'panicked' | 'expired' | 'overflow' | 'closed';

/** What a `status` event carries. `delay` is in seconds. */
export type Status =
  | { status: 'connecting'; attempt: number }
  | { status: 'open'; session: string; transport?: Way }
  | { status: 'new' | 'resumed' | 'reused' | 'restored'; session: string; gap: Gap | null }
  | { status: 'waiting'; attempt: number; delay: number | null; until: Until; kind?: CloseKind; reason?: string }
  | { status: 'offline' }
  | { status: 'stalled' }
  | { status: 'gap' | 'expired'; gap: Gap }
  | { status: 'takenback'; count: number }
  | { status: 'unoffered' }
  | { status: 'lost'; messages: Data[]; reason: 'in doubt' | 'too big' | 'dropped' | 'closed' }
  | { status: 'done'; outcome: Outcome; messages: Data[] }
  | { status: 'superseded' }
  | { status: 'refused'; kind: CloseKind; reason: string }
  | { status: 'failed'; code: number; kind: CloseKind; reason: string };

export type StatusEvent = Event & Status;

/** What `addEventListener` knows. */
export interface EventMap {
  open: Event;
  message: MessageEvent;
  status: StatusEvent;
  error: Event;
  close: CloseEvent;
}

/** Another session than before, or the first one: what `queued` has goes to it next. */
export type SessionEvent = Event & { readonly queued: readonly Data[]; readonly inDoubt: readonly Data[] };

/** The same of a socket that asks before the queue goes to another session. */
export interface SessionEventMap extends EventMap {
  session: SessionEvent;
}

/** What `useResumableSocket` takes. Functions are called with the event and the socket. */
export interface HookOptions extends Options {
  /** Whether there is a socket; default true. */
  enabled?: boolean;
  onOpen?: (event: Event, socket: HookSocket) => void;
  onMessage?: (event: MessageEvent, socket: HookSocket) => void;
  onStatus?: (event: StatusEvent, socket: HookSocket) => void;
  onSession?: (event: SessionEvent, socket: HookSocket) => void;
  onError?: (event: Event, socket: HookSocket) => void;
  onClose?: (event: CloseEvent, socket: HookSocket) => void;
}

type HookSocket = import('./session.js').ResumableSocket;

/** What is known of a session: what `useSession` returns. */
export interface SessionView {
  /** Of the socket; null where there is none. `CLOSING` has no event, so that it may be seen late or never. */
  readonly readyState: 0 | 1 | 2 | 3 | null;
  /** The last status that lasts; null where there is no socket. */
  readonly status: Status | null;
  /** The session's id; null before the first hello. */
  readonly session: string | null;
  /** How the page is connected; null where it is not. */
  readonly transport: Way | null;
  /** How long the session waits for this page when it is away, in seconds; 0 before the first hello. */
  readonly lifetime: number;
}

/** What a page that is left hands to the one that comes in its place. */
export interface Saved {
  client: string;
  cursor: Cursor | null;
  position: number;
  base: number;
  ever: number;
  messages: Data[];
}

/** A page's own copy of the session's state. */
export interface StateCopy {
  /**
   * How many changes the copy has seen: what the server's handler has told of its own state, and one more for a
   * change of the page's.
   */
  iteration: number;
  /** When it last changed, in milliseconds since 1970; default: now. */
  updated?: number;
  /** What the server's type of state is read from. */
  value: unknown;
}

/** Where a client stands in a session: what its next offer names. */
export interface Cursor {
  session: string;
  epoch: string;
  attachment: number;
}

export interface Hello extends Cursor {
  v: 1;
  status: 'new' | 'resumed' | 'reused' | 'restored';
  from: number;
  received: number | null;
  gap: Gap | null;
  heartbeat_ms: number;
  lifetime_ms: number;
  window: { messages: number; bytes: number };
  /** The longest message that the session takes, in bytes; absent if the server does not say. */
  limit?: number;
  /** The server answers pings. */
  ping?: boolean;
  /** On a pipe: how long it lives without a request, */
  absent_ms?: number;
  /** and how long a get waits. */
  hold_ms?: number;
}

/** How a page reaches the server. */
export type Way = 'websocket' | 'sse' | 'poll';

/** What travels in a pipe: a frame, or on a stream a comment. */
export interface PipeFrame {
  kind?: number;
  comment?: string;
  data?: string | Uint8Array<ArrayBuffer>;
  close?: { code: number; reason: string };
}

/** The two requests that a pipe has under way at most. */
export type Lane = 'get' | 'post';

export interface PipeRequest {
  lane: Lane;
  method: 'GET' | 'POST';
  /** Names in lower case. */
  headers: Record<string, string>;
  body: Uint8Array<ArrayBuffer> | undefined;
  /** Its answer is of use only whole. */
  whole: boolean;
  /** The pipe closes: the page may be gone when the answer comes. */
  last?: boolean;
}

/** What a pipe brings for the machine. */
export interface Arrival {
  data?: string | Uint8Array<ArrayBuffer>;
  /** Null: without a word. */
  closed?: { code: number; reason: string } | null;
  /** It is we who close: the server has sent what is no frame. */
  broken?: boolean;
  /** Another has this pipe. */
  copied?: boolean;
  /** A status that a repetition does not change. */
  refused?: number;
}

export interface Control {
  hello?: Hello;
  ack?: number;
  hb?: number;
  skip?: number;
  gap?: Gap & { to: number };
  dropped?: number;
  retry?: number;
  done?: { status: Outcome; received: number };
}

export type Frame = { data: Data } | { control: Control } | { error: string };

/** Times in milliseconds. */
export interface Config {
  reconnect: boolean | 'prompt';
  backoff: number[] | { initial: number; max: number; attempts: number };
  whileHidden: boolean;
  connectTimeout: number;
  closeTimeout: number;
  /** Whether a route that does not open can be asked what it is. */
  asks: boolean;
  /** Whether a server can be asked by a plain request if it is there. */
  knocks: boolean;
}

export interface Outgoing {
  data: Data;
  bytes: number;
  /** The session has given it up; the application knows. */
  dropped?: boolean;
}

export type Hold = 'next' | 'now';

export type Phase = 'idle' | 'connecting' | 'open' | 'waiting' | 'closing' | 'ended';

export interface State {
  config: Config;
  phase: Phase;
  /** Whether the application has seen `open` and not yet `close`. */
  opened: boolean;
  /** What the phase `waiting` waits for. */
  until: Pause;
  /** Number of the current transport; news of any other is ignored. */
  transport: number;
  /** Whether a transport of that number may still send and receive. */
  attached: boolean;
  /** Attempts in a row that came to nothing. */
  attempt: number;
  /** Attempts in a row that never were open; unlike `attempt`, whatever has begun them. */
  failed: number;
  /** The server's `retry`, for the next delay only. */
  hint: number | null;
  hidden: boolean;
  offline: boolean;
  /** The network went away under this transport, and nothing has arrived since. */
  suspect: boolean;
  /** What the application closed with, while that takes its time. */
  closing: { code: number | null; reason: string } | null;
  /** The session is over, and the server's close is still to come. */
  done: Control['done'] | null;

  client: string;
  /** Null before the first hello and after the session was given up. */
  cursor: Cursor | null;
  /** Position of the next data message. */
  position: number;
  owedMessages: number;
  owedBytes: number;
  /** When the oldest unacknowledged message came, or null when all is acknowledged. */
  owedSince: number | null;
  /** How long it may be owed. */
  ackAfter: number;

  /** Messages from count `base` on: everything the server has not acknowledged. */
  outbox: Outgoing[];
  outboxBytes: number;
  base: number;
  /** Count of the next message to write on this transport: `base <= sent <= ever`. */
  sent: number;
  /** Count of messages ever written in this session, on any transport. */
  ever: number;
  /** Bytes of the messages `base..sent`. */
  underWay: number;
  window: { messages: number; bytes: number };
  /** The application is asked before messages go to another session: never (null), at the next one, or it is asked now. */
  hold: Hold | null;
  /** The longest message that the server takes, or null. */
  limit: number | null;

  /** The page's own copy of the state, as the frame that offers it. */
  copy: string | null;
  /** The current transport has offered it. */
  copySaid: boolean;

  heartbeat: number;
  /** How long the session waits for us, in milliseconds. */
  lifetime: number;
  heardAt: number;
  /** A late watchdog has given queued frames their second chance. */
  graced: boolean;

  /** The server answers pings. */
  answers: boolean;
  /** Something is under way on this transport: `armed` to ask about it, asked (`asking`), or `stalled`: the page knows. */
  probe: 'armed' | 'asking' | 'stalled' | null;
  /** When the server was asked. */
  askedAt: number;
  /** How long what was under way then may take, in milliseconds. */
  load: number;

  /**
   * The outbox is of the page before. `ask`: with that page's cursor, which tells exactly what has arrived of it;
   * `fresh`: then without a cursor, because this page has had nothing of the session yet.
   */
  kept: 'ask' | 'fresh' | null;
  /** There has been a hello. */
  greeted: boolean;
  /** The route has been asked what it is. */
  asked: boolean;
  /** The current transport was of use: it has brought a message, an acknowledgement of something, or a heartbeat. */
  settled: boolean;
  /** Told `stale` since the last hello. */
  stale: boolean;
  /** Told `reauthenticate` last time, and nothing but a hello since. */
  reauthenticated: boolean;
  /** Offered fresh after a 4103, and not resumed since. */
  startedOver: boolean;
  /**
   * How many messages a transport had had that was closed 1009, else null: the first that was not received is
   * the culprit, if it was one of these.
   */
  tooBig: number | null;
}

interface At {
  /** Milliseconds. */
  now: number;
  /** From 0 up to, not including, 1. */
  random: number;
}

export type Event_ =
  | { type: 'start'; hidden: boolean; offline: boolean }
  | { type: 'opened'; n: number; protocol: string; ackAfter?: number }
  | { type: 'frame'; n: number; data: Data }
  | { type: 'closed'; n: number; code: number; reason: string; kind?: CloseKind }
  | { type: 'copied'; n: number }
  | { type: 'timer'; name: Timer; due: number }
  | { type: 'send'; data: Data; bytes: number }
  /** In place of all that was never written. */
  | { type: 'queue'; messages: Outgoing[]; hold: Hold | null }
  | { type: 'close'; code: number | null; reason: string }
  | { type: 'offer'; frame: string | null }
  | { type: 'answered'; of: number; foreign: string | null; refused?: Close }
  | { type: 'knocked'; of: number; there: boolean }
  | { type: 'reconnect'; hidden: boolean; offline: boolean }
  | { type: 'online' }
  | { type: 'offline' }
  | { type: 'hidden' }
  | { type: 'visible' }
  | { type: 'shown'; hidden: boolean }
  | { type: 'cached' };

export type MachineEvent = Event_ & At;

/** One timer of each name at most: setting it again moves it. */
export type Timer = 'retry' | 'connect' | 'watch' | 'probe' | 'ack' | 'close';

export type Effect =
  | { type: 'connect'; n: number; attempt: number; protocols: string[] }
  | { type: 'write'; n: number; data: Data }
  | { type: 'closeTransport'; n: number; code: number; reason: string; silent?: boolean }
  | { type: 'setTimer'; name: Timer; delay: number }
  | { type: 'clearTimers' }
  | { type: 'deliver'; data: Data }
  | { type: 'emit'; status: Status }
  | { type: 'opened' }
  /** A `queue` event answers. */
  | { type: 'session' }
  | { type: 'ask'; of: number }
  | { type: 'knock'; of: number }
  | { type: 'ended'; code: number; reason: string; clean: boolean };
