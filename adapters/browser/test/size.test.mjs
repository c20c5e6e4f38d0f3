import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';

for (const [file, limit] of [['session-resume.js', 8192], ['session-resume-notify.js', 4096]]) {
  test(`${file} is at most ${limit} bytes gzipped`, () => {
    const { length } = gzipSync(readFileSync(new URL(`../dist/${file}`, import.meta.url)), { level: 9 });
    assert.ok(length <= limit, `${length} bytes`);
  });
}
