// Goal: a cluster of databases is one ledger. Method: three Galera nodes, a server on each of two of them, clients
// that choose between the servers at random, and nodes killed with -9 that rejoin; at rest clients, ledger (on every
// node) and EC2 agree.

import { moveStatements } from '../../src/store/mysql/move-sql.ts';
import { createMysqlStore } from '../../src/store/mysql/store.ts';
import type { Store } from '../../src/store/store.ts';
import { type MysqlSpec, parseStoreUrl } from '../../src/store/url.ts';
import { type Galera, startGalera } from '../kit/databases/galera.ts';
import type { Ledger, LedgerRow } from '../kit/databases/ledgers.ts';
import { byLength } from '../kit/length.ts';
import { removeFolder, runBundle, tempFolder } from '../kit/servers/bundle.ts';
import { Checker, pause } from '../kit/servers/checker.ts';
import { eniName, Site } from '../kit/servers/site.ts';
import { assert, suite } from '../kit/uvu.ts';
import { ENI, ip, makeReady, one, row, SUBNET } from '../store/store.contract.ts';

const CLIENTS = 6;
const ENIS = [0, 1, 2].map(eniName);
const LOAD_MS = 3000;
const TIMEOUT_S = 60;
const MIGRATORS = 4;
const HELD_MS = 500;
const CONTEST_MS = byLength({
  full: 10_000,
  short: 3_000,
  leftOut: '7 of the 10 s for which nodes contend for rows',
});
const CONTESTED = 6;
const CONTENDERS = 8;
/** As the node knows it once it has applied what the others had committed before. */
const SELECT =
  'SET STATEMENT wsrep_sync_wait = 7 FOR ' +
  "SELECT ip, status, iface, holder FROM allocation WHERE status NOT IN ('free', 'reserved') ORDER BY ip";

const cluster = suite('a ledger on three Galera nodes');
const checker = new Checker();
const folder = tempFolder();
let galera: Galera;
let first: Site;
let second: Site;

const envOf = (node: number, database: string) => ({
  EC2_IPAM_STORE: galera.url(node, database),
  EC2_IPAM_STORE_PASSWORD: galera.password,
  EC2_IPAM_STATE_DIR: folder,
});
const freeRow = { subnet: SUBNET, ip: ip(10), status: 'free', iface: null, generation: 0 } as const;
const storeOn = (node: number, database: string): Store =>
  createMysqlStore({
    spec: parseStoreUrl(galera.url(node, database)) as MysqlSpec,
    password: galera.password,
  });
const ledgerOn = (node: number): Ledger => ({
  env: envOf(node, 'ipam'),
  rows: async () => (await galera.run(node, 'ipam', SELECT)) as unknown as LedgerRow[],
  close: async () => {},
});

/** How often a node undid a transaction because another node's came first. */
async function conflicts(): Promise<number> {
  let sum = 0;
  for (const node of [0, 1])
    for (const name of ['wsrep_local_cert_failures', 'wsrep_local_bf_aborts'])
      sum += Number((await galera.run(node, 'ipam', `SHOW STATUS LIKE '${name}'`))[0]?.Value);
  return sum;
}

cluster.before(async () => {
  galera = await startGalera();
  await galera.create('ipam');
});
cluster.after(async () => {
  await Promise.all([first?.close(), second?.close()]);
  await first?.ec2.stop();
  await galera?.stop();
  removeFolder(folder);
});

cluster(`${MIGRATORS} migrations started at once on two nodes all succeed, and are made once`, async () => {
  const ran = await Promise.all(
    Array.from({ length: MIGRATORS }, (_, i) => runBundle(['migrate'], envOf(i % 2, 'ipam'))),
  );
  for (const { code, stderr } of ran) assert.is(code, 0, stderr);
  const journal = await galera.run(2, 'ipam', 'SELECT created_at FROM `__drizzle_migrations`');
  assert.is(new Set(journal.map(row => row.created_at)).size, journal.length);
});

cluster(
  'what one node has committed, a server on another node reads, however far that node lags',
  async () => {
    await galera.create('lag');
    const [here, there] = [0, 1].map(node =>
      createMysqlStore({
        spec: parseStoreUrl(galera.url(node, 'lag')) as MysqlSpec,
        password: galera.password,
      }),
    ) as [Store, Store];
    await here.migrate();
    await here.add([row(10)]);
    await there.get(SUBNET, [ip(10)]); // connected before the node is held
    const letGo = await galera.hold(1, 'FLUSH TABLES WITH READ LOCK');
    await makeReady(here, ip(10), ENI);
    const read = one(there, ip(10));
    await pause(HELD_MS);
    await letGo();
    assert.is((await read).status, 'ready');
    await Promise.all([here.close(), there.close()]);
  },
);

// A node that undoes a transaction between two statements of one packet says nothing of it, COMMIT included. It
// takes thousands of contested moves to meet one, so the order of the statements is looked at too.
cluster('a row for which two nodes contend leaves each generation once', async () => {
  await galera.create('contest');
  const nodes = [0, 1].map(node => storeOn(node, 'contest')) as [Store, Store];
  await nodes[0].migrate();
  const changes = [
    { row: freeRow, move: 'assign', iface: ENI },
    { row: { ...freeRow, ip: ip(11) }, move: 'reserve' },
  ] as const;
  assert.is(moveStatements(changes, 'token', 0).at(-2)?.sql, 'COMMIT');
  // One statement alone commits itself, or is refused in so many words.
  assert.is(moveStatements(changes.slice(0, 1), 'token', 0).length, 3);
  const ips = Array.from({ length: CONTESTED }, (_, i) => ip(10 + i));
  await nodes[0].add(ips.map((_, i) => row(10 + i)));
  for (const address of ips) await makeReady(nodes[0], address, ENI);
  const left = new Map<string, number>();
  const endsAt = performance.now() + CONTEST_MS;
  let tries = 0;
  const contender = async (store: Store) => {
    while (performance.now() < endsAt) {
      const found = await one(store, ips[tries++ % CONTESTED] ?? ip(10));
      const move = found.status === 'ready' ? 'claim' : 'release';
      const key = `${found.ip} at ${found.generation}`;
      for (const _moved of await store.move([{ row: found, move }])) left.set(key, (left.get(key) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: CONTENDERS }, (_, i) => contender(nodes[i % 2] ?? nodes[0])));
  console.log(`  cluster: ${tries} contested moves, ${left.size} made`);
  assert.equal(
    [...left].filter(([, count]) => count > 1),
    [],
  );
  await Promise.all(nodes.map(store => store.close()));
});

/** Load on both servers while `happening`, then rest, in which nothing is wrong on any node. */
async function loadWhile(happening: () => Promise<void>): Promise<void> {
  const over = pause(LOAD_MS)
    .then(happening)
    .then(() => pause(LOAD_MS));
  await checker.load(CLIENTS, [first.url, second.url], ENIS, over);
  await over;
  await checker.repeatStops(first.url);
  await pause(2000); // two rounds of the keepers, which give back what was claimed unheard
  assert.equal(await first.restAndCompare(ENIS, new Set()), []);
  const rows = await Promise.all([0, 1, 2].map(node => galera.run(node, 'ipam', SELECT)));
  assert.equal(rows[1], rows[0]);
  assert.equal(rows[2], rows[0]);
}

cluster(
  'writes to two nodes: nothing is given twice, and conflicts between nodes are tried again',
  async () => {
    const more = { EC2_IPAM_REQUEST_TIMEOUT: `${TIMEOUT_S}s` };
    first = await Site.open(ledgerOn(0), ENIS.length, checker, more);
    second = await Site.beside(ledgerOn(1), first.ec2, checker, more);
    await Promise.all([first.start(), second.start()]);
    await first.makeNetworks(ENIS);
    await loadWhile(async () => {});
    const undone = await conflicts();
    console.log(`  cluster: ${undone} conflicts, ${checker.figures}`);
    assert.ok(undone > 0, 'the nodes never met');
  },
);

if (byLength({ full: true, short: false, leftOut: 'the death of a node that no server uses' }))
  cluster('a node that no server uses is killed with -9 and rejoins', async () => {
    await loadWhile(async () => {
      await galera.kill9(2);
      await pause(LOAD_MS);
      await galera.rejoin(2);
    });
    console.log(`  cluster: other node killed, ${await conflicts()} conflicts, ${checker.figures}`);
  });

cluster("a server's own node is killed with -9 and rejoins: its requests wait or are told why", async () => {
  await loadWhile(async () => {
    await galera.kill9(1);
    await pause(LOAD_MS);
    await galera.rejoin(1);
  });
  console.log(`  cluster: own node killed, ${await conflicts()} conflicts, ${checker.figures}`);
  assert.ok(checker.longestMs() < TIMEOUT_S * 1000, `longest wait ${checker.longestMs()} ms`);
});
cluster.run();
