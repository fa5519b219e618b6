// Goal: a program in one file does what its modules do, and what it loads later is not in the code of its start.
// Method: a small program with all kinds of imports that ours has, run as modules and as one file.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inOneFile } from '../../scripts/bundle/one-file.ts';
import { BUNDLING } from '../../scripts/bundling.ts';
import { removeFolder, tempFolder } from '../kit/folders.ts';
import { NODE } from '../kit/servers/bundle.ts';
import { runProgram } from '../kit/servers/process.ts';
import { assert, suite } from '../kit/uvu.ts';

const PROGRAM = {
  'main.mjs': `
    import { Kept, kept, keep } from './shared.mjs';
    keep('main');
    const { first } = await import('./first.mjs');
    first();
    const again = await import('./first.mjs');
    again.first();
    const second = await import('./second.mjs');
    console.log(second.default('x'), second.made instanceof Kept, kept);
    for (const _ of [1, 2]) await import('./broken.mjs').catch(error => console.log(error.message));
    const old = await import('./old.cjs');
    console.log(old.default.name, old.default.base('/a/b'));
    const { sep } = await import('node:path');
    console.log(sep);
  `,
  'shared.mjs': `
    export class Kept {}
    export let kept = [];
    export const keep = what => { kept = [...kept, what]; };
  `,
  'first.mjs': `
    import { keep } from './shared.mjs';
    console.log('first is loaded');
    export const first = () => keep('marker-of-the-first');
  `,
  'second.mjs': `
    import { basename, sep } from 'node:path';
    import path, * as all from 'node:path';
    import { first } from './first.mjs';
    import { even } from './even.mjs';
    import { Kept } from './shared.mjs';
    first();
    export const made = new Kept();
    export default text => [basename('/a/' + text), path.sep === sep, all.sep === sep, even(10)].join(' ');
    export const third = () => import('./broken.mjs');
  `,
  'even.mjs': `
    import { odd } from './odd.mjs';
    export const even = n => n === 0 || odd(n - 1);
  `,
  'odd.mjs': `
    import { even } from './even.mjs';
    export const odd = n => n !== 0 && even(n - 1);
  `,
  'broken.mjs': `throw new Error('broken at its start');`,
  'old.cjs': `
    const path = require('path');
    module.exports = { name: 'old', base: path.basename };
  `,
};
const BANNER = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);";

const oneFile = suite('one file');
let folder = '';
oneFile.before(() => {
  folder = tempFolder();
  for (const [name, code] of Object.entries(PROGRAM)) writeFileSync(join(folder, name), code);
});
oneFile.after(() => removeFolder(folder));

oneFile('does what the modules do, and loads each part once, when it is asked for', async () => {
  const { code, startBytes } = await inOneFile(join(folder, 'main.mjs'), BUNDLING, BANNER);
  const made = join(folder, 'made.mjs');
  writeFileSync(made, code);
  const [asModules, asOne] = [
    await runProgram(NODE, [join(folder, 'main.mjs')]),
    await runProgram(NODE, [made]),
  ];
  assert.is(asModules.code, 0, asModules.stderr);
  assert.is(asModules.stdout.match(/first is loaded/g)?.length, 1);
  assert.equal(asOne, asModules);
  const text = Buffer.from(code).toString();
  assert.match(text, 'class');
  assert.not.match(text, 'marker-of-the-first');
  assert.ok(startBytes < code.length);
});
oneFile.run();
