// The model server behind real WebSockets, obeying the testee's commands as far as the scenarios
// need them. It stands in where the testee is not built.

import { once } from 'node:events';
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { ModelServer } from '../test/support/model.mjs';

export async function startMock({ attach = 'takeover', ping = 1000, lifetime = 120_000 } = {}) {
  const timers = new Set();
  let next = 0;
  let total = 0;
  const model = new ModelServer({
    attach,
    heartbeat: ping,
    lifetime,
    onMessage(message) {
      const [command, ...words] = String(message).split(' ');
      const say = (text) => model.push(text);
      const emit = (size) => say(`e:${next++}:`.padEnd(size, '.'));
      if (command === 'echo') say(`echo:${words.join(' ')}`);
      else if (command === 'add') say(`total:${(total += Number(words[0]))}`);
      else if (command === 'emit') for (let i = 0; i < Number(words[0]); i++) emit(Number(words[1]));
      else if (command === 'every') {
        let left = Number(words[1]);
        const timer = setInterval(() => (left-- > 0 ? emit(0) : clearInterval(timer)), Number(words[0]));
        timers.add(timer);
      } else if (command === 'finish') model.finish('done');
      else say(`unknown:${message}`);
    },
  });

  const http = createServer((_, response) => response.writeHead(404).end());
  const sockets = new WebSocketServer({
    server: http,
    handleProtocols: (offered) => (offered.has('session-resume.v1') ? 'session-resume.v1' : false),
    verifyClient: ({ req }) => ModelServer.parse(offerOf(req)) !== null,
  });
  sockets.on('connection', (socket, req) => {
    const conn = model.attach(ModelServer.parse(offerOf(req)), {
      send: (frame) => socket.send(frame),
      // 1006 is the model's word for a connection that breaks.
      close: (code, reason) => (code === 1006 ? socket.terminate() : socket.close(code, reason)),
    });
    let ack;
    const beat = setInterval(() => conn.session && conn.ack('hb'), ping / 2);
    timers.add(beat);
    socket.on('error', () => {});
    socket.on('close', () => {
      clearInterval(beat);
      conn.gone();
    });
    socket.on('message', (data, binary) => {
      conn.frame(binary ? data : data.toString());
      while (model.take(conn.id));
      ack ??= setTimeout(() => {
        ack = null;
        conn.ack();
      }, 20);
    });
  });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  return {
    port: http.address().port,
    faults: model.faults,
    model,
    http,
    stop() {
      for (const timer of timers) clearInterval(timer);
      sockets.clients.forEach((socket) => socket.terminate());
      http.close();
    },
  };
}

const offerOf = (req) => (req.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
