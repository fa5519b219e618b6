import process from 'node:process';
import { assemble } from './assemble.ts';
import { main } from './cli/cli.ts';
import { unfitRuntime } from './cli/runtime.ts';
import { terminal } from './cli/terminal.ts';

const io = terminal();
const unfit = unfitRuntime(process.versions);
if (unfit !== null) io.err.write(`${unfit}\n`);
const status = unfit === null ? await main(process.argv.slice(2), process.env, io, assemble) : 1;
const delivered = await io.end();
process.exit(delivered ? status : status || 1);
