// The recipe for y-websocket, in front of a room that does what y-websocket's own server does.

import './support/clock.mjs';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createDecoder, readVarUint, readVarUint8Array } from 'lib0/decoding';
import { createEncoder, length, toUint8Array, writeUint8Array, writeVarUint, writeVarUint8Array } from 'lib0/encoding';
import { applyAwarenessUpdate, Awareness, encodeAwarenessUpdate } from 'y-protocols/awareness';
import { messageYjsSyncStep1, messageYjsUpdate, readSyncMessage, writeSyncStep1, writeUpdate } from 'y-protocols/sync';
import { Doc } from 'yjs';
import { provide } from '../recipes/y-websocket.js';
import { gone, Stage, troubles, upTo } from './support/library.mjs';

const SYNC = 0;
const AWARENESS = 1;

/** A document on the server, with the page that is there. */
class Room {
  doc = new Doc();
  awareness = new Awareness(this.doc);
  /** How many messages have come, of two kinds, and how many went out. */
  count = { asked: 0, updates: 0, sent: 0 };
  #peer = null;

  constructor(t) {
    this.awareness.setLocalState(null);
    this.doc.on('update', (update) => this.#send(SYNC, (encoder) => writeUpdate(encoder, update)));
    this.awareness.on('update', ({ added, updated, removed }) => this.#show([...added, ...updated, ...removed]));
    t.after(() => this.awareness.destroy());
  }

  accept(peer) {
    this.#peer = peer;
    peer.onmessage = (data) => this.#take(new Uint8Array(data));
    this.#send(SYNC, (encoder) => writeSyncStep1(encoder, this.doc));
    this.#show([...this.awareness.getStates().keys()]);
  }

  #take(data) {
    const decoder = createDecoder(data);
    if (readVarUint(decoder) === AWARENESS) return applyAwarenessUpdate(this.awareness, readVarUint8Array(decoder), 'page');
    const answer = createEncoder();
    const kind = readSyncMessage(decoder, answer, this.doc, 'page');
    if (kind === messageYjsSyncStep1) this.count.asked++;
    if (kind === messageYjsUpdate) this.count.updates++;
    if (length(answer)) this.#send(SYNC, (encoder) => writeUint8Array(encoder, toUint8Array(answer)));
  }

  #show(clients) {
    this.#send(AWARENESS, (encoder) => writeVarUint8Array(encoder, encodeAwarenessUpdate(this.awareness, clients)));
  }

  /** As y-websocket's server, to the page, too, that it comes from. */
  #send(kind, write) {
    if (!this.#peer) return;
    const encoder = createEncoder();
    writeVarUint(encoder, kind);
    write(encoder);
    this.count.sent++;
    this.#peer.send(toUint8Array(encoder).slice().buffer);
  }
}

/** A page that has the document, and writes to it, as another one does that the room knows. */
async function begin(t) {
  let room;
  const stage = new Stage(t, (peer) => room.accept(peer));
  room = new Room(t);
  const doc = new Doc();
  const provider = provide('ws://example.test', 'notes', doc, { disableBc: true });
  t.after(() => provider.destroy());
  const told = [];
  provider.on('status', ({ status }) => told.push(status));
  provider.on('sync', (synced) => told.push(synced));
  const got = { messages: 0 };
  provider.ws.addEventListener('message', () => got.messages++);
  provider.awareness.setLocalStateField('name', 'Ada');
  await stage.pass();
  assert.equal(stage.links[0].url, 'ws://example.test/notes');
  const written = { here: 0, there: 0 };
  const timers = [
    setInterval(() => doc.getArray('here').push([written.here++]), 70),
    setInterval(() => room.doc.getArray('there').push([written.there++]), 10),
  ];
  /** Nobody writes any more, and both have the same. */
  const settle = async () => {
    for (const timer of timers) clearInterval(timer);
    await stage.pass(200);
    for (const each of [doc, room.doc]) {
      assert.deepEqual(each.getArray('here').toArray(), upTo(written.here));
      assert.deepEqual(each.getArray('there').toArray(), upTo(written.there));
    }
    assert.deepEqual(room.awareness.getStates().get(doc.clientID), { name: 'Ada' });
  };
  return { stage, room, provider, told, got, written, settle };
}

test('y-websocket: both sides write through cuts, and each change goes over once, as it was written', async (t) => {
  const { stage, room, provider, told, got, written, settle } = await begin(t);
  await troubles(stage);
  await settle();
  assert.ok(written.there > 2000);
  // Another sync would bring all, too.
  assert.deepEqual([told, room.count.asked], [['connected', true], 1]);
  assert.deepEqual([room.count.updates, got.messages], [written.here, room.count.sent]);
  provider.destroy();
  await gone(stage, [1000, '']);
});

test('y-websocket: where the session is gone, another one brings what is missing, by itself', async (t) => {
  const { stage, room, told, settle } = await begin(t);
  await stage.pass(300);
  stage.world.up = false;
  stage.links.at(-1).cut();
  await stage.pass(3000);
  stage.world.server.expire();
  stage.world.up = true;
  await stage.pass(30_000);
  await settle();
  assert.deepEqual([stage.peers.length, room.count.asked], [2, 2]);
  assert.deepEqual(told, ['connected', true, false, 'disconnected', 'connecting', 'connected', true]);
  assert.deepEqual(stage.world.server.faults, []);
});

test('y-websocket: an outage of more than 30 s is too long for the provider, and nothing is lost in it', async (t) => {
  const { stage, told, settle } = await begin(t);
  await stage.pass(300);
  stage.world.up = false;
  stage.links.at(-1).cut();
  await stage.pass(28_000);
  assert.deepEqual(told, ['connected', true]);
  await stage.pass(12_000);
  assert.deepEqual(told, ['connected', true, false, 'disconnected', 'connecting']);
  // The model has one session at a time, and it is nobody's any more.
  stage.world.server.expire();
  stage.world.up = true;
  await stage.pass(30_000);
  await settle();
  assert.equal(stage.peers.length, 2);
  assert.deepEqual(told.slice(5), ['connected', true]);
});

test('y-websocket: the end that the server makes with 4400 to 4499 is for good', async (t) => {
  const { stage, provider } = await begin(t);
  const closed = [];
  provider.on('closed', ({ code, reason }) => closed.push(code, reason));
  stage.peers[0].close(4403, 'Forbidden');
  await gone(stage, undefined);
  assert.deepEqual(closed, [4403, 'Forbidden']);
});
