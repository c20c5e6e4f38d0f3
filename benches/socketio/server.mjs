// Socket.IO with connection state recovery, as `load serve` serves the others: it prints its address, and `/stats`
// tells the CPU time in microseconds and the resident bytes. It ends with its standard input. With REDIS_URL it keeps
// its sessions in Redis, each with DATA bytes of data.

import { createServer } from "node:http";
import { setImmediate as turn, setTimeout as pause } from "node:timers/promises";
import { Server } from "socket.io";

/** As many messages as the queues of the other servers take. */
const QUEUE = 1024;
/** One thread serves a crowd, so a client may have to wait for longer than the defaults allow. */
const LONG = 3_600_000;

const http = createServer({ noDelay: true }, async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://localhost");
  const [count, size] = ["count", "size"].map((name) => Number(searchParams.get(name)));
  const answers = {
    "/stats": stats,
    "/heap": heap,
    "/fan-out": () => fanOut(count, size),
    "/miss": () => miss(count, size),
    "/quiet": quiet,
  };
  const answer = answers[pathname];
  response.statusCode = answer ? 200 : 404;
  response.end(await answer?.());
});

const { REDIS_URL, DATA } = process.env;

const io = new Server(http, {
  adapter: REDIS_URL && (await streams(REDIS_URL)),
  connectionStateRecovery: { maxDisconnectionDuration: LONG, skipMiddlewares: true },
  connectTimeout: LONG,
  pingTimeout: LONG,
  serveClient: false,
  transports: ["websocket"],
});

/** The rooms of the sessions that will miss messages: each session has a room of its own. */
const missing = [];

io.on("connection", (socket) => {
  const path = socket.handshake.query.case;
  if (DATA) {
    socket.data.text = text(Number(DATA));
  }
  if (path === "/echo") {
    socket.on("m", (payload) => socket.emit("m", payload));
  } else if (path.startsWith("/missed") && !socket.recovered) {
    missing.push(socket.id);
    // A client comes back with the offset of the last message it has got: it needs one.
    socket.emit("m", "first");
  }
});

async function streams(url) {
  const [{ createAdapter }, { createClient }] = await Promise.all([
    import("@socket.io/redis-streams-adapter"),
    import("redis"),
  ]);
  const client = createClient({ url });
  await client.connect();
  return createAdapter(client);
}

function stats() {
  const { user, system } = process.cpuUsage();
  return `${user + system} ${process.memoryUsage.rss()}`;
}

/** Heap and resident bytes without garbage, as `--expose-gc` makes possible. */
function heap() {
  globalThis.gc();
  const { heapUsed, external, rss } = process.memoryUsage();
  return `${heapUsed + external} ${rss}`;
}

/** One producer for each connection, as fast as its queue takes. */
async function fanOut(count, size) {
  const message = text(size);
  const producers = Array.from(io.of("/").sockets.values(), async (socket) => {
    for (let sent = 0; sent < count; sent++) {
      while (socket.connected && socket.conn.writeBuffer.length >= QUEUE) {
        await turn();
      }
      socket.emit("m", message);
    }
  });
  await Promise.all(producers);
}

/** Waits until all clients are gone, then sends each of them messages of its own. */
async function miss(count, size) {
  await quiet();
  for (const room of missing) {
    for (let sent = 0; sent < count; sent++) {
      io.to(room).emit("m", text(size));
    }
    await turn();
  }
}

/** Waits until the last client's drop has been seen. */
async function quiet() {
  while (io.engine.clientsCount > 0 || io.of("/").sockets.size > 0) {
    await pause(1);
  }
}

/** A flat string of its own, not one that is shared or made of pieces. */
function text(size) {
  return Buffer.alloc(size, "m").toString("latin1");
}

process.stdin.resume().on("end", () => process.exit());
// A crowd must fit: a client that the queue does not take tries again only a second later.
http.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => {
  const { address, port } = http.address();
  console.log(`${address}:${port}`);
});
