// Bundles what a page loads without npm: one small file for the socket, one for the notifications.
// The result is committed, so that neither the crate's build nor its users need npm;
// `--check` fails when it is not what the sources say.

import { build } from 'esbuild';
import { readFile } from 'node:fs/promises';

const check = process.argv.includes('--check');
const { outputFiles } = await build({
  entryPoints: { 'session-resume': 'js/index.js', 'session-resume-notify': 'js/notify.js' },
  outdir: 'dist',
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  legalComments: 'none',
  write: !check,
});

if (check) {
  for (const { path, text } of outputFiles) {
    if ((await readFile(path, 'utf8').catch(() => '')) !== text) {
      console.error(`${path} is not up to date: run npm run build`);
      process.exitCode = 1;
    }
  }
}
