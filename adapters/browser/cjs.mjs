// Makes `cjs/`: the same modules for `require`, file by file, so that all entries of the package share one class; with the
// types, which TypeScript reads as CommonJS there. `npm pack` runs it behind what makes `types/`.

import { build } from 'esbuild';
import { cp, readdir, rm, writeFile } from 'node:fs/promises';

const sources = (await readdir('js')).filter((name) => name.endsWith('.js')).map((name) => `js/${name}`);
await rm('cjs', { recursive: true, force: true });
await build({ entryPoints: sources, outdir: 'cjs', format: 'cjs', target: 'es2022', legalComments: 'none' });
await cp('types', 'cjs', { recursive: true });
await writeFile('cjs/package.json', '{ "type": "commonjs" }\n');
