import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';

for (const [file, limit] of [['session-resume.js', 17280], ['session-resume-websocket.js', 10496], ['session-resume-notify.js', 4096]]) {
  test(`${file} is at most ${limit} bytes gzipped`, () => {
    const { length } = gzipSync(readFileSync(new URL(`../dist/${file}`, import.meta.url)), { level: 9 });
    assert.ok(length <= limit, `${length} bytes`);
  });
}

test('no text is ever taken as HTML, and no code is made of text', () => {
  for (const file of ['session-resume.js', 'session-resume-websocket.js', 'session-resume-notify.js']) {
    const text = readFileSync(new URL(`../dist/${file}`, import.meta.url), 'utf8');
    assert.doesNotMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|setHTML|document\.write|\beval\b|new Function/, file);
  }
});

test('the names that a page may use for the texts are in the bundle as in the source', async () => {
  const [source, bundled] = await Promise.all(['../js/notify.js', '../dist/session-resume-notify.js'].map((file) => import(file)));
  assert.deepEqual(Object.keys(bundled.messages), Object.keys(source.messages));
});
