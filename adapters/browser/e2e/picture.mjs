// Makes the picture of the README: the dashboard, cut off and coming back, as it is in Chromium.
//
//   cargo build -p dashboard && DASHBOARD=../../target/debug/dashboard node e2e/picture.mjs ../../docs/img/dashboard.png
//
// An animated PNG of 256 colours. A frame has only the pixels that have changed.

import { writeFileSync } from 'node:fs';
import { crc32, deflateSync, inflateSync } from 'node:zlib';
import { launch } from './driver/chromium.mjs';
import { startServer } from './stage.mjs';

const SIZE = { width: 1240, height: 1010 };
const EVERY = 500;

/** Plays the scene; returns its frames as PNG, each with the time for which it is shown. */
async function play() {
  const server = await startServer(process.env.DASHBOARD, ['--listen', '127.0.0.1:0', '--memory']);
  const browser = await launch();
  try {
    const page = await browser.newPage({ viewport: SIZE, deviceScaleFactor: 0.7 });
    const frames = [];
    let last = performance.now();
    /** Takes a frame; the one before was shown until now. */
    const take = async () => {
      const now = performance.now();
      if (frames.length > 0) frames.at(-1).ms = Math.round(now - last);
      last = now;
      frames.push({ png: await page.screenshot({ animations: 'disabled' }), ms: EVERY });
    };
    const state = (text) => page.locator('#state').getByText(text, { exact: true });
    await page.goto(`http://127.0.0.1:${server.port}/`);
    await state('Connected').waitFor();
    for (const name of ['Solar', 'Homes']) await page.getByLabel(name, { exact: true }).check();
    await page.getByRole('button', { name: 'Plot', exact: true }).click();
    await page.locator('#legend li').nth(1).waitFor();
    await page.locator('#number').getByText('no.').waitFor();
    const watch = async (until) => {
      for (let done = false; !done; ) {
        await take();
        await page.waitForTimeout(Math.max(0, EVERY - (performance.now() - last)));
        done = await until();
      }
    };
    let rounds = 4;
    await watch(() => --rounds === 0);
    await page.getByRole('button', { name: 'Drop connection' }).click();
    await state('Disconnected').waitFor();
    // What is done meanwhile is kept.
    rounds = 4;
    await watch(() => --rounds === 0);
    await page.getByRole('checkbox', { name: 'Wind on land' }).check();
    await page.getByRole('button', { name: 'Plot', exact: true }).click();
    await watch(async () => (await page.locator('#replay').textContent()).includes('replayed'));
    await page.locator('#legend li').nth(2).waitFor();
    rounds = 3;
    await watch(() => --rounds === 0);
    await take();
    frames.at(-1).ms = 4000;
    return frames;
  } finally {
    await browser.close();
    await server.stop();
  }
}

/** Reads a PNG of 8 bits a channel; returns its pixels as numbers 0xRRGGBB. */
function decode(png) {
  const data = [];
  let header;
  for (let at = 8; at < png.length; ) {
    const length = png.readUInt32BE(at);
    const type = png.toString('latin1', at + 4, at + 8);
    const body = png.subarray(at + 8, at + 8 + length);
    if (type === 'IHDR') header = body;
    if (type === 'IDAT') data.push(body);
    at += length + 12;
  }
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
  const channels = { 2: 3, 6: 4 }[header[9]];
  const raw = inflateSync(Buffer.concat(data));
  const stride = width * channels;
  let above = Buffer.alloc(stride);
  const pixels = new Uint32Array(width * height);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (stride + 1)];
    const line = Buffer.from(raw.subarray(y * (stride + 1) + 1, (y + 1) * (stride + 1)));
    for (let x = 0; x < stride; x++) {
      const a = x >= channels ? line[x - channels] : 0;
      const b = above[x];
      const c = x >= channels ? above[x - channels] : 0;
      const p = a + b - c;
      const [pa, pb, pc] = [Math.abs(p - a), Math.abs(p - b), Math.abs(p - c)];
      const paeth = pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
      line[x] += [0, a, b, (a + b) >> 1, paeth][filter];
    }
    for (let x = 0; x < width; x++) pixels[y * width + x] = line.readUIntBE(x * channels, 3);
    above = line;
  }
  return { width, height, pixels };
}

const rgb = (colour) => [colour >> 16, (colour >> 8) & 255, colour & 255];

/** Returns 255 colours, frequent ones that differ from each other, and what finds the nearest of them. */
function palette(images) {
  const counts = new Map();
  for (const { pixels } of images) for (const colour of pixels) counts.set(colour, (counts.get(colour) ?? 0) + 1);
  const apart = (one, other) => {
    const [r, g, b] = rgb(one);
    const [r2, g2, b2] = rgb(other);
    return (r - r2) ** 2 + (g - g2) ** 2 + (b - b2) ** 2;
  };
  const left = [...counts].map(([colour, count]) => ({ colour, weight: Math.sqrt(count), distance: 1e9 }));
  const colours = [];
  while (colours.length < 255 && colours.length < left.length) {
    const next = left.reduce((best, other) => (other.weight * other.distance > best.weight * best.distance ? other : best));
    colours.push(next.colour);
    for (const other of left) other.distance = Math.min(other.distance, apart(other.colour, next.colour));
  }
  const known = new Map();
  // Index 0 is "as before".
  const index = (colour) => {
    if (!known.has(colour)) {
      const nearest = colours.reduce((best, other, at) => (apart(colour, other) < apart(colour, colours[best]) ? at : best), 0);
      known.set(colour, nearest + 1);
    }
    return known.get(colour);
  };
  return { colours, index };
}

function chunk(type, body) {
  const typed = Buffer.concat([Buffer.from(type, 'latin1'), body]);
  const out = Buffer.alloc(typed.length + 8);
  out.writeUInt32BE(body.length, 0);
  typed.copy(out, 4);
  out.writeUInt32BE(crc32(typed), typed.length + 4);
  return out;
}

const numbers = (...list) => {
  const out = Buffer.alloc(list.length * 4);
  list.forEach((number, at) => out.writeUInt32BE(number, at * 4));
  return out;
};

/** Packs frames into one animated PNG. */
function encode(frames) {
  const images = frames.map(({ png }) => decode(png));
  const { width, height } = images[0];
  const { colours, index } = palette(images);
  const indexed = images.map(({ pixels }) => Uint8Array.from(pixels, index));
  // A frame like the one before only lengthens that.
  const shown = [];
  indexed.forEach((pixels, at) => {
    const before = shown.at(-1);
    if (before && pixels.every((value, i) => value === before.pixels[i])) before.ms += frames[at].ms;
    else shown.push({ pixels, ms: frames[at].ms });
  });
  const out = [
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    chunk('IHDR', Buffer.concat([numbers(width, height), Buffer.from([8, 3, 0, 0, 0])])),
    chunk('acTL', numbers(shown.length, 0)),
    chunk('PLTE', Buffer.from([0, 0, 0, ...colours.flatMap(rgb)])),
    chunk('tRNS', Buffer.from([0])),
  ];
  let sequence = 0;
  shown.forEach(({ pixels, ms }, at) => {
    const before = shown[at - 1]?.pixels;
    let box = { left: 0, top: 0, right: width - 1, bottom: height - 1 };
    if (before) {
      box = { left: width, top: height, right: 0, bottom: 0 };
      pixels.forEach((value, i) => {
        if (value === before[i]) return;
        const [x, y] = [i % width, Math.floor(i / width)];
        box = { left: Math.min(box.left, x), top: Math.min(box.top, y), right: Math.max(box.right, x), bottom: Math.max(box.bottom, y) };
      });
    }
    const [w, h] = [box.right - box.left + 1, box.bottom - box.top + 1];
    const lines = Buffer.alloc(h * (w + 1));
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) {
        const i = (box.top + y) * width + box.left + x;
        lines[y * (w + 1) + 1 + x] = before && pixels[i] === before[i] ? 0 : pixels[i];
      }
    }
    const control = Buffer.concat([
      numbers(sequence++, w, h, box.left, box.top),
      // Milliseconds; kept when the next comes; drawn over the one before.
      Buffer.from([ms >> 8, ms & 255, 1000 >> 8, 1000 & 255, 0, before ? 1 : 0]),
    ]);
    const data = deflateSync(lines, { level: 9 });
    out.push(chunk('fcTL', control), before ? chunk('fdAT', Buffer.concat([numbers(sequence++), data])) : chunk('IDAT', data));
  });
  out.push(chunk('IEND', Buffer.alloc(0)));
  return { file: Buffer.concat(out), count: shown.length };
}

const frames = await play();
const { file, count } = encode(frames);
writeFileSync(process.argv[2], file);
console.log(`${count} frames, ${file.length} bytes`);
if (process.env.FRAMES) frames.forEach(({ png }, at) => writeFileSync(`${process.env.FRAMES}/${String(at).padStart(2, '0')}.png`, png));
process.exit();
