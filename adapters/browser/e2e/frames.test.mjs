// A page in a frame of another site. 127.0.0.1 and localhost are two sites, and both count as secure.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { both, close, lacks, onStage, onTestee } from './stage.mjs';

after(close);

const WHY = 'the driver does not reach into frames of other sites';
const where = both(onTestee, lacks({ firefox: WHY, webkit: WHY }));
const OPTIONS = encodeURIComponent(JSON.stringify({ backoff: { initial: 0.1, max: 0.5 } }));

/** Opens a page of the site `top` with our page in a frame; returns the frame when its socket is open. */
async function embed({ context, proxy }, top) {
  const page = await context.newPage();
  await page.goto(`http://${top}:${proxy.port}/away`);
  const address = `http://localhost:${proxy.port}/page?start=${OPTIONS}`;
  await page.evaluate((address) => document.body.append(Object.assign(document.createElement('iframe'), { src: address })), address);
  await page.waitForFunction(() => frames.length === 1);
  const frame = await page.waitForSelector('iframe').then((element) => element.contentFrame());
  await frame.waitForFunction(() => globalThis.socket?.session);
  return frame;
}

/** Cuts the connection, and returns what the frame's socket is told: the session before, and after. */
async function cutAndReturn(frame, proxy) {
  const before = await frame.evaluate(() => {
    seen.statuses.length = 0;
    return socket.session;
  });
  proxy.cut();
  await frame.waitForFunction(() => seen.statuses.some(({ status }) => ['resumed', 'new', 'gap', 'lost'].includes(status)) || (seen.statuses.length > 1 && socket.current.status === 'open'));
  return { before, after: await frame.evaluate(() => socket.session), told: await frame.evaluate(() => seen.statuses.map(({ status, gap }) => [status, gap?.reason])) };
}

test('in a frame of another site a partitioned cookie brings the session back', where, () =>
  onStage({ flags: ['--partitioned'] }, async (stage) => {
    const frame = await embed(stage, '127.0.0.1');
    const { before, after } = await cutAndReturn(frame, stage.proxy);
    assert.equal(after, before, 'the same session');
    // The same site, seen by itself: another partition, so another identity.
    const own = await embed(stage, 'localhost');
    assert.notEqual(await own.evaluate(() => socket.session), before);
    const again = await embed(stage, '127.0.0.1');
    assert.equal(await again.evaluate(() => socket.session), before, 'the next page there has it, too');
  }));

test('in a frame of another site the default cookie does not come back', where, () =>
  onStage({}, async (stage) => {
    const frame = await embed(stage, '127.0.0.1');
    const { before, after } = await cutAndReturn(frame, stage.proxy);
    assert.notEqual(after, before, 'it starts anew');
  }));
