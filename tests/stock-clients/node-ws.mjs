// npm ws: keeps the cookie of the 101, reads on, comes back after every end but three.
import { createRequire } from 'node:module';

const [url, count, packages] = process.argv.slice(2);
const WebSocket = createRequire(`${packages}/`)('ws');
let cookie;
let asked = false;

function open() {
  const socket = new WebSocket(url, { headers: cookie ? { cookie } : {} });
  socket.on('upgrade', (response) => {
    cookie = response.headers['set-cookie']?.[0].split(';')[0] ?? cookie;
  });
  socket.on('open', () => {
    if (!asked) socket.send(`emit ${count} 100`);
    asked = true;
  });
  socket.on('message', (text) => process.stdout.write(`${text}\n`));
  socket.on('error', () => {});
  socket.on('close', (code) => {
    if (![1000, 4100, 4101].includes(code)) setTimeout(open, 20);
  });
}
open();
