import process from 'node:process';
import { assemble } from './assemble.ts';
import { main } from './cli/cli.ts';
import { unfitRuntime } from './cli/runtime.ts';
import { terminal } from './cli/terminal.ts';

const unfit = unfitRuntime(process.versions);
if (unfit !== null) process.stderr.write(`${unfit}\n`);
process.exitCode = unfit === null ? await main(process.argv.slice(2), process.env, terminal(), assemble) : 1;
process.exit();
