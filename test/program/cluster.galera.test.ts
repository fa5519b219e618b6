// Goal: a cluster of databases is one ledger. Method: three Galera nodes, a server on each of two of them, clients
// that choose between the servers at random, and nodes killed with -9 that rejoin; at rest clients, ledger (on every
// node) and EC2 agree.
import { moveStatements } from '../../src/store/mysql/move-statements.ts';
import type { Store } from '../../src/store/store.ts';
import { type Galera, sharedGalera } from '../kit/databases/galera.ts';
import type { Ledger, LedgerRow } from '../kit/databases/ledgers.ts';
import { removeFolder, tempFolder } from '../kit/folders.ts';
import { makeReady, newRows, one } from '../kit/ledger.ts';
import { byLength } from '../kit/length.ts';
import { ENI, ip, range, rowWith, SUBNET } from '../kit/rows.ts';
import { runBundle } from '../kit/servers/bundle.ts';
import { eniName, Site } from '../kit/servers/site.ts';
import { assert, suite } from '../kit/uvu.ts';
import { pause } from '../kit/wait.ts';

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
const folder = tempFolder();
let galera: Galera;
let first: Site;
let second: Site;

const envOf = (node: number, database: string) => ({
  EC2_IPAM_STORE: galera.url(node, database),
  EC2_IPAM_STORE_PASSWORD: galera.password,
  EC2_IPAM_STATE_DIR: folder,
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
  galera = await sharedGalera();
  await galera.create('ipam');
});
cluster.after(async () => {
  await first?.close();
  await galera?.stop();
  removeFolder(folder);
});

cluster(`${MIGRATORS} migrations at once on two nodes: all succeed, and are made once`, async () => {
  const migrate = (i: number) => runBundle(['migrate'], envOf(i % 2, 'ipam'));
  const ran = await Promise.all(range(MIGRATORS).map(migrate));
  for (const { code, stderr } of ran) assert.is(code, 0, stderr);
  const journal = await galera.run(2, 'ipam', 'SELECT created_at FROM `__drizzle_migrations`');
  assert.is(new Set(journal.map(row => row.created_at)).size, journal.length);
});

cluster('what one node has committed: another reads, however far it lags', async () => {
  await galera.create('lag');
  const [here, there] = [galera.store(0, 'lag'), galera.store(1, 'lag')];
  await here.migrate();
  await here.add(newRows(10));
  await there.get(SUBNET, [ip(10)]); // connected before the node is held
  const letGo = await galera.hold(1, 'FLUSH TABLES WITH READ LOCK');
  await makeReady(here, 10);
  const read = one(there, 10);
  await pause(HELD_MS);
  await letGo();
  assert.is((await read).status, 'ready');
  await Promise.all([here.close(), there.close()]);
});

// A node that undoes a transaction between two statements of one packet says nothing of it, COMMIT included. It
// takes thousands of contested moves to meet one, so the order of the statements is looked at too.
cluster('a row for which two nodes contend: leaves each generation once', async () => {
  await galera.create('contest');
  const nodes = [galera.store(0, 'contest'), galera.store(1, 'contest')] as const;
  await nodes[0].migrate();
  const free = rowWith({ iface: null, generation: 0 });
  const changes = [
    { row: free, move: 'assign', iface: ENI },
    { row: { ...free, ip: ip(11) }, move: 'reserve' },
  ] as const;
  assert.is(moveStatements(changes, 'token', 0).at(-2)?.sql, 'COMMIT');
  // One statement alone commits itself, or is refused in so many words.
  assert.is(moveStatements(changes.slice(1), 'token', 0).length, 3);
  const lasts = range(CONTESTED, 10);
  await nodes[0].add(newRows(...lasts));
  for (const last of lasts) await makeReady(nodes[0], last);
  const left = new Map<string, number>();
  const endsAt = performance.now() + CONTEST_MS;
  let tries = 0;
  const contender = async (store: Store) => {
    while (performance.now() < endsAt) {
      const found = await one(store, 10 + (tries++ % CONTESTED));
      const move = found.status === 'ready' ? 'claim' : 'release';
      const key = `${found.ip} at ${found.generation}`;
      for (const _moved of await store.move([{ row: found, move }])) left.set(key, (left.get(key) ?? 0) + 1);
    }
  };
  await Promise.all(range(CONTENDERS).map(i => contender(nodes[i % 2] ?? nodes[0])));
  console.log(`  cluster: ${tries} contested moves, ${left.size} made`);
  const twice = [...left].filter(([, count]) => count > 1);
  assert.equal(twice, []);
  await Promise.all(nodes.map(store => store.close()));
});

const killAndRejoin = async (node: number) => {
  await galera.kill9(node);
  await pause(LOAD_MS);
  await galera.rejoin(node);
};
/** Load on both servers while something happens; then, at rest, nothing is wrong on any node. */
async function loadBoth(happening: () => Promise<void>): Promise<void> {
  await first.loadWhile(CLIENTS, ENIS, LOAD_MS, happening);
  const rows = await Promise.all([0, 1, 2].map(node => galera.run(node, 'ipam', SELECT)));
  assert.equal(rows[1], rows[0]);
  assert.equal(rows[2], rows[0]);
}

cluster('writes to two nodes: nothing is given twice, conflicts are tried again', async () => {
  const more = { EC2_IPAM_REQUEST_TIMEOUT: `${TIMEOUT_S}s` };
  first = await Site.open(ledgerOn(0), ENIS.length, more);
  second = await first.beside(more, ledgerOn(1));
  await Promise.all([first.start(), second.start()]);
  await first.makeNetworks(ENIS);
  await loadBoth(async () => {});
  const undone = await conflicts();
  console.log(`  cluster: ${undone} conflicts, ${first.checker.figures}`);
  assert.ok(undone > 0, 'the nodes never met');
});

if (byLength({ full: true, short: false, leftOut: 'the death of a node that no server uses' }))
  cluster('a node that no server uses: is killed with -9 and rejoins', async () => {
    await loadBoth(() => killAndRejoin(2));
    console.log(`  cluster: other node killed, ${await conflicts()} conflicts, ${first.checker.figures}`);
  });

cluster("a server's own node, killed with -9 and back: its requests wait or are told why", async () => {
  await loadBoth(() => killAndRejoin(1));
  console.log(`  cluster: own node killed, ${await conflicts()} conflicts, ${first.checker.figures}`);
  assert.ok(first.checker.longestMs() < TIMEOUT_S * 1000, `longest wait ${first.checker.longestMs()} ms`);
});
cluster.run();
