// Makes dist/: one file for three runtimes, and beside it what is copied to hosts with it.
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { type BuildOptions, build } from 'esbuild';
import { BUNDLING, plugins } from './bundling.ts';

const BUNDLE = 'dist/ec2-ipam.mjs';
const BUNDLE_BYTES_MAX = 2_000_000;
const BESIDE = ['ec2-ipam.json', 'mknet.sh'];

// CommonJS inside (mysql2 and friends) calls require('net'): a real one for the ESM bundle, on every runtime.
const BANNER = [
  '#!/usr/bin/env node',
  "import{createRequire as __cr}from'node:module';import{fileURLToPath as __f}from'node:url';import{dirname as __d}from'node:path';",
  'const require=__cr(import.meta.url),__filename=__f(import.meta.url),__dirname=__d(__filename);',
].join('\n');

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
const version: string = JSON.parse(readFileSync('package.json', 'utf8')).version;
const options = {
  entryPoints: ['src/main.ts'],
  outfile: BUNDLE,
  write: false,
  ...BUNDLING,
  banner: { js: BANNER },
  metafile: true,
  define: { ...BUNDLING.define, EC2_IPAM_VERSION: JSON.stringify(version) },
  plugins,
} satisfies BuildOptions;

const { metafile, outputFiles } = await build(options);
const code = outputFiles[0]?.contents ?? new Uint8Array();
if (code.length > BUNDLE_BYTES_MAX) {
  console.error(`the bundle has ${code.length} bytes, more than ${BUNDLE_BYTES_MAX}; its largest packages:`);
  console.error(largest(metafile.outputs[BUNDLE]?.inputs ?? {}));
  process.exit(1);
}
// Somebody may be starting the old one: it is replaced whole.
mkdirSync('dist', { recursive: true });
const unfinished = `${BUNDLE}.${process.pid}`;
writeFileSync(unfinished, code, { mode: 0o755 });
renameSync(unfinished, BUNDLE);
for (const file of BESIDE.filter(existsSync)) copyFileSync(file, `dist/${file}`);
const zipped = gzipSync(code).length;
console.log(`${BUNDLE}: ${code.length} bytes of at most ${BUNDLE_BYTES_MAX}, ${zipped} with gzip`);

/** Where the bytes come from: the packages that give most. */
function largest(inputs: Record<string, { bytesInOutput: number }>): string {
  const sizes = new Map<string, number>();
  for (const [path, { bytesInOutput }] of Object.entries(inputs)) {
    const name = path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1] ?? 'src';
    sizes.set(name, (sizes.get(name) ?? 0) + bytesInOutput);
  }
  const ranked = [...sizes].sort(([, a], [, b]) => b - a).slice(0, 12);
  return ranked.map(([name, size]) => `${String(size).padStart(8)} ${name}`).join('\n');
}
