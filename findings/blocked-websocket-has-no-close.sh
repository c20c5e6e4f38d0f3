#!/bin/sh
# A WebSocket that the browser itself blocks is told of in a different way by each browser, and by none as the standard
# has it. In the WebSockets Standard a bad port and a host that `connect-src` does not allow are network errors, by which
# the connection fails like by any other: `error`, then `close` (https://websockets.spec.whatwg.org/#feedback-from-the-protocol).
# The constructor throws a `SyntaxError` alone.
#
#                                       Chromium 156       Firefox ESR 153            WebKitGTK 2.50.6
# nobody listens                        error, close       error, close               error, close
# a bad port (9)                        error, close       error, close               error, no close
# a host that connect-src forbids       error, no close    throws                     throws SecurityError
#                                                          NS_ERROR_CONTENT_BLOCKED
#
# Where there is no `close`, `readyState` is 3 all the same.
#
# Consequence: a program that waits for `close` to try again, or to tell its user, waits for ever. It has to look at
# `readyState` once the `error` event is over, and to catch what the constructor throws.
#
# Seen on 2026-12-01 with node 20.20.2 on Debian 12. Exits with 1 if the behaviour has changed. Needs node, and Debian's
# packages chromium, firefox-esr, webkit2gtk-driver and xvfb, which it installs as root where they are missing.
set -eu
browser=$(echo /usr/lib/*/webkit2gtk-4.1/MiniBrowser)
if ! [ -x "$browser" ] || ! command -v chromium >/dev/null || ! command -v firefox-esr >/dev/null || ! command -v Xvfb >/dev/null; then
  apt-get update -q && apt-get install -yq --no-install-recommends chromium firefox-esr webkit2gtk-driver xvfb
  browser=$(echo /usr/lib/*/webkit2gtk-4.1/MiniBrowser)
fi
folder=$(mktemp -d)
trap 'sleep 1; rm -rf "$folder"' EXIT
cat > "$folder/seen.mjs" <<'EOF'
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { join } from 'node:path';

const [folder, miniBrowser] = process.argv.slice(2);
const listening = async (server) => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server.address().port;
};
const unused = createServer();
const nobody = await listening(unused);
unused.close();

// Each page tries one URL, and goes to the next page with what it has seen: a policy forbids it to send that.
const rows = [['nobody listens', nobody, null], ['a bad port', 9, null], ['connect-src', nobody, "connect-src 'none'"]];
const page = (i) => `<!doctype html><title>page</title><script>
  const events = [];
  let state = '';
  try {
    const socket = new WebSocket('ws://127.0.0.1:${rows[i][1]}/');
    for (const type of ['open', 'error', 'close']) socket.addEventListener(type, () => events.push(type));
    state = () => socket.readyState;
  } catch ({ name }) {
    events.push('throws ' + name);
    state = () => '-';
  }
  setTimeout(() => (location.href = '/${i + 1}?' + encodeURIComponent(events.join(', ') + ' (' + state() + ')')), 3000);
</script>`;
let seen;
let all;
const pages = createServer(({ url }, response) => {
  const [path, told] = url.split('?');
  const i = Number(path.slice(1));
  if (told !== undefined) seen[i - 1] = decodeURIComponent(told);
  const headers = { 'content-type': 'text/html', ...(rows[i]?.[2] && { 'content-security-policy': rows[i][2] }) };
  response.writeHead(Number.isNaN(i) ? 404 : 200, headers).end(rows[i] ? page(i) : '');
  if (i === rows.length) all();
});
const port = await listening(pages);

const screen = spawn('Xvfb', ['-displayfd', '3', '-nolisten', 'tcp'], { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
process.on('exit', () => screen.kill());
const [display] = await once(screen.stdio[3], 'data');
const env = { ...process.env, DISPLAY: `:${String(display).trim()}`, HOME: folder };
const expected = {
  chromium: ['error, close (3)', 'error, close (3)', 'error (3)'],
  firefox: ['error, close (3)', 'error, close (3)', 'throws NS_ERROR_CONTENT_BLOCKED (-)'],
  webkit: ['error, close (3)', 'error (3)', 'throws SecurityError (-)'],
};
const browsers = {
  chromium: ['chromium', '--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', `--user-data-dir=${join(folder, 'chromium')}`],
  firefox: ['firefox-esr', '--headless', '--no-remote', '--profile', execFileSync('mktemp', ['-d', '-p', folder]).toString().trim()],
  webkit: [miniBrowser],
};
let same = true;
for (const [name, [path, ...args]] of Object.entries(browsers)) {
  console.log(`${name}: ${execFileSync(path, ['--version'], { env, stdio: ['ignore', 'pipe', 'ignore'] }).toString().trim()}`);
  seen = [];
  const told = new Promise((resolve) => (all = resolve));
  const child = spawn(path, [...args, `http://127.0.0.1:${port}/0`], { env, stdio: 'ignore', detached: true });
  await Promise.race([told, new Promise((resolve) => setTimeout(resolve, 120_000))]);
  process.kill(-child.pid, 'SIGKILL');
  rows.forEach(([row], i) => {
    console.log(`  ${row.padEnd(16)} ${seen[i]}`);
    same &&= seen[i] === expected[name][i];
  });
}
console.log(same ? 'as described' : 'CHANGED');
process.exit(same ? 0 : 1);
EOF
node "$folder/seen.mjs" "$folder" "$browser"
