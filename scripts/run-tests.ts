// Runs the named test files with uvu in one process, on whatever runtime executes this file; the last line
// counts: `N passed, N failed, N skipped`.

import { resolve } from 'node:path';
import process from 'node:process';
import { inspect } from 'node:util';
import { run } from 'uvu/run';

const files = process.argv.slice(2);
let output = '';
const write = process.stdout.write.bind(process.stdout);
process.stdout.write = ((chunk: string | Uint8Array, ...rest: never[]) => {
  output += String(chunk);
  return write(chunk, ...rest);
}) as typeof process.stdout.write;

// Left to itself, a failure that nobody waits for ends the process, with all its counts. One that is waited for later
// fails its test then.
const unheard = new Map<Promise<unknown>, unknown>();
process.on('unhandledRejection', (reason, promise) => void unheard.set(promise, reason));
// Deno tells the reason first.
process.on('rejectionHandled', (...told: Promise<unknown>[]) => {
  for (const one of told) unheard.delete(one);
});

await run(
  files.map(file => ({ name: file, file: resolve(file) })),
  { bail: false },
).catch(error => void unheard.set(Promise.resolve(), error)); // a file that cannot be loaded
await new Promise(resolve => setImmediate(resolve)); // the last test may have left one, or have waited for one

const plain = output.replaceAll(new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, 'g'), '');
const count = (label: string) => Number(plain.match(new RegExp(`^\\s*${label}:\\s+(\\d+)`, 'm'))?.[1] ?? 0);
for (const reason of unheard.values()) write(`   FAIL  outside the tests\n    ${inspect(reason)}\n\n`);
// A throwing after() fails no test of uvu, but sets the exit code.
const failed = Math.max(count('Total') - count('Passed') + unheard.size, process.exitCode ? 1 : 0);
write(`${count('Passed')} passed, ${failed} failed, ${count('Skipped')} skipped\n`);
process.exit(failed > 0 || count('Total') === 0 ? 1 : 0);
