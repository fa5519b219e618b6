import process from 'node:process';
import { assemble } from './assemble.ts';
import { main } from './cli/cli.ts';
import { terminal } from './cli/terminal.ts';

process.exitCode = await main(process.argv.slice(2), process.env, terminal(), assemble);
process.exit();
