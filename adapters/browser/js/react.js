'use client';
// A socket that lives as long as a React component, and what is known of its session, for rendering.

import { useEffect, useInsertionEffect, useRef, useState, useSyncExternalStore } from 'react';
import { ResumableSocket } from './index.js';

/** @import { ForAttempt } from './types.js' */
/** @typedef {import('./socket.js').ResumableSocket} Socket */
/** @typedef {import('./types.js').HookOptions} HookOptions */
/** @typedef {import('./types.js').SessionView} SessionView */

/** Where there is no socket. @type {SessionView} */
const NOTHING = Object.freeze({ readyState: null, status: null, session: null, transport: null, lifetime: 0 });

/**
 * A socket that lives as long as the component, or null where there is none: before the component is mounted, on a server,
 * while `enabled` is false, and from a change of the URL until the next socket is there.
 *
 * There is one socket, whatever StrictMode and renders do. Another one replaces it where the URL or an option with a plain
 * value becomes another (it is compared by value), or `initial` or `onSession` is added or taken away. Functions, `headers`
 * and `credentials` may be others at each render: the last ones are used. `env` is read when a socket is made.
 *
 * The socket is closed, as by `close()`, when the component goes away. None of the `on…` functions is called after that.
 * What the constructor throws (a bad URL or option), the hook throws in a render: an error boundary gets it.
 *
 * @param {ForAttempt<string | URL>} url or a function that names it for each attempt
 * @param {HookOptions} [options]
 * @returns {ResumableSocket | null}
 */
export function useResumableSocket(url, options = {}) {
  const last = useRef({ url, options });
  // Before any other effect of this render, so that none of them finds an old function.
  useInsertionEffect(() => {
    last.current = { url, options };
  });
  const key = keyOf(url, options);
  const [made, setMade] = useState(/** @type {{ key: string | null, socket?: ResumableSocket, error?: unknown } | null} */ (null));
  useEffect(() => {
    if (key === null) return;
    const alive = new AbortController();
    /** @type {ResumableSocket | undefined} */
    let socket;
    // StrictMode takes the first effect back at once: nothing is opened for it.
    queueMicrotask(() => {
      if (alive.signal.aborted) return;
      try {
        socket = open(last, alive.signal);
        setMade({ key, socket });
      } catch (error) {
        setMade({ key, error });
      }
    });
    return () => {
      alive.abort();
      socket?.close();
      // The same key may come back, as where `enabled` is true again: that has another socket.
      setMade(null);
    };
  }, [key]);
  // What was made for another key is about to be closed.
  if (made === null || made.key !== key) return null;
  if ('error' in made) throw made.error;
  return made.socket ?? null;
}

/**
 * What is known of a socket's session, as of its last `open`, `status` or `close` event. The component renders again when that changes.
 * All components that look at one socket see the same, also where React renders some of them later.
 *
 * @param {Socket | null} socket of `useResumableSocket` or another one
 * @returns {SessionView}
 */
export function useSession(socket) {
  const store = socket && storeOf(socket);
  return useSyncExternalStore(store ? store.subscribe : never, store ? store.view : nothing, nothing);
}

const never = () => () => {};
const nothing = () => NOTHING;

/**
 * What a socket is made for: where this is another one, so is the socket. Null: there is to be none.
 *
 * @param {ForAttempt<string | URL>} url
 * @param {HookOptions} options
 */
function keyOf(url, { enabled = true, env, headers, credentials, initial, onSession, onOpen, onMessage, onStatus, onError, onClose, ...plain }) {
  if (!enabled) return null;
  const values = Object.entries(plain).filter(([, value]) => value !== undefined);
  values.sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([typeof url === 'function' || `${url}`, Boolean(initial), Boolean(onSession), values], (_, value) =>
    // JSON would take `Infinity` for null.
    typeof value === 'number' && !Number.isFinite(value) ? `${value}` : value,
  );
}

/**
 * @param {{ current: { url: ForAttempt<string | URL>, options: HookOptions } }} last
 * @param {AbortSignal} signal
 */
function open(last, signal) {
  const { url, options } = last.current;
  const { enabled, onSession, onOpen, onMessage, onStatus, onError, onClose, ...own } = options;
  /** @type {<T>(value: ForAttempt<T>, attempt: number) => T | PromiseLike<T>} */
  const forAttempt = (value, attempt) => (typeof value === 'function' ? /** @type {any} */ (value)(attempt) : value);
  const socket = new ResumableSocket(typeof url === 'function' ? (attempt) => forAttempt(last.current.url, attempt) : url, {
    ...own,
    headers: (attempt) => forAttempt(last.current.options.headers, attempt),
    credentials: (attempt) => forAttempt(last.current.options.credentials, attempt),
    ...(typeof own.initial === 'function' && { initial: () => last.current.options.initial?.() }),
  });
  // The view's listener is the first one: what a function below renders is not older than the event.
  storeOf(socket);
  socket.addEventListener('open', (event) => last.current.options.onOpen?.(event, socket), { signal });
  socket.addEventListener('message', (event) => last.current.options.onMessage?.(event, socket), { signal });
  socket.addEventListener('status', (event) => last.current.options.onStatus?.(event, socket), { signal });
  socket.addEventListener('error', (event) => last.current.options.onError?.(event, socket), { signal });
  socket.addEventListener('close', (event) => last.current.options.onClose?.(event, socket), { signal });
  // A listener for it has an effect of its own: the queue waits for it.
  if (onSession) socket.addEventListener('session', (event) => last.current.options.onSession?.(event, socket), { signal });
  return socket;
}

/** @typedef {{ view: () => SessionView, subscribe: (listener: () => void) => () => void }} Store */

/** @type {WeakMap<Socket, Store>} */
const stores = new WeakMap();

/**
 * The views of a socket. It goes on with events and not with the getters, so that a render in between sees what the others saw.
 *
 * @param {Socket} socket
 * @returns {Store}
 */
function storeOf(socket) {
  const known = stores.get(socket);
  if (known) return known;
  /** @type {Set<() => void>} */
  const listeners = new Set();
  /** @returns {SessionView} */
  const look = () => ({
    readyState: socket.readyState,
    status: socket.current,
    session: socket.session,
    transport: socket.transport,
    lifetime: socket.lifetime,
  });
  let view = look();
  const refresh = () => {
    const now = look();
    if (/** @type {(keyof SessionView)[]} */ (Object.keys(now)).every((name) => now[name] === view[name])) return;
    view = now;
    for (const listener of listeners) listener();
  };
  for (const type of ['open', 'status', 'close']) socket.addEventListener(type, refresh);
  /** @type {Store} */
  const store = {
    view: () => view,
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
  stores.set(socket, store);
  return store;
}
