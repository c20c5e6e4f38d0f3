#!/bin/sh
# WebKitGTK 2.50.6 tells a page 1006, "the connection broke", with an `error` event, no reason and `wasClean` false, when
# the server closes with 1012, 1013 or 1014. IANA's registry of WebSocket close codes lists 1012 "Service Restart", 1013
# "Try Again Later" and 1014 for a gateway's bad answer. Chromium 156 and Firefox ESR 153 show all three, with the reason.
# Codes of the range 4000 to 4999 pass unchanged.
#
# Consequence: a page cannot tell "the server restarts, come again at once" from a broken network, unless the server
# closes with a private code.
#
# Seen on 2026-12-01 with node 20.20.2 on Debian 12. Exits with 1 if the behaviour has changed. Needs node and npm, and
# Debian's packages webkit2gtk-driver (which brings MiniBrowser) and xvfb, which it installs as root where they are missing.
set -eu
browser=$(echo /usr/lib/*/webkit2gtk-4.1/MiniBrowser)
if ! [ -x "$browser" ] || ! command -v Xvfb >/dev/null; then
  apt-get update -q && apt-get install -yq --no-install-recommends webkit2gtk-driver xvfb
  browser=$(echo /usr/lib/*/webkit2gtk-4.1/MiniBrowser)
fi
folder=$(mktemp -d)
trap 'sleep 1; rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts ws@8.23.0 >/dev/null
cat > seen.cjs <<'EOF'
const { execFileSync, spawn } = require('node:child_process');
const { once } = require('node:events');
const { createServer } = require('node:http');
const { WebSocketServer } = require('ws');

const browser = process.argv[2];
const expected = { 1000: 1000, 1001: 1001, 1011: 1011, 1012: 1006, 1013: 1006, 1014: 1006, 4112: 4112 };
const page = `<!doctype html><title>page</title><script>
  const rows = ${JSON.stringify(Object.keys(expected))}.map((code) => new Promise((resolve) => {
    const events = [];
    const socket = new WebSocket('ws://' + location.host + '/' + code);
    socket.onerror = () => events.push('error');
    socket.onclose = ({ code, reason, wasClean }) => resolve([...events, code, reason, wasClean]);
  }));
  Promise.all(rows).then((rows) => fetch('/told', { method: 'POST', body: JSON.stringify(rows) }));
</script>`;

(async () => {
  let tell;
  const told = new Promise((resolve) => (tell = resolve));
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const part of request) body += part;
    if (request.url === '/told') tell(JSON.parse(body));
    response.setHeader('content-type', 'text/html').end(page);
  });
  new WebSocketServer({ server }).on('connection', (socket, { url }) => socket.close(Number(url.slice(1)), 'the reason'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  const screen = spawn('Xvfb', ['-displayfd', '3', '-nolisten', 'tcp'], { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
  process.on('exit', () => screen.kill());
  const [display] = await once(screen.stdio[3], 'data');
  const env = { ...process.env, DISPLAY: `:${String(display).trim()}`, HOME: process.cwd() };
  console.log(execFileSync(browser, ['--version'], { env, stdio: ['ignore', 'pipe', 'ignore'] }).toString().trim());
  const child = spawn(browser, [`http://127.0.0.1:${server.address().port}/`], { env, stdio: 'ignore', detached: true });
  process.on('exit', () => process.kill(-child.pid, 'SIGKILL'));
  const rows = await Promise.race([told, new Promise((resolve) => setTimeout(resolve, 120_000, []))]);

  let same = true;
  Object.entries(expected).forEach(([sent, shown], i) => {
    console.log(`sent ${sent}   seen ${JSON.stringify(rows[i])}`);
    const seen = shown === 1006 ? ['error', 1006, '', false] : [shown, 'the reason', true];
    same &&= JSON.stringify(rows[i]) === JSON.stringify(seen);
  });
  console.log(same ? 'as described' : 'CHANGED');
  process.exit(same ? 0 : 1);
})();
EOF
node seen.cjs "$browser"
