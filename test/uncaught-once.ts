// FILE: a command in which something fails where nobody looks, run as the program runs its own.
import process from 'node:process';
import { main } from '../src/cli/cli.ts';
import { command } from '../src/cli/command.ts';
import { createTerminal } from '../src/cli/terminal/terminal.ts';

const [kind] = process.argv.slice(2);
const io = createTerminal({});
const fail = command({
  name: 'fail',
  summary: '',
  usage: '',
  args: { min: 0, max: 0 },
  settings: [],
  options: {},
  run: () => {
    setTimeout(() => {
      if (kind === 'throw') throw new Error('nobody caught this');
      void Promise.reject(new Error('nobody caught this'));
    });
    return new Promise(resolve => setTimeout(resolve, 60_000, 0));
  },
});
const noParts = () => {
  throw new Error('no parts are needed');
};
const status = await main(['fail'], {}, io, noParts, [fail]);
await io.end();
process.exit(status);
