#!/bin/sh
# faye-websocket 0.11.4 (npm, on websocket-driver 0.7.4) tells its program 1002, "protocol error", when the server
# closes with 1012, 1013 or 1014. It keeps the server's reason, and it answers the server with 1002, too. So each
# side reads that the other one has broken the protocol. IANA's registry of WebSocket close codes lists 1012 "Service
# Restart", 1013 "Try Again Later" and 1014 for a gateway's bad answer.
# Codes of the range 4000 to 4999 pass unchanged.
#
# Consequence: a program on faye-websocket that must tell "the server restarts" from "we speak badly" needs the
# reason's text, or a server that closes with a private code.
#
# Seen on 2026-12-01 with node 20.20.2. Exits with 1 if the behaviour has changed. Needs node and npm.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts \
  faye-websocket@0.11.4 websocket-driver@0.7.4 ws@8.23.0 >/dev/null
cat > seen.cjs <<'EOF'
const { WebSocketServer, WebSocket } = require('ws');
const Faye = require('faye-websocket');

const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
const url = (code) => `ws://127.0.0.1:${server.address().port}/${code}`;

// The server closes with the code that the path names; what the client answers is the code of its close event.
const closed = new Promise((listening) => server.on('listening', listening)).then(() => (open) => {
  const atServer = new Promise((resolve) => {
    server.once('connection', (socket, request) => {
      socket.on('close', resolve);
      socket.close(Number(request.url.slice(1)), 'the reason');
    });
  });
  return Promise.all([open(), atServer]);
});

const faye = (code) => () => new Promise((resolve) => {
  new Faye.Client(url(code)).on('close', ({ code, reason }) => resolve({ code, reason }));
});
const ws = (code) => () => new Promise((resolve) => {
  new WebSocket(url(code)).on('close', (code, reason) => resolve({ code, reason: String(reason) }));
});

closed.then(async (ends) => {
  const expected = { 1000: 1000, 1001: 1001, 1011: 1011, 1012: 1002, 1013: 1002, 1014: 1002, 4112: 4112 };
  let same = true;
  console.log('sent   faye-websocket   its server   ws   its server');
  for (const [sent, shown] of Object.entries(expected)) {
    const [of_faye, server_of_faye] = await ends(faye(sent));
    const [of_ws, server_of_ws] = await ends(ws(sent));
    console.log(`${sent}   ${of_faye.code} "${of_faye.reason}"   ${server_of_faye}   ${of_ws.code}   ${server_of_ws}`);
    same &&= of_faye.code === shown && server_of_faye === shown && of_faye.reason === 'the reason';
    same &&= of_ws.code === Number(sent) && server_of_ws === Number(sent);
  }
  console.log(same ? 'as described' : 'CHANGED');
  process.exit(same ? 0 : 1);
});
EOF
node seen.cjs
