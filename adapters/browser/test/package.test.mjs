// What users of npm get: the package as it is packed, installed in a folder of its own, for both module systems.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { startMock } from '../e2e/mock-server.mjs';

const here = new URL('..', import.meta.url).pathname;
const tsc = join(here, 'node_modules/.bin/tsc');
const ENTRIES = {
  'session-resume': ['ResumableSocket'],
  'session-resume/websocket': ['ResumableSocket'],
  'session-resume/notify': ['SessionResumeStatus', 'messages', 'notify'],
  'session-resume/strict': ['StrictSocket'],
  'session-resume/react': ['useResumableSocket', 'useSession'],
};
/** Programs that must hold under tsc. */
const USERS = ['user.ts', 'user-react.tsx', 'user-libraries.ts', 'user-yjs.mts'];

let user;
/** Runs a program in the user's folder, and returns what it prints. */
const run = async (program, args, cwd = user) => {
  try {
    return (await promisify(execFile)(program, args, { cwd })).stdout;
  } catch (error) {
    throw new Error(`${program} ${args.join(' ')}\n${error.stdout}${error.stderr}`);
  }
};
const node = (...args) => run(process.execPath, args);

before(async () => {
  user = await mkdtemp(join(tmpdir(), 'session-resume-'));
  await run('npm', ['pack', '--silent', '--pack-destination', user], here);
  await writeFile(join(user, 'package.json'), '{ "name": "user", "private": true }');
  const { version } = JSON.parse(await readFile(join(here, 'package.json'), 'utf8'));
  await run('npm', ['install', '--offline', '--ignore-scripts', '--no-audit', '--no-fund', `./session-resume-${version}.tgz`]);
  // What the user has beside it.
  for (const scope of ['@types', '@trpc']) await mkdir(join(user, 'node_modules', scope));
  for (const name of ['react', '@types/react', 'ws', 'rxjs', 'graphql', 'graphql-ws', 'yjs', 'y-websocket', '@trpc/client']) await symlink(join(here, 'node_modules', name), join(user, 'node_modules', name));
  for (const type of ['module', 'commonjs']) {
    await mkdir(join(user, type));
    await writeFile(join(user, type, 'package.json'), JSON.stringify({ type }));
    for (const name of USERS) await cp(join(here, 'test', name), join(user, type, name));
  }
});

after(() => rm(user, { recursive: true, force: true }));

for (const [entry, names] of Object.entries(ENTRIES)) {
  test(`${entry} can be imported and required, and has the same names`, async () => {
    const show = `console.log(JSON.stringify(Object.keys(entry).filter((name) => name !== 'default' && name !== 'module.exports' && name !== '__esModule').sort()))`;
    const imported = await node('--input-type=module', '-e', `import * as entry from '${entry}'; ${show}`);
    // As CommonJS alone: Node would take an ES module, too.
    const required = await node('-e', `const entry = require('${entry}'); if (!require.resolve('${entry}').includes('/cjs/')) throw 'not CommonJS'; ${show}`);
    assert.deepEqual(JSON.parse(imported), names);
    assert.deepEqual(JSON.parse(required), names);
  });
}

test('the hooks and the socket of one module system are one class', async () => {
  const out = await node(
    '-e',
    `require('session-resume'); require('session-resume/react');
     const files = Object.keys(require.cache).filter((file) => file.includes('node_modules/session-resume/'));
     console.log(files.filter((file) => /\\/(index|socket)\\.js$/.test(file)).length, files.every((file) => file.includes('/cjs/')));`,
  );
  assert.equal(out, '2 true\n');
});

for (const [type, load] of [
  ['module', `import { ResumableSocket } from 'session-resume'; import WebSocket from 'ws';`],
  ['commonjs', `const { ResumableSocket } = require('session-resume'); const WebSocket = require('ws');`],
]) {
  test(`a ${type} program talks with a server, and connects anew in between`, async () => {
    const server = await startMock();
    try {
      const program = `${load}
        const socket = new ResumableSocket('ws://127.0.0.1:${server.port}/live', { transports: ['websocket'], env: { WebSocket } });
        socket.onmessage = ({ data }) => {
          console.log(data);
          if (data === 'echo:2') return socket.close();
          socket.reconnect();
          socket.send('echo 2');
        };
        socket.send('echo 1');`;
      assert.equal(await node(`--input-type=${type}`, '-e', program), 'echo:1\necho:2\n');
      assert.deepEqual(server.faults, []);
    } finally {
      server.stop();
    }
  });
}

for (const [type, module, resolution] of [
  ['module', 'nodenext', 'nodenext'],
  ['commonjs', 'nodenext', 'nodenext'],
  ['module', 'node16', 'node16'],
  ['commonjs', 'node16', 'node16'],
  ['module', 'esnext', 'bundler'],
]) {
  test(`its types hold under tsc --strict: ${type}, ${resolution}`, async () => {
    // The types of tRPC name `Disposable`.
    const options = ['--noEmit', '--strict', '--types', '', '--target', 'es2022', '--lib', 'es2022,esnext.disposable,dom', '--jsx', 'react-jsx'];
    const sources = USERS.map((name) => `${type}/${name}`);
    await run(tsc, [...options, '--module', module, '--moduleResolution', resolution, ...sources]);
  });
}

test('a bundler keeps the ways over HTTP where they are asked for, and leaves them out where not', async () => {
  /** The package's files of which something is in the bundle. */
  const bundled = async (entry, name) => {
    const { metafile } = await build({
      stdin: { contents: `import { ${name} } from '${entry}'; globalThis.used = ${name};`, resolveDir: user },
      bundle: true,
      write: false,
      metafile: true,
      outfile: 'bundle.js',
      format: 'esm',
      external: ['react'],
    });
    const { inputs } = metafile.outputs['bundle.js'];
    return Object.keys(inputs).filter((file) => inputs[file].bytesInOutput > 0).map((file) => basename(file));
  };
  for (const [entry, name] of [['session-resume', 'ResumableSocket'], ['session-resume/react', 'useResumableSocket']]) {
    const files = await bundled(entry, name);
    // Of the second one nothing but an effect is of use here: it puts the ways into the class.
    for (const file of ['ways.js', 'index.js', 'session.js']) assert.ok(files.includes(file), `${entry}: ${files}`);
  }
  const small = await bundled('session-resume/websocket', 'ResumableSocket');
  for (const file of ['ways.js', 'index.js', 'session.js', 'notify.js', 'react.js']) assert.ok(!small.includes(file), `${small}`);
});

test('the hooks are for the client alone, where a framework asks', async () => {
  for (const system of ['js', 'cjs']) {
    const text = await readFile(join(user, `node_modules/session-resume/${system}/react.js`), 'utf8');
    assert.ok(/^("use strict";\n)?["']use client["'];/.test(text), system);
  }
});
