// Programs that a driver starts: none of them outlives the tests, whatever ends these.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/**
 * Runs a program in a session of its own. When the program ends, or nobody holds the guard's input any more, the guard
 * ends what the program has started, and removes the folder.
 */
const GUARD = `exec 4<&0
setsid "$@" &
program=$!
exec 1>/dev/null 2>&1 3>&1
(read -r _ <&4; kill -s KILL -- -$program) &
wait $program
kill -s KILL -- -$program
until rm -rf "$FOLDER"; do sleep 0.1; done`;

/** Returns a port where nobody listens. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
}

/** Makes a folder for a program. */
export const folder = (name) => mkdtempSync(join(tmpdir(), `session-resume-${name}-`));

/**
 * Starts a program. With a pattern, it waits for a line of the program's `stream` (1: output, 2: errors, 3: a pipe
 * beside them) that matches. What it returns ends the program, and removes the `folder`.
 */
export async function start(path, args, { env, folder, pattern, stream = 2 } = {}) {
  const stdio = ['pipe', 'ignore', 'ignore', 'ignore'];
  if (pattern) stdio[stream] = 'pipe';
  const guard = spawn('sh', ['-c', GUARD, 'sh', path, ...args], { stdio, env: { ...process.env, FOLDER: folder ?? '', ...env }, detached: true });
  guard.stdin.on('error', () => {});
  const ended = new Promise((resolve) => guard.once('exit', resolve));
  const match = await new Promise((resolve, reject) => {
    guard.once('error', reject);
    ended.then(() => reject(new Error(`${path} has ended`)));
    if (!pattern) return guard.once('spawn', resolve);
    createInterface(guard.stdio[stream]).on('line', (line) => pattern.test(line) && resolve(pattern.exec(line)));
  });
  return {
    match,
    async end() {
      guard.stdin.end();
      await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 10_000).unref())]);
      // A pipe that is still open would keep the tests from ending.
      for (const stream of guard.stdio) stream?.destroy();
      guard.unref();
    },
  };
}
