#!/bin/sh
# After ten failed connections Firefox ESR 153 holds the next WebSocket to that host and port back by itself, for ten to sixteen
# seconds, also when the server is back and a `fetch` to the same host and port is answered at once. RFC 6455 section
# 7.2.3 asks clients for such a delay. The page is not told of it: `readyState` is 0, as while connecting.
#
# Consequence: a page that ends an attempt after some seconds and starts another may end each of them before a packet has
# left, and each end counts as a failure more, which makes the delay longer. A page can ask by `fetch` first whether the
# server is there, and spare the WebSockets that would fail.
#
# Seen on 2026-12-01 with node 20.20.2 on Debian 12: fetch 0.0 s, WebSocket 9.8 to 16 s. Exits with 1 if the fetch takes more
# than 1.5 s or the WebSocket less than 3 s. Needs node and npm, and Debian's package firefox-esr, which it installs as root where it is missing.
set -eu
command -v firefox-esr >/dev/null || { apt-get update -q && apt-get install -yq --no-install-recommends firefox-esr; }
folder=$(mktemp -d)
trap 'sleep 1; rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts ws@8.23.0 >/dev/null
mkdir profile
cat > seen.cjs <<'EOF'
const { execFileSync, spawn } = require('node:child_process');
const { once } = require('node:events');
const { createServer } = require('node:http');
const { WebSocketServer } = require('ws');

const listening = async (server, port = 0) => {
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return server.address().port;
};

(async () => {
  const unused = createServer();
  const away = await listening(unused);
  unused.close();
  const page = `<!doctype html><title>page</title><script type="module">
    const ended = (socket) => new Promise((resolve) => (socket.onopen = socket.onclose = resolve));
    const since = (start) => (performance.now() - start) / 1000;
    const failures = [];
    for (let i = 0; i < 10; i++) {
      const start = performance.now();
      await ended(new WebSocket('ws://127.0.0.1:${away}/'));
      failures.push(since(start));
    }
    await fetch('/start');
    let start = performance.now();
    await fetch('http://127.0.0.1:${away}/', { mode: 'no-cors' });
    const asked = since(start);
    start = performance.now();
    const { type } = await ended(new WebSocket('ws://127.0.0.1:${away}/'));
    await fetch('/told', { method: 'POST', body: JSON.stringify({ failures, asked, type, opened: since(start) }) });
  </script>`;
  let tell;
  const told = new Promise((resolve) => (tell = resolve));
  const pages = createServer(async (request, response) => {
    let body = '';
    for await (const part of request) body += part;
    if (request.url === '/told') tell(JSON.parse(body));
    if (request.url === '/start') {
      const server = createServer((_, response) => response.end());
      new WebSocketServer({ server });
      await listening(server, away);
    }
    response.setHeader('content-type', 'text/html').end(page);
  });
  const port = await listening(pages);

  const env = { ...process.env, HOME: process.cwd() };
  console.log(execFileSync('firefox-esr', ['--version'], { env, stdio: ['ignore', 'pipe', 'ignore'] }).toString().trim());
  const args = ['--headless', '--no-remote', '--profile', 'profile', `http://127.0.0.1:${port}/`];
  const child = spawn('firefox-esr', args, { env, stdio: 'ignore', detached: true });
  process.on('exit', () => process.kill(-child.pid, 'SIGKILL'));
  const seen = await Promise.race([told, new Promise((resolve) => setTimeout(resolve, 180_000, null))]);
  if (!seen) throw new Error('the page has told nothing for three minutes');
  const { failures, asked, type, opened } = seen;
  console.log(`ten that fail: ${failures.map((seconds) => seconds.toFixed(1)).join(', ')} s each`);
  console.log(`the server is there: fetch answered after ${asked.toFixed(1)} s, WebSocket: ${type} after ${opened.toFixed(1)} s`);
  const same = asked < 1.5 && type === 'open' && opened > 3;
  console.log(same ? 'as described' : 'CHANGED');
  process.exit(same ? 0 : 1);
})();
EOF
node seen.cjs
