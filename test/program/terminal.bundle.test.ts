// Goal: what is watched is redrawn in place on a real terminal, and Ctrl-C ends it in good order. Method: the bundle on a
// terminal of util-linux's script.
import { join } from 'node:path';
import process from 'node:process';
import { createSqliteStore } from '../../src/store/sqlite/store.ts';
import { removeFolder, tempFolder } from '../kit/folders.ts';
import { BUNDLE } from '../kit/servers/bundle.ts';
import { type Program, startProgram } from '../kit/servers/process.ts';
import { assert, suite } from '../kit/uvu.ts';
import { until } from '../kit/wait.ts';

const program = `${process.execPath} ${'Deno' in globalThis ? 'run -A -q ' : ''}${BUNDLE}`;

const terminal = suite<{ folder: string }>('a real terminal');
terminal.before.each(async context => {
  context.folder = tempFolder();
  const store = await createSqliteStore(join(context.folder, 'ledger'));
  await store.migrate();
  await store.close();
});
terminal.after.each(({ folder }) => removeFolder(folder));

/** Runs status in a terminal of 40 columns. Util-linux's script makes one, and returns the status of the command. */
function inTerminal(folder: string, args: string, env: Readonly<Record<string, string>> = {}) {
  const line = `stty cols 40 rows 12; exec ${program} status --store sqlite:${folder}/ledger ${args}`;
  const all = { HOME: folder, TERM: 'xterm', ...env };
  return startProgram('script', ['-qec', line, '/dev/null'], all, { stdio: ['pipe', 'pipe', 'pipe'] });
}
/** What was written, with a sign for the control character that begins a code. */
const shownBy = ({ output }: Pick<Program, 'output'>): string => output().replaceAll('\u001b', '␛');
const EMPTY = 'the ledger has no subnet; run `ec2-ipam\r\ninit SUBNET`\r\n';

terminal('status: is laid out for its width', async ({ folder }) => {
  const shown = inTerminal(folder, '');
  assert.is(await shown.ended, 0);
  assert.is(shown.output(), EMPTY);
});

terminal('--watch: redraws, and Ctrl-C ends it with status 0 and the cursor below', async ({ folder }) => {
  const shown = inTerminal(folder, '--watch 1s');
  await until('a second frame', () => shownBy(shown).split('␛[H').length > 2);
  shown.type('\u0003');
  assert.is(await shown.ended, 0);
  assert.match(shown.output(), /every.{1,8}1 s/s);
  assert.match(shownBy(shown), /^␛\[2J␛\[H.*␛\[J␛\[\?7h(\^C)?$/s);
});

for (const env of [{ NO_COLOR: '1' }, { TERM: 'dumb' }])
  terminal(
    `--watch with ${JSON.stringify(env)}: no color, and on a dumb terminal no code`,
    async ({ folder }) => {
      const shown = inTerminal(folder, '--watch', env);
      await shown.says('init SUBNET`');
      shown.type('\u0003');
      assert.is(await shown.ended, 0);
      assert.not.match(shownBy(shown), /␛\[\d+m/);
      assert.is(shown.output().includes('\u001b'), env.TERM === undefined);
    },
  );
terminal.run();
