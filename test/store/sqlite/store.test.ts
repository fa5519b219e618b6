// Goal: the ledger in a file. Method: the contract on real files; the plans of the hot statements in a subnet
// of 65,536 addresses; files that cannot be used; a file that came from another instance.
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { type SQL, sql } from 'drizzle-orm';
import { fromNumber, type Ipv4, numberOf, parseCidr } from '../../../src/domain/address.ts';
import { parseInstanceId } from '../../../src/domain/ids.ts';
import type { Log } from '../../../src/domain/log.ts';
import { createReads } from '../../../src/store/reads.ts';
import { openFile, type SqliteFile } from '../../../src/store/sqlite/file.ts';
import { settleInstance } from '../../../src/store/sqlite/owner.ts';
import { createSqliteStore, DIALECT } from '../../../src/store/sqlite/store.ts';
import type { Store } from '../../../src/store/store.ts';
import { failureOf } from '../../kit/failures.ts';
import { removeFolder, tempFolder } from '../../kit/folders.ts';
import { freeFor, make, makeReady, newRow, newRows, one } from '../../kit/ledger.ts';
import { ENI, ip, OTHER_ENI, range, SUBNET } from '../../kit/rows.ts';
import { noteSightings, sightingWith } from '../../kit/sightings.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { pause } from '../../kit/wait.ts';
import { raceFor } from '../contract/tenants.ts';
import { contractByClock } from '../store.contract.ts';

contractByClock('SQLite', clock => {
  const folder = tempFolder();
  const store = createSqliteStore(join(folder, 'ledger.sqlite'), { clock });
  const close = async () => {
    await store.close();
    removeFolder(folder);
  };
  return { ...store, close };
});

interface Context {
  folder: string;
  path: string;
  /** In a file that is not there yet. */
  store: Store;
}
const files = suite<Context>('store: a SQLite file');
files.before.each(context => {
  context.folder = tempFolder();
  context.path = join(context.folder, 'state', 'ledger.sqlite');
  context.store = createSqliteStore(context.path);
});
files.after.each(async ({ folder, store }) => {
  await store.close();
  removeFolder(folder);
});

/** A file that somebody else holds. */
function lock(path: string): () => void {
  const { client } = openFile(path);
  client.exec('BEGIN IMMEDIATE');
  return () => {
    client.exec('COMMIT');
    client.close();
  };
}
async function assertDown(call: Promise<unknown>, path: string, says: RegExp): Promise<void> {
  const line = await failureOf(call, 'store-down');
  assert.ok(line.startsWith(`the store at ${path} cannot be used: `), line);
  assert.match(line, says);
}
const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8);

files('a quota: two processes that take addresses for one tenant at once do not pass it', async context => {
  await context.store.migrate();
  const another = createSqliteStore(context.path);
  assert.is(await raceFor([context.store, another], 7), 7);
  await another.close();
});

files('open: touches nothing; the first call makes folder and file, private', async ({ path, store }) => {
  assert.not(existsSync(path));
  const before = process.umask(0);
  await store.migrate();
  process.umask(before);
  await store.add(newRows(10));
  assert.equal([join(path, '..'), path, `${path}-wal`].map(modeOf), ['700', '600', '600']);
});

files(
  'a ledger that others can read: is refused with the command that mends it, and then used',
  async context => {
    const { path, store } = context;
    await store.migrate();
    await store.add(newRows(10));
    for (const file of [path, `${path}-wal`, `${path}-shm`]) {
      chmodSync(file, 0o644);
      const again = createSqliteStore(path);
      assert.is(
        await failureOf(again.tally(), 'store-down'),
        `the store at ${path} is open to users other than its owner; chmod 600 ${file}`,
      );
      chmodSync(file, 0o600);
      assert.is((await again.tally())[0]?.count, 1);
      await again.close();
    }
  },
);

files('a ledger of the release before: is opened as it is, whatever the umask was', async ({ path }) => {
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
  const umask = process.umask(0);
  mkdirSync(join(path, '..'), { mode: 0o700 });
  closeSync(openSync(path, 'wx', 0o600));
  const before = new DatabaseSync(path);
  before.exec('PRAGMA journal_mode = WAL; CREATE TABLE marker (id)');
  process.umask(umask);
  const after = createSqliteStore(path);
  await after.migrate();
  assert.equal([path, `${path}-wal`, `${path}-shm`].map(modeOf), ['600', '600', '600']);
  await after.close();
  before.close();
});

files('two processes’ worth of stores on one file: see each other’s writes', async ({ path, store: a }) => {
  const b = createSqliteStore(path);
  await a.migrate();
  await b.add(newRows(10));
  const row = await makeReady(a, 10);
  const answers = await Promise.all([a, b].map(store => store.move([{ row, move: 'claim' }])));
  assert.is(answers.flat().length, 1);
  assert.equal(await one(a, 10), await one(b, 10));
  await b.close();
});

files('another process’s lock: is waited for without holding up anything else', async ({ path, store }) => {
  await store.migrate();
  const letGo = lock(path);
  const adds: Promise<number>[] = [];
  const rounds: number[] = [];
  // Other processes may take the processor away for long, but not in each round.
  for (let round = 0; round < 5; round++) {
    adds.push(...range(4).map(i => store.add(newRows(round * 4 + i))));
    let heldMs = 0;
    for (let i = 0; i < 6; i++) {
      const from = performance.now();
      await pause(10);
      heldMs = Math.max(heldMs, performance.now() - from);
    }
    rounds.push(heldMs);
  }
  letGo();
  assert.is((await Promise.all(adds)).length, 20);
  const heldMs = Math.min(...rounds);
  assert.ok(heldMs < 100, `the event loop was held for ${heldMs} ms at least`);
});

files('a lock that stays: is one clear error after its bound', async ({ path }) => {
  const store = createSqliteStore(path, { lockedMaxMs: 50 });
  await store.migrate();
  const letGo = lock(path);
  assert.equal(await store.tally(), [], 'who only reads does not wait');
  await assertDown(store.add(newRows(10)), path, /: another process keeps it locked; end that process/);
  letGo();
  assert.is(await store.add(newRows(10)), 1);
  await store.close();
});

files('what was answered: is in the file when it is opened again', async ({ store }) => {
  await store.migrate();
  await store.add(newRows(10));
  const after = await makeReady(store, 10);
  await store.close();
  assert.equal(await one(store, 10), after, 'a closed store opens itself again');
});

const NO_DATABASE = /: it is not a SQLite database; name another/;
const unusable: [what: string, spoil: (path: string) => void, says: RegExp][] = [
  ['no database', path => writeFileSync(path, 'hello '.repeat(1_000), { mode: 0o600 }), NO_DATABASE],
  ['a folder', path => mkdirSync(path), /: it cannot be opened.*; let the user that ec2-ipam runs as write/],
];
for (const [what, spoil, says] of unusable)
  files(`a file that is ${what}: is one clear error`, async ({ path, store }) => {
    mkdirSync(join(path, '..'));
    spoil(path);
    await assertDown(store.migrate(), path, says);
  });

files('a folder that cannot be made: is one clear error', async ({ folder }) => {
  writeFileSync(join(folder, 'file'), '');
  const path = join(folder, 'file', 'ledger.sqlite');
  await assertDown(createSqliteStore(path).migrate(), path, /: it cannot be opened \(E\w+\); let the user/);
});

// Root may write anything; only Node and Bun can stop being root for a moment.
if (process.getuid?.() !== 0 || (process.seteuid !== undefined && !('Deno' in globalThis)))
  files('a file that may only be read: is one clear error', async ({ folder, path, store }) => {
    await store.migrate();
    await store.close();
    for (const name of [folder, join(path, '..')]) chmodSync(name, 0o755);
    chmodSync(path, 0o400);
    if (process.getuid?.() === 0) chownSync(path, NOBODY, NOBODY);
    await asNobody(() => assertDown(store.add(newRows(10)), path, /: it is read-only; let the user that/));
  });

const NOBODY = 65_534;
async function asNobody(work: () => Promise<void>): Promise<void> {
  if (process.getuid?.() !== 0) return work();
  process.seteuid?.(NOBODY);
  try {
    await work();
  } finally {
    process.seteuid?.(0);
  }
}

files('history off: none is written, and what was written is there', async ({ path, store }) => {
  await store.migrate();
  await store.add(newRows(10));
  await makeReady(store, 10);
  await make(store, 10, 'claim');
  await make(store, 10, 'release');
  const silent = createSqliteStore(path, { history: false });
  await make(silent, 10, 'claim', { holder: 'a', call: 'call-1' });
  await make(silent, 10, 'release');
  await make(silent, 10, 'claim', { holder: 'b', call: 'call-2' });
  await make(store, 10, 'release');
  // Its end was written; and how it began is in the row, whoever wrote that.
  assert.equal(
    (await silent.history(SUBNET, ip(10), 10)).rows.map(({ container, request }) => [container, request]),
    [
      ['b', 'call-2'],
      [null, null],
    ],
  );
  await silent.close();
});

files('history off: the result of an EC2 call that settles no row is no write', async ({ path, store }) => {
  await store.migrate();
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
  const other = new DatabaseSync(path);
  other.exec('BEGIN EXCLUSIVE');
  const silent = createSqliteStore(path, { history: false, lockedMaxMs: 0 });
  const noting = createSqliteStore(path, { lockedMaxMs: 0 });
  await silent.endEc2Call('call-1', 'done');
  assert.match(
    String(await noting.endEc2Call('call-1', 'done').catch(String)),
    /another process keeps it locked/,
  );
  other.close();
  await silent.close();
  await noting.close();
});

files('a ledger: of this instance stays; one of another is copied and emptied', async ({ path, store }) => {
  const [mine, theirs] = [parseInstanceId('i-0a'), parseInstanceId('i-0b')];
  const spec = { kind: 'sqlite', path } as const;
  const lines: string[] = [];
  const log: Log = (_, message, fields) => void lines.push(`${message} ${fields?.owner} ${fields?.instance}`);
  await settleInstance(spec, theirs, log);
  await store.add(newRows(10));
  await settleInstance(spec, theirs, log);
  assert.is((await store.tally()).length, 1);
  assert.equal(lines, []);

  await Promise.all([settleInstance(spec, mine, log), settleInstance(spec, mine, log)]);
  assert.equal(await store.tally(), []);
  assert.is(await store.fact('instance'), mine);
  assert.equal(lines, ['ledger of another instance replaced i-0b i-0a']);

  const aside = createSqliteStore(`${path}.of-i-0b`);
  assert.is((await aside.tally())[0]?.count, 1);
  assert.is(modeOf(`${path}.of-i-0b`), '600');
  assert.equal(
    readdirSync(join(path, '..')).filter(name => /\.\d+$/.test(name)),
    [],
    'no part of a copy is left',
  );
  await aside.close();
});
files(
  'a ledger of another instance: has nothing left of what that one saw and gave',
  async ({ path, store }) => {
    const [mine, theirs] = [parseInstanceId('i-0a'), parseInstanceId('i-0b')];
    const spec = { kind: 'sqlite', path } as const;
    await settleInstance(spec, theirs, () => {});
    await store.add([newRow(7)]);
    await makeReady(store, 7);
    await make(store, 7, 'claim', { holder: 'web' });
    await make(store, 7, 'release');
    await noteSightings(store, [sightingWith(7)]);
    await settleInstance(spec, mine, () => {});
    const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
    const file = new DatabaseSync(path);
    const tables = file.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").all();
    const full = tables
      .map(({ name }) => String(name))
      .filter(name => file.prepare(`SELECT 1 FROM \`${name}\` LIMIT 1`).get() !== undefined);
    file.close();
    assert.equal(
      full.filter(name => !/^(sqlite|__drizzle)_/.test(name)),
      ['fact'],
    );
  },
);
files.run();

const FIRST = numberOf('10.1.0.0' as Ipv4);
const SIZE = 65_536;
const nth = (n: number): Ipv4 => fromNumber(FIRST + n);

const big = suite<Context & { file: SqliteFile }>('store: SQLite with 65,536 addresses');
big.before(async context => {
  context.folder = tempFolder();
  const path = join(context.folder, 'ledger.sqlite');
  const store = createSqliteStore(path);
  await store.migrate();
  assert.is(await store.add(range(SIZE).map(n => newRow(0, { ip: nth(n) }))), SIZE);
  await store.close();
  context.file = openFile(path);
});
big.after(({ folder, file }) => {
  file.client.close();
  removeFolder(folder);
});

const reads = createReads(DIALECT);
const NARROW = parseCidr('10.1.0.0/28');
// Each from the index that begins with what it looks for; a sort only where few rows can match.
const hot: [name: string, index: string, sorts: boolean, queries: SQL[]][] = [
  ['get', 'sqlite_autoindex_allocation_1', false, [reads.ips(SUBNET, [nth(5), nth(6)])]],
  ['onEni', 'iface', true, [reads.onEni(ENI)]],
  ['readyOn', 'iface', true, [reads.readyOn(ENI, null, 20)]],
  ['readyOn in a range', 'iface', true, [reads.readyOn(ENI, NARROW, 20)]],
  ['freeFor', 'free', false, reads.freeFor(freeFor())],
  ['freeFor on another ENI', 'free', false, reads.freeFor(freeFor({ eni: OTHER_ENI }))],
  ['freeFor in a range', 'free', false, reads.freeFor(freeFor({ range: NARROW }))],
  ['intents', 'intent', false, [reads.intents(0, 20)]],
  ['withStatus', 'address', false, [reads.withStatus(SUBNET, ['allocated', 'ready'])]],
];
for (const [name, index, sorts, queries] of hot)
  big(`${name}: goes along the index "${index}"${sorts ? '' : ' and sorts nothing'}`, ({ file }) => {
    for (const query of queries) {
      const plan = file.rows(sql`EXPLAIN QUERY PLAN ${query}`);
      const text = plan.map(step => String(step.detail)).join('; ');
      assert.match(text, new RegExp(`^SEARCH allocation USING INDEX ${index} \\(`));
      assert.is(text.includes('TEMP B-TREE'), sorts, text);
    }
  });
big.run();
