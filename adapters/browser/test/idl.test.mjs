// What a WebSocket makes of its arguments; e2e/interface.test.mjs asks the browser's own.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runInNewContext } from 'node:vm';
import { own, readClose, readProtocols, readUrl } from '../js/idl.js';
import { ResumableSocket } from './support/subject.mjs';
import { World } from './support/world.mjs';

/** A socket with nothing behind it, and what it was given. */
function bare(...args) {
  const opened = [];
  const env = {
    WebSocket: class {
      constructor(...given) {
        opened.push(given);
      }
      close() {}
    },
    setTimeout() {},
    clearTimeout() {},
    window: undefined,
    document: { baseURI: 'http://example.test/app/', addEventListener() {} },
  };
  class Bare extends ResumableSocket {
    constructor(...given) {
      const [url, second] = given;
      const options = second === null || typeof second !== 'object' || Symbol.iterator in second ? { protocols: second } : second;
      if (second === null) super(url, { protocols: null, env });
      else super(url, { ...options, env });
    }
  }
  return { socket: new Bare(...args), opened };
}

test('urls', () => {
  for (const [given, expected] of [
    ['live', 'ws://example.test/app/live'], ['https://x.test/a?b', 'wss://x.test/a?b'], ['//x.test', 'ws://x.test/'],
    ['ws://x.test', 'ws://x.test/'], ['WSS://X.test/', 'wss://x.test/'], [new URL('http://x.test/a'), 'ws://x.test/a'], [undefined, 'ws://example.test/app/undefined'],
  ]) {
    assert.equal(readUrl(given, 'http://example.test/app/').href, expected);
  }
  for (const bad of ['http://', 'ftp://x/', 'mailto:a', '/x#part', '/x#', 'xhttp://x/', 'ws://x:99999/']) {
    assert.throws(() => readUrl(bad, 'http://example.test/'), { name: 'SyntaxError' }, bad);
    assert.throws(() => new ResumableSocket(bad), DOMException, bad);
  }
  assert.throws(() => new ResumableSocket('/relative'), { name: 'SyntaxError' }, 'there is nothing to be relative to');
  assert.throws(() => new ResumableSocket(), TypeError);
  assert.throws(() => readUrl(Symbol(), undefined), TypeError);
});

test('where there is no document, an URL is relative to the worker', () => {
  const env = { document: undefined, location: { href: 'https://x.test/js/worker.js', origin: 'https://x.test' }, WebSocket: class { close() {} }, setTimeout() {} };
  assert.equal(new ResumableSocket('../live', { env }).url, 'wss://x.test/live');
});

test('subprotocols', () => {
  for (const [given, expected] of [
    [undefined, []], ['chat', ['chat']], [['a', 'b'], ['a', 'b']], [null, ['null']], [new Set(['a', 1]), ['a', '1']], [7, ['7']], [[], []],
  ]) {
    assert.deepEqual(readProtocols(given), expected);
    assert.deepEqual(bare('/x', given).opened[0][1].slice(2), expected);
  }
  for (const bad of ['', 'a b', 'a,b', 'ä', '[', ['a', 'a'], 'session-resume.v1', 'at.abc']) {
    assert.throws(() => readProtocols(bad), { name: 'SyntaxError' }, String(bad));
  }
  assert.throws(() => readProtocols([Symbol()]), TypeError);
});

test('codes and reasons', () => {
  for (const [args, code, reason] of [
    [[], null, ''], [[undefined], null, ''], [[1000], 1000, ''], [[1000, null], 1000, 'null'], [[4999.4, 5], 4999, '5'], [['3000'], 3000, ''],
    [[2999.5], 3000, ''], [[undefined, 'why'], 1000, 'why'],
  ]) {
    assert.deepEqual(readClose(...args), { code, reason });
  }
  for (const code of [null, 0, 999, 1001, 2999, 5000, NaN, -1, 1e9, {}]) assert.throws(() => readClose(code), { name: 'InvalidAccessError' });
  assert.throws(() => readClose(1000, 'ä'.repeat(62)), { name: 'SyntaxError' });
  assert.throws(() => readClose(1000, Symbol()), TypeError);
  assert.equal(readClose(1000, 'ä'.repeat(61)).reason.length, 61);
});

test('data of another realm is what it is there', async () => {
  const realm = (code) => runInNewContext(code, { Blob });
  const bytes = (data) => [...new Uint8Array(data.buffer ?? data)];
  const buffer = own(realm('new Uint8Array([1, 2, 3]).buffer'));
  assert.ok(buffer instanceof ArrayBuffer);
  assert.deepEqual(bytes(buffer), [1, 2, 3]);
  for (const view of ['new Uint8Array(b, 1, 2)', 'new Uint16Array(b, 2, 1)', 'new DataView(b, 1)', 'new BigInt64Array(new Uint8Array(8).fill(7).buffer)', 'new Float32Array(b)', 'new Uint8ClampedArray(b, 3)']) {
    const [there, here] = [realm, (code) => new Function(`return ${code}`)()].map((run) => own(run(view.replaceAll('b,', 'new Uint8Array([1, 2, 3, 4]).buffer,').replaceAll('(b)', '(new Uint8Array([1, 2, 3, 4]).buffer)'))));
    assert.ok(ArrayBuffer.isView(there) && there instanceof Uint8Array, view);
    assert.deepEqual(bytes(there), bytes(here), view);
  }
  const blob = realm('Object.setPrototypeOf(new Blob(["abc"]), {})');
  assert.equal(own(blob), blob, 'told by what it is, not by its prototype');
});

test('what is neither bytes nor text is the text that it makes', () => {
  const text = { toString: () => 'made' };
  for (const [given, expected] of [
    [undefined, 'undefined'], [null, 'null'], [1.5, '1.5'], [true, 'true'], [[1, [2]], '1,2'], [text, 'made'], [new Date(NaN), 'Invalid Date'],
    [{ byteLength: 3, buffer: 1 }, '[object Object]'], [new SharedArrayBuffer(1), '[object SharedArrayBuffer]'],
    [Object.create(ArrayBuffer.prototype, { toString: { value: () => 'fake' }, [Symbol.toStringTag]: { value: 'x' } }), 'fake'],
  ]) {
    assert.equal(own(given), expected);
  }
  if (''.toWellFormed) assert.equal(own('a\ud800b'), 'a\ufffdb');
  for (const bad of [Symbol('x'), Object.create(null), new Uint8Array(new SharedArrayBuffer(1))]) assert.throws(() => own(bad), TypeError);
  const gone = new Uint8Array([1, 2]);
  structuredClone(gone.buffer, { transfer: [gone.buffer] });
  assert.equal(own(gone).byteLength, 0);
  assert.equal(own(gone.buffer).byteLength, 0);
});

test('the interface', () => {
  const { socket } = bare('/live');
  for (const [name, value] of Object.entries({ CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3 })) {
    for (const on of [ResumableSocket, ResumableSocket.prototype]) {
      assert.deepEqual(Object.getOwnPropertyDescriptor(on, name), { value, writable: false, enumerable: true, configurable: false });
    }
    assert.ok(!Object.hasOwn(socket, name));
    assert.equal(socket[name], value);
  }
  assert.throws(() => (socket.url = 'ws://other/'), TypeError);
  assert.throws(() => (socket.OPEN = 9), TypeError);
  assert.equal(socket.url, 'ws://example.test/live');
  for (const name of ['url', 'readyState', 'send', 'close', 'onopen', 'binaryType']) {
    assert.ok(Object.getOwnPropertyDescriptor(ResumableSocket.prototype, name).enumerable, name);
  }
  socket.binaryType = 'nodebuffer';
  assert.equal(socket.binaryType, 'blob');
  socket.binaryType = 'arraybuffer';
  assert.equal(socket.binaryType, 'arraybuffer');
  assert.throws(() => bare('/live', { binaryType: 'bytes' }), TypeError);
  assert.throws(() => socket.send(), TypeError);
  assert.throws(() => socket.send(Symbol()), TypeError);
  assert.equal(Object.prototype.toString.call(socket), '[object ResumableSocket]');
});

test('a handler that replaces another keeps its place, and null gives it up', () => {
  const { socket } = bare('/live');
  const calls = [];
  const note = (name) => () => void calls.push(name);
  const fire = () => (socket.dispatchEvent(new Event('message')), calls.splice(0).join());
  socket.onmessage = note('first');
  socket.addEventListener('message', note('listener'));
  socket.onmessage = note('second');
  assert.equal(fire(), 'second,listener');
  const object = {};
  socket.onmessage = object;
  assert.equal(socket.onmessage, object);
  assert.equal(fire(), 'listener', 'kept, and not called');
  socket.onmessage = note('third');
  assert.equal(fire(), 'third,listener');
  for (const none of [null, undefined, 7, 'text']) {
    socket.onmessage = none;
    assert.equal(socket.onmessage, null);
  }
  socket.onmessage = note('last');
  assert.equal(fire(), 'listener,last');
  socket.onclose = () => false;
  assert.equal(socket.dispatchEvent(new Event('close', { cancelable: true })), false);
});

test('close events have the codes of a WebSocket', () => {
  const events = (run, settings) => {
    const world = new World(1, settings);
    const socket = world.connect();
    const seen = [];
    for (const type of ['error', 'close']) {
      socket.addEventListener(type, (event) => seen.push(type === 'close' ? [event.code, event.reason, event.wasClean] : type));
    }
    run(socket, world);
    world.advance(10_000);
    return seen;
  };
  const opened = (run) => (socket, world) => (world.advance(100), run(socket, world));
  assert.deepEqual(events(opened((socket) => socket.close())), [[1005, '', true]]);
  assert.deepEqual(events(opened((socket) => socket.close(1000))), [[1000, '', true]]);
  assert.deepEqual(events(opened((socket) => socket.close(4001, 'bye'))), [[4001, 'bye', true]]);
  assert.deepEqual(events(opened((socket) => socket.close(undefined, 'bye'))), [[1000, 'bye', true]]);
  assert.deepEqual(events((socket) => socket.close()), ['error', [1006, '', false]], 'while connecting it has failed');
  assert.deepEqual(events((socket) => socket.close(4001, 'bye')), ['error', [1006, '', false]]);
  assert.deepEqual(events(opened((_, world) => world.server.finish('done', 4429, 'too many'))), [[4429, 'too many', true]]);
  if (globalThis.CloseEvent) {
    const { socket } = bare('/live');
    socket.onclose = (event) => assert.ok(event instanceof CloseEvent);
    socket.close();
  }
});

test('protocol is the application’s', () => {
  const protocol = (protocols) => {
    const world = new World(1);
    const socket = world.connect({ protocols });
    const before = socket.protocol;
    world.advance(100);
    return [before, socket.protocol];
  };
  assert.deepEqual(protocol(undefined), ['', '']);
  assert.deepEqual(protocol('chat'), ['', 'chat']);
  assert.deepEqual(protocol(['a', 'b']), ['', ''], 'which one, the server does not say');
});

test('a message over the server’s limit throws and disturbs nothing', () => {
  const world = new World(1, { limit: 5 });
  const socket = world.connect();
  const lost = [];
  socket.addEventListener('status', (event) => event.status === 'lost' && lost.push(event.reason, ...event.messages));
  socket.send('too long');
  socket.send('ok');
  world.advance(100);
  assert.deepEqual(lost, ['too big', 'too long']);
  assert.throws(() => socket.send('longer'), { name: 'QuotaExceededError', message: 'the message has 6 bytes, and the server takes 5' });
  socket.send('short');
  world.advance(100);
  const [client] = world.server.session.clients.values();
  assert.deepEqual(client.inbox, ['ok', 'short']);
});

test('a message that the browser cannot take is tried ever more slowly', () => {
  const world = new World(1);
  const socket = world.connect();
  world.advance(100);
  socket.send('a');
  world.advance(50);
  for (const id of world.server.session.clients.keys()) world.server.take(id);
  world.server.session.eachConn((conn) => conn.ack());
  world.server.push('x');
  world.advance(100);
  let attempts = 0;
  world.onLink = (link) => {
    attempts++;
    // The server tells its last ack again, and then the connection ends at the message.
    const take = link.onmessage;
    link.onmessage = (event) => (event.data === 'unreadable' ? link.cut({ client: 0, server: 0 }) : take(event));
  };
  world.server.push('unreadable');
  [...world.links][0].cut();
  world.advance(600_000);
  assert.ok(attempts > 5 && attempts < 90, `${attempts} attempts in ten minutes`);
});

test('what the library cannot read does not cost a message of ours, also where no limit was told', () => {
  const world = new World(1, { limit: undefined });
  const socket = world.connect();
  world.advance(100);
  const lost = [];
  socket.addEventListener('status', ({ status }) => status === 'lost' && lost.push(status));
  const [link] = world.links;
  link.delay(1000);
  socket.send('ours');
  // The package `ws` names the error, and closes with what the other end makes of its 1009.
  link.onerror({ error: { code: 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH' } });
  link.onclose({ code: 1009, reason: '' });
  link.cut({ client: null });
  world.advance(5000);
  const [client] = world.server.session.clients.values();
  assert.deepEqual([client.inbox, lost], [['ours'], []]);
});

test('loopback is always online; elsewhere attempts go on, slowly', () => {
  for (const [url, quick] of [
    ['ws://localhost:1/', true], ['ws://app.localhost/', true], ['ws://127.0.0.1/', true], ['ws://127.8.9.1/', true], ['ws://[::1]:8/', true],
    ['ws://localhost.example/', false], ['ws://127.example/', false], ['ws://10.0.0.1/', false],
  ]) {
    const world = new World(1);
    const page = world.page();
    const socket = world.connect({}, page, url);
    world.advance(100);
    page.navigator.onLine = false;
    page.window.dispatchEvent(new Event('offline'));
    // Asks the page anew.
    socket.reconnect();
    world.advance(100);
    [...world.links][0].cut();
    world.advance(2000);
    assert.equal(socket.current.status, quick ? 'open' : 'offline', url);
    world.advance(40_000);
    assert.equal(socket.current.status, 'open', url);
  }
});

test('in a worker the network is heard of, too', () => {
  const scope = new EventTarget();
  const world = new World(1);
  const page = { window: scope, document: undefined, location: { href: 'http://example.test/js/worker.js', origin: 'http://example.test' }, navigator: { onLine: true } };
  const socket = world.connect({}, page, '/live');
  world.advance(100);
  page.navigator.onLine = false;
  scope.dispatchEvent(new Event('offline'));
  assert.equal(socket.current.status, 'offline');
  [...world.links][0].cut();
  world.advance(100);
  page.navigator.onLine = true;
  scope.dispatchEvent(new Event('online'));
  world.advance(100);
  assert.equal(socket.current.status, 'open');
});
