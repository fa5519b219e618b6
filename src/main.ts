/** Entry point of the program. */
import process from 'node:process';
import { setFlagsFromString } from 'node:v8';
import { assemble } from './assemble.ts';
import { main } from './cli/cli.ts';
import { unsupportedRuntime } from './cli/runtime.ts';
import { createTerminal } from './cli/terminal/terminal.ts';

// By default V8's space for new objects grows to 48 MB and more under load. That saves little time here, since most
// objects of a request are garbage at the next collection. https://nodejs.org/api/v8.html#v8setflagsfromstringflags
setFlagsFromString('--semi-space-growth-factor=1');

const io = createTerminal(process.env);
const rejected = unsupportedRuntime(process.versions);
if (rejected !== null) io.err.write(`${rejected}\n`);
const status = rejected === null ? await main(process.argv.slice(2), process.env, io, assemble) : 1;
const delivered = await io.end();
process.exit(delivered ? status : status || 1);
