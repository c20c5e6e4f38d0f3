// A page that comes back with its own copy of the state.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { close, eventually, onStage, onTestee, until } from './stage.mjs';

after(close);

for (const [policy, total] of [['newest', 42], ['server', 5]]) {
  test(`a newer copy of the state meets the policy ${policy}`, onTestee, () =>
    onStage({ store: true, flags: ['--merge', policy] }, async ({ ask, page, proxy }) => {
      const tab = await page({ backoff: { initial: 0.05, max: 0.2 } });
      const got = (text) => eventually(text, () => tab.evaluate((text) => seen.got.includes(text), text));
      await tab.evaluate(() => socket.send('add 5'));
      await got('total:5');
      const { iteration } = (await ask('/')).body;
      // The page goes on while it is away.
      proxy.cut();
      await tab.evaluate((iteration) => {
        socket.offerState({ iteration, value: { total: 42, log: [42], next: 0 } });
        socket.send('get');
      }, iteration + 1);
      await until(tab, 'open');
      await got(`total:${total} n:1`);
      assert.equal((await ask('/')).body.total, total);
    }));
}
