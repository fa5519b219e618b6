// Goal: a SQLite ledger gets its schema once, whoever asks and however many at once. Method: real files, real
// processes.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { migrations } from '../../../src/store/migrations.ts';
import { schemaMismatch } from '../../../src/store/schema-version.ts';
import { createSqliteStore } from '../../../src/store/sqlite/store.ts';
import type { Store } from '../../../src/store/store.ts';
import { failureOf } from '../../kit/failures.ts';
import { removeFolder, tempFolder } from '../../kit/folders.ts';
import { newRows } from '../../kit/ledger.ts';
import { byLength } from '../../kit/length.ts';
import { assertOldHistory, FILL_OLD_HISTORY } from '../../kit/old-history.ts';
import { range } from '../../kit/rows.ts';
import { runProgram } from '../../kit/servers/process.ts';
import { assert, suite } from '../../kit/uvu.ts';

interface Context {
  folder: string;
  path: string;
  store: Store;
}
const migrate = suite<Context>('migrate: SQLite');
migrate.before.each(context => {
  context.folder = tempFolder();
  context.path = join(context.folder, 'ledger.sqlite');
  context.store = createSqliteStore(context.path);
});
migrate.after.each(async ({ folder, store }) => {
  await store.close();
  removeFolder(folder);
});

/** Runs statements as somebody else would. */
function rowsIn(path: string, text: string): Record<string, unknown>[] {
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
  const client = new DatabaseSync(path);
  const rows = client.prepare(text).all();
  client.close();
  return rows;
}

migrate('an empty file: is outdated until it is migrated', async ({ store }) => {
  const { length } = migrations('sqlite');
  assert.ok((await store.outdated())?.endsWith(`is at step 0 of ${length}: run \`ec2-ipam migrate\``));
  await store.migrate();
  assert.is(await store.outdated(), null);
});

migrate('an empty file: every call says what to do', async ({ store }) => {
  for (const call of [() => store.tally(), () => store.add(newRows(10)), () => store.beat('a', false)])
    assert.match(await failureOf(call(), 'store-down'), /is not this program's; run `ec2-ipam migrate`$/);
});

migrate('a schema newer than the program: is refused in one line', async ({ store, path }) => {
  await store.migrate();
  rowsIn(
    path,
    "INSERT INTO __drizzle_migrations (hash, created_at) VALUES ('x', 9999999999999) RETURNING id",
  );
  assert.match((await store.outdated()) ?? '', /is newer than this program/);
});

migrate('a history of moves: becomes one of holdings', async ({ store, path }) => {
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
  writeFileSync(path, '', { mode: 0o600 });
  const client = new DatabaseSync(path);
  const texts = migrations('sqlite').flatMap(({ sql }) => sql);
  const toHoldings = texts.findIndex(text => text.includes('`claim_call`'));
  for (const text of [...texts.slice(0, toHoldings), FILL_OLD_HISTORY, ...texts.slice(toHoldings)])
    client.exec(text);
  client.exec('CREATE TABLE __drizzle_migrations (id INTEGER PRIMARY KEY, hash text, created_at numeric)');
  const newest = migrations('sqlite').at(-1);
  client
    .prepare('INSERT INTO __drizzle_migrations (hash, created_at) VALUES (?, ?)')
    .run(newest?.hash ?? '', newest?.folderMillis ?? 0);
  client.close();
  await assertOldHistory(store);
});

const steps = [10, 20, 30].map(folderMillis => ({ folderMillis, sql: [], hash: '', bps: true }));
const ledgers: [newest: number | null, says: RegExp][] = [
  [null, /step 0 of 3/],
  [10, /step 1 of 3/],
  [20, /step 2 of 3/],
  [30, /^fine$/],
  [31, /newer than this program/],
];
for (const [newest, says] of ledgers)
  migrate(`a ledger migrated at ${newest} of 10, 20 and 30: ${says}`, () =>
    assert.match(schemaMismatch('here', newest, steps) ?? 'fine', says),
  );

for (const dialect of ['mysql', 'sqlite'] as const)
  migrate(`${dialect}: each migration is younger than the one before, or it would be passed over`, () => {
    const times = migrations(dialect).map(one => one.folderMillis);
    const inOrder = [...new Set(times)].sort((a, b) => a - b);
    assert.ok(times.length > 0);
    assert.equal(times, inOrder);
  });

const PROCESSES = byLength({
  full: 6,
  short: 3,
  leftOut: '3 of 6 processes that migrate a SQLite ledger at once',
});
const PROGRAM = fileURLToPath(new URL('./migrate-once.ts', import.meta.url));
migrate(
  `${PROCESSES} processes at once on a new file: all succeed, the migration is noted once`,
  async ({ path }) => {
    const command = 'Deno' in globalThis ? ['run', '-A', PROGRAM] : [PROGRAM];
    const ended = await Promise.all(
      range(PROCESSES).map(() => runProgram(process.execPath, [...command, path])),
    );
    for (const { code, stderr } of ended) assert.is(code, 0, stderr);
    assert.is(rowsIn(path, 'SELECT * FROM __drizzle_migrations').length, migrations('sqlite').length);
    const added = rowsIn(path, 'SELECT ip FROM allocation').map(one => one.ip);
    assert.equal(added, ['10.0.1.10']);
  },
);
migrate.run();
