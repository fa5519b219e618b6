// Goal: Ctrl-C ends the demo wherever it is, and leaves nothing. Method: main() in this process, with a signal that is
// aborted before the demo starts, or at a line that it prints.
import { readdirSync } from 'node:fs';
import process from 'node:process';
import { assemble } from '../../../src/assemble.ts';
import { main } from '../../../src/cli/cli.ts';
import type { Output } from '../../../src/cli/command.ts';
import { keptIo } from '../../kit/cli.ts';
import { removeFolder, tempFolder } from '../../kit/folders.ts';
import { assert, suite } from '../../kit/uvu.ts';

const demos = suite<{ folder: string; before: NodeJS.ProcessEnv }>('demo');
demos.before.each(context => {
  context.before = { ...process.env }; // the demo changes it
  context.folder = tempFolder();
  process.env.TMPDIR = context.folder;
});
demos.after.each(({ folder, before }) => {
  for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name];
  Object.assign(process.env, before);
  removeFolder(folder);
});

/** What the demo prints until Ctrl-C is pressed at `line`, and after that; null: it is pressed before. */
async function shownUntil(line: RegExp | null): Promise<{ status: number; out: string; err: string }> {
  const ctrlC = new AbortController();
  const { io, written } = keptIo({ signal: ctrlC.signal });
  const out: Output = {
    ...io.out,
    write(text) {
      io.out.write(text);
      if (line?.test(text)) ctrlC.abort();
    },
  };
  if (line === null) ctrlC.abort();
  const args = ['demo', '--port', '0', '--page-port', '0', '--log-level', 'error'];
  const status = await main(args, process.env, { ...io, out }, assemble);
  return { status, ...written };
}

const ENDS: [when: string, at: RegExp | null, last: RegExp][] = [
  ['before it starts', null, /^$/],
  ['at its first line', /^A simulated subnet/, /the answers:\n\n$/],
  ['while it shows the requests', /docker network create/, /docker network create .*\n$/],
  ['after that', /until Ctrl-C/, /mknet\.sh\n$/],
];
for (const [when, at, last] of ENDS)
  demos(`Ctrl-C ${when}: ends it there, and nothing is left`, async ({ folder }) => {
    const { status, out, err } = await shownUntil(at);
    assert.equal([status, err], [0, '']);
    assert.match(out, last);
    assert.equal(readdirSync(folder), []);
  });
demos.run();
