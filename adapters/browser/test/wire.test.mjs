import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseBackoff } from '../js/backoff.js';
import { byteLength } from '../js/idl.js';
import { decode, encodeData, encodeState } from '../js/wire.js';

test('lengths are those of UTF-8', () => {
  const texts = ['', 'abc', 'é', '€', '😀', '\ud800', '\udc00', '\ud800\ud800x', 'a😀\udc00', '\u07ff\u0800\uffff'];
  for (const text of texts) assert.equal(byteLength(text), new TextEncoder().encode(text).length, JSON.stringify(text));
  assert.equal(byteLength(new Uint8Array(5)), 5);
  assert.equal(byteLength(new Blob(['é'])), 2);
});

test('what is encoded decodes to itself', () => {
  for (const data of ['', 'x', '\u0001', '\u0001{"ack":1}', '\u0001\u0001', new ArrayBuffer(2)]) {
    assert.deepEqual(decode(encodeData(data)), { data });
  }
});

test('only text that begins with U+0001 grows, by one character', () => {
  assert.equal(encodeData('plain \u0001'), 'plain \u0001');
  assert.equal(encodeData('\u0001x').length, 3);
});

test('a copy of the state is whole, or an error', () => {
  assert.equal(encodeState({ iteration: 3, updated: 5, value: { total: 7 } }), '\u0001{"state":{"iteration":3,"updated":5,"value":{"total":7}}}');
  assert.match(encodeState({ iteration: 0, value: null }), /"updated":\d{13},"value":null/);
  for (const copy of [{ iteration: -1, value: 1 }, { iteration: 1.5, value: 1 }, { iteration: 1, updated: NaN, value: 1 }, { iteration: 1 }, { iteration: 2 ** 53, value: 1 }]) {
    assert.throws(() => encodeState(copy), TypeError, JSON.stringify(copy));
  }
});

test('options that make no sense are refused with their value', () => {
  assert.throws(() => parseBackoff([1, -2]), /backoff must be seconds .*got -2/);
  assert.throws(() => parseBackoff({ max: Infinity }), /backoff.max/);
  assert.throws(() => parseBackoff({ attempts: 0 }), /got 0/);
});
