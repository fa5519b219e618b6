// Goal: a SQLite ledger gets its schema once, whoever asks and however many at once. Method: real files, real
// processes.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { isError } from '../../../src/domain/error.ts';
import { migrations } from '../../../src/store/migrations.ts';
import { behindOrAhead } from '../../../src/store/outdated.ts';
import { createSqliteStore } from '../../../src/store/sqlite/store.ts';
import type { Store } from '../../../src/store/store.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { row } from '../store.contract.ts';

interface Context {
  folder: string;
  path: string;
  store: Store;
}
const migrate = suite<Context>('migrate: SQLite');
migrate.before.each(context => {
  context.folder = mkdtempSync(join(tmpdir(), 'ec2-ipam-'));
  context.path = join(context.folder, 'ledger.sqlite');
  context.store = createSqliteStore(context.path);
});
migrate.after.each(async ({ folder, store }) => {
  await store.close();
  rmSync(folder, { recursive: true });
});

/** Runs statements as somebody else would. */
function run(path: string, text: string): Record<string, unknown>[] {
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
  const client = new DatabaseSync(path);
  const rows = client.prepare(text).all();
  client.close();
  return rows;
}

migrate('an empty file is outdated until it is migrated', async ({ store }) => {
  const { length } = migrations('sqlite');
  assert.ok((await store.outdated())?.endsWith(`is at step 0 of ${length}: run \`ec2-ipam migrate\``));
  await store.migrate();
  assert.is(await store.outdated(), null);
});

migrate('before that, every call says what to do', async ({ store }) => {
  for (const call of [() => store.tally(), () => store.add([row(10)]), () => store.beat('a', false)]) {
    const error = await call().then(
      () => assert.unreachable('the store answered'),
      thrown => thrown,
    );
    assert.ok(isError(error, 'store-down'), String(error));
    assert.match(error.line, /is not this program's; run `ec2-ipam migrate`$/);
  }
});

migrate('a schema newer than the program is refused in one line', async ({ store, path }) => {
  await store.migrate();
  run(path, "INSERT INTO __drizzle_migrations (hash, created_at) VALUES ('x', 9999999999999) RETURNING id");
  assert.match((await store.outdated()) ?? '', /is newer than this program/);
});

const steps = [10, 20, 30].map(folderMillis => ({ folderMillis, sql: [], hash: '', bps: true }));
const ledgers: [newest: number | null, says: RegExp | null][] = [
  [null, /step 0 of 3/],
  [10, /step 1 of 3/],
  [20, /step 2 of 3/],
  [30, null],
  [31, /newer than this program/],
];
for (const [newest, says] of ledgers)
  migrate(`a ledger migrated at ${newest} of 10, 20 and 30: ${says ?? 'fine'}`, () => {
    const answer = behindOrAhead('here', newest, steps);
    if (says === null) assert.is(answer, null);
    else assert.match(answer ?? '', says);
  });

for (const dialect of ['mysql', 'sqlite'] as const)
  migrate(`${dialect}: each migration is younger than the one before, or it would be passed over`, () => {
    const times = migrations(dialect).map(one => one.folderMillis);
    assert.ok(times.length > 0);
    assert.equal(
      times,
      [...new Set(times)].sort((a, b) => a - b),
    );
  });

const PROGRAM = fileURLToPath(new URL('./migrate-once.ts', import.meta.url));
migrate('six processes at once on a new file: all succeed, the migration is noted once', async ({ path }) => {
  const command = 'Deno' in globalThis ? ['run', '-A', PROGRAM] : [PROGRAM];
  const codes = await Promise.all(
    Array.from({ length: 6 }, () => {
      const child = spawn(process.execPath, [...command, path], { stdio: 'inherit' });
      return new Promise(resolve => child.on('close', resolve));
    }),
  );
  assert.equal(codes, [0, 0, 0, 0, 0, 0]);
  assert.is(run(path, 'SELECT * FROM __drizzle_migrations').length, migrations('sqlite').length);
  assert.equal(
    run(path, 'SELECT ip FROM allocation').map(one => one.ip),
    ['10.0.1.10'],
  );
});
migrate.run();
