// Goal: the ledger in a file. Method: the contract on real files; the plans of the hot statements in a subnet
// of 65,536 addresses; files that cannot be used; a file that came from another instance.
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { type SQL, sql } from 'drizzle-orm';
import { fromNumber, type Ipv4, numberOf, parseCidr } from '../../../src/domain/address.ts';
import { isError } from '../../../src/domain/error.ts';
import { parseInstanceId } from '../../../src/domain/ids.ts';
import type { Log } from '../../../src/domain/log.ts';
import { createReads } from '../../../src/store/reads.ts';
import { openFile, type SqliteFile } from '../../../src/store/sqlite/file.ts';
import { settleInstance } from '../../../src/store/sqlite/owner.ts';
import { createSqliteStore, DIALECT } from '../../../src/store/sqlite/store.ts';
import type { FreeQuery } from '../../../src/store/store.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { contract, ENI, ip, makeReady, OTHER_ENI, one, row, SUBNET } from '../store.contract.ts';

const newFolder = (): string => mkdtempSync(join(tmpdir(), 'ec2-ipam-'));

contract('SQLite', async () => {
  const folder = newFolder();
  let now = 1_700_000_000_000;
  const store = createSqliteStore(join(folder, 'ledger.sqlite'), { clock: () => now });
  return {
    store,
    advance: ms => {
      now += ms;
    },
    async close() {
      await store.close();
      rmSync(folder, { recursive: true });
    },
  };
});

interface Context {
  folder: string;
  path: string;
}
const files = suite<Context>('store: a SQLite file');
files.before.each(context => {
  context.folder = newFolder();
  context.path = join(context.folder, 'state', 'ledger.sqlite');
});
files.after.each(({ folder }) => rmSync(folder, { recursive: true }));

const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8);

files(
  'opening touches nothing; the first call makes folder and file, for their owner alone',
  async ({ path }) => {
    const store = createSqliteStore(path);
    assert.not(existsSync(path));
    const before = process.umask(0);
    await store.migrate();
    process.umask(before);
    await store.add([row(10)]);
    assert.equal([join(path, '..'), path, `${path}-wal`].map(modeOf), ['700', '600', '600']);
    await store.close();
  },
);

files('two processes’ worth of stores on one file see each other’s writes', async ({ path }) => {
  const [a, b] = [createSqliteStore(path), createSqliteStore(path)];
  await a.migrate();
  await b.add([row(10)]);
  const ready = await makeReady(a, ip(10), ENI);
  const answers = await Promise.all([a, b].map(store => store.move([{ row: ready, move: 'claim' }])));
  assert.is(answers.flat().length, 1);
  assert.equal(await one(a, ip(10)), await one(b, ip(10)));
  await a.close();
  await b.close();
});

files('another process’s lock is waited for without holding up anything else', async ({ path }) => {
  const store = createSqliteStore(path);
  await store.migrate();
  const other = openFile(path);
  other.client.exec('BEGIN IMMEDIATE');
  const adds = Promise.all(Array.from({ length: 20 }, (_, i) => store.add([row(i)])));
  let heldMs = 0;
  for (let i = 0; i < 30; i++) {
    const from = performance.now();
    await new Promise(resolve => setTimeout(resolve, 10));
    heldMs = Math.max(heldMs, performance.now() - from);
  }
  other.client.exec('COMMIT');
  assert.is((await adds).length, 20);
  assert.ok(heldMs < 100, `the event loop was held for ${heldMs} ms`);
  other.client.close();
  await store.close();
});

files('a lock that stays is one clear error after its bound', async ({ path }) => {
  const store = createSqliteStore(path, { lockedMaxMs: 50 });
  await store.migrate();
  const other = openFile(path);
  other.client.exec('BEGIN IMMEDIATE');
  assert.equal(await store.tally(), [], 'who only reads does not wait');
  await assertDown(() => store.add([row(10)]), path, /: another process keeps it locked; end that process/);
  other.client.exec('COMMIT');
  assert.is(await store.add([row(10)]), 1);
  other.client.close();
  await store.close();
});

files('what was answered is in the file when it is opened again', async ({ path }) => {
  const store = createSqliteStore(path);
  await store.migrate();
  await store.add([row(10)]);
  const after = await makeReady(store, ip(10), ENI);
  await store.close();
  assert.equal(await one(store, ip(10)), after, 'a closed store opens itself again');
  await store.close();
});

const unusable: [name: string, spoil: (path: string) => void, says: RegExp][] = [
  [
    'not a database',
    path => writeFileSync(path, 'hello '.repeat(1_000)),
    /: it is not a SQLite database; name another/,
  ],
  ['a folder', path => mkdirSync(path), /: it cannot be opened.*; let the user that ec2-ipam runs as write/],
];
for (const [name, spoil, says] of unusable)
  files(`a file that is ${name} is one clear error`, async ({ path }) => {
    mkdirSync(join(path, '..'));
    spoil(path);
    await assertDown(() => createSqliteStore(path).migrate(), path, says);
  });

files('a folder that cannot be made is one clear error', async ({ folder }) => {
  writeFileSync(join(folder, 'file'), '');
  const path = join(folder, 'file', 'ledger.sqlite');
  await assertDown(
    () => createSqliteStore(path).migrate(),
    path,
    /: it cannot be opened \(E\w+\); let the user/,
  );
});

// Root may write anything; only Node and Bun can stop being root for a moment.
if (process.getuid?.() !== 0 || (process.seteuid !== undefined && !('Deno' in globalThis)))
  files('a file that may only be read is one clear error', async ({ folder, path }) => {
    const store = createSqliteStore(path);
    await store.migrate();
    await store.close();
    chmodSync(folder, 0o755);
    chmodSync(join(path, '..'), 0o755);
    chmodSync(path, 0o444);
    await asNobody(() =>
      assertDown(() => store.add([row(10)]), path, /: it is read-only; let the user that/),
    );
  });

async function asNobody(work: () => Promise<void>): Promise<void> {
  if (process.getuid?.() !== 0) return work();
  process.seteuid?.(65_534);
  try {
    await work();
  } finally {
    process.seteuid?.(0);
  }
}

async function assertDown(call: () => Promise<unknown>, path: string, says: RegExp): Promise<void> {
  const error = await call().then(
    () => assert.unreachable('the store answered'),
    thrown => thrown,
  );
  assert.ok(isError(error, 'store-down'), String(error));
  assert.ok(error.line.startsWith(`the store at ${path} cannot be used: `), error.line);
  assert.match(error.line, says);
}

files('a ledger of this instance stays; one of another is copied aside and emptied', async ({ path }) => {
  const [mine, theirs] = [parseInstanceId('i-0a'), parseInstanceId('i-0b')];
  const spec = { kind: 'sqlite', path } as const;
  const lines: string[] = [];
  const log: Log = (_, message, fields) => void lines.push(`${message} ${fields?.owner} ${fields?.instance}`);
  await settleInstance(spec, theirs, log);
  const store = createSqliteStore(path);
  await store.add([row(10)]);
  await settleInstance(spec, theirs, log);
  assert.is((await store.tally()).length, 1);
  assert.equal(lines, []);

  await Promise.all([settleInstance(spec, mine, log), settleInstance(spec, mine, log)]);
  assert.equal(await store.tally(), []);
  assert.is(await store.fact('instance'), mine);
  assert.equal(lines, ['ledger of another instance replaced i-0b i-0a']);
  await store.close();

  const aside = createSqliteStore(`${path}.of-i-0b`);
  assert.is((await aside.tally())[0]?.count, 1);
  assert.is(modeOf(`${path}.of-i-0b`), '600');
  await aside.close();
});
files.run();

const FIRST = numberOf('10.1.0.0' as Ipv4);
const SIZE = 65_536;
const nth = (n: number): Ipv4 => fromNumber(FIRST + n);
const freeFor = (patch: Partial<FreeQuery> = {}): FreeQuery => ({
  subnet: SUBNET,
  eni: ENI,
  range: null,
  rest: { cooldownMs: 30_000, quarantineMs: 600_000, graceMs: 930_000 },
  which: 'any',
  limit: 20,
  ...patch,
});

const big = suite<Context & { file: SqliteFile }>('store: SQLite with 65,536 addresses');
big.before(async context => {
  context.folder = newFolder();
  const path = join(context.folder, 'ledger.sqlite');
  const store = createSqliteStore(path);
  await store.migrate();
  const added = await store.add(Array.from({ length: SIZE }, (_, n) => ({ ...row(0), ip: nth(n) })));
  assert.is(added, SIZE);
  await store.close();
  context.file = openFile(path);
});
big.after(({ folder, file }) => {
  file.client.close();
  rmSync(folder, { recursive: true });
});

// Each from the index that begins with what it looks for; a sort only where few rows can match.
const reads = createReads(DIALECT);
const narrow = parseCidr('10.1.0.0/28');
const hot: [name: string, index: string, sorts: boolean, queries: SQL[]][] = [
  ['get', 'sqlite_autoindex_allocation_1', false, [reads.ips(SUBNET, [nth(5), nth(6)])]],
  ['onEni', 'iface', true, [reads.onEni(ENI)]],
  ['readyOn', 'iface', true, [reads.readyOn(ENI, null, 20)]],
  ['readyOn in a range', 'iface', true, [reads.readyOn(ENI, narrow, 20)]],
  ['freeFor', 'free', false, reads.freeFor(freeFor())],
  ['freeFor on another ENI', 'free', false, reads.freeFor(freeFor({ eni: OTHER_ENI }))],
  ['freeFor in a range', 'free', false, reads.freeFor(freeFor({ range: narrow }))],
  ['intents', 'intent', false, [reads.intents(0, 20)]],
  ['withStatus', 'address', false, [reads.withStatus(SUBNET, ['allocated', 'ready'])]],
];
for (const [name, index, sorts, queries] of hot)
  big(`${name} goes along the index "${index}"${sorts ? '' : ' and sorts nothing'}`, ({ file }) => {
    for (const query of queries) {
      const plan = file.rows(sql`EXPLAIN QUERY PLAN ${query}`);
      const text = plan.map(step => String(step.detail)).join('; ');
      assert.match(text, new RegExp(`^SEARCH allocation USING INDEX ${index} \\(`));
      assert.is(text.includes('TEMP B-TREE'), sorts, text);
    }
  });
big.run();
