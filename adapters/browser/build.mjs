// Bundles what a page loads without npm: one small file for the socket, one for a socket without the ways over HTTP, and
// one for the notifications.
// The result is committed, so that neither the crate's build nor its users need npm;
// `--check` fails when it is not what the sources say.

import { build } from 'esbuild';
import { readFile, writeFile } from 'node:fs/promises';
import { minify } from 'terser';

const check = process.argv.includes('--check');

// Names of the machine's state and effects that no page, no server and no storage sees: in the socket's bundle they are
// shortened. A name that is not in this list is only longer. `DIST=1` runs the socket's tests against the bundle.
const INTERNAL = [
  'answers', 'asked', 'askedAt', 'asks', 'attached', 'closing', 'config', 'copy', 'copySaid', 'due', 'effects', 'failed', 'foreign', 'graced', 'greeted',
  'heardAt', 'heartbeat', 'hint', 'hold', 'knocks', 'load', 'offline', 'opened', 'outboxBytes', 'owedBytes', 'owedMessages', 'owedSince', 'outbox', 'phase', 'probe',
  'reauthenticated', 'sent', 'settled', 'stale', 'startedOver', 'suspect', 'there', 'tooBig', 'underWay',
  // Of the ways over HTTP.
  'aborts', 'abandon', 'ackAfter', 'arm', 'arrivals', 'begun', 'began', 'broken', 'changed', 'choice', 'comment', 'copied', 'flow', 'flows', 'giveWayToOthers',
  'hangs', 'heldBack', 'hooks', 'inside', 'lane', 'limited', 'looked', 'looks', 'moved', 'onform', 'over', 'pipe', 'remember', 'route', 'row',
  'share', 'since', 'useful', 'way', 'whole',
];
/** What both bundles of the socket are made with. */
const SOCKET = { mangleProps: new RegExp(`^(${INTERNAL.join('|')})$`) };

/** What terser, which finds more than esbuild, is told. @type {import('terser').MinifyOptions} */
const SMALL = { ecma: 2020, module: true };

/** Bundles one file; `more` are options of esbuild's. */
async function bundle(name, entry, more = {}) {
  const { outputFiles } = await build({
    entryPoints: { [name]: entry },
    outdir: 'dist',
    bundle: true,
    // Whitespace is left to terser, which makes less of the rest, too.
    minifyIdentifiers: true,
    minifySyntax: true,
    format: 'esm',
    target: 'es2022',
    legalComments: 'none',
    write: false,
    ...more,
  });
  return Promise.all(outputFiles.map(async ({ path, text }) => ({ path, text: `${(await minify(text, SMALL)).code}\n` })));
}

// Statements with the label `MEET` are of use to session.js alone, which only the first one has.
const bundles = [
  await bundle('session-resume', 'js/index.js', SOCKET),
  await bundle('session-resume-websocket', 'js/websocket.js', { ...SOCKET, dropLabels: ['MEET'] }),
  // Its texts' names are the page's.
  await bundle('session-resume-notify', 'js/notify.js'),
];

for (const { path, text } of bundles.flat()) {
  if (!check) await writeFile(path, text);
  else if ((await readFile(path, 'utf8').catch(() => '')) !== text) {
    console.error(`${path} is not up to date: run npm run build`);
    process.exitCode = 1;
  }
}
