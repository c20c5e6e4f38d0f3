// The README shows the recipes as they are tested: test/recipe-*.test.mjs, each with its library as it is published.

import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { test } from 'node:test';

const read = (name) => readFile(new URL(`../${name}`, import.meta.url), 'utf8');

test('the README shows each recipe, and each has a test', async () => {
  const readme = await read('README.md');
  const names = await readdir(new URL('../recipes', import.meta.url));
  assert.ok(names.length > 0);
  for (const name of names) {
    assert.ok(readme.includes(`\`\`\`js\n// ${name}\n${await read(`recipes/${name}`)}\`\`\`\n`), name);
    assert.match(await read(`test/recipe-${name.replace(/js$/, 'test.mjs')}`), new RegExp(`from '../recipes/${name}'`));
  }
});
