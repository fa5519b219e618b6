// Makes dist/: one file for three runtimes, and beside it what is copied to hosts with it.
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { analyzeMetafile } from 'esbuild';
import { inOneFile } from './bundle/one-file.ts';
import { BUNDLING, plugins } from './bundling.ts';

const BUNDLE = 'dist/ec2-ipam.mjs';
const BUNDLE_BYTES_MAX = 1_150_000;
/** Of the code that each start parses. */
const START_BYTES_MAX = 430_000;
const LARGEST_SHOWN = 20;
const BESIDE = ['ec2-ipam.json', 'mknet.sh'];

// CommonJS packages such as mysql2 call require('net'), which an ES module has not got by itself.
const BANNER = [
  '#!/usr/bin/env node',
  "import{createRequire as __cr}from'node:module';import{fileURLToPath as __f}from'node:url';import{dirname as __d}from'node:path';",
  'const require=__cr(import.meta.url),__filename=__f(import.meta.url),__dirname=__d(__filename);',
].join('\n');

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
const version: string = JSON.parse(readFileSync('package.json', 'utf8')).version;
const define = { ...BUNDLING.define, EC2_IPAM_VERSION: JSON.stringify(version) };
const { code, startBytes, metafile } = await inOneFile(
  'src/main.ts',
  { ...BUNDLING, define, plugins },
  BANNER,
);
const sizes = `${code.length} bytes of at most ${BUNDLE_BYTES_MAX}, ${startBytes} at the start of at most ${START_BYTES_MAX}`;
if (code.length > BUNDLE_BYTES_MAX || startBytes > START_BYTES_MAX) {
  console.error(`the bundle has ${sizes}; its largest files:`);
  console.error((await analyzeMetafile(metafile)).split('\n', LARGEST_SHOWN).join('\n'));
  process.exit(1);
}
// The rename is atomic: a program that starts meanwhile reads the old file or the new one.
mkdirSync('dist', { recursive: true });
const unfinished = `${BUNDLE}.${process.pid}`;
writeFileSync(unfinished, code, { mode: 0o755 });
renameSync(unfinished, BUNDLE);
for (const file of BESIDE.filter(existsSync)) copyFileSync(file, `dist/${file}`);
console.log(`${BUNDLE}: ${sizes}`);
