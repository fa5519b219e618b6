/** Three MariaDB nodes as a Galera cluster of the test's own: data folders, ports and sockets of their own, bound to
 *  loopback, gone with stop(). They run as the user `mysql`: as root the state transfer between nodes fails. */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { createConnection } from 'mysql2/promise';
import type { MysqlOptions } from '../../../src/store/mysql/store.ts';
import type { Store } from '../../../src/store/store.ts';
import type { MysqlSpec } from '../../../src/store/url.ts';
import { removeFolder, tempFolder } from '../folders.ts';
import { freePort, type Program, runProgram, startProgram } from '../servers/process.ts';
import { shared } from '../shared.ts';
import { until } from '../wait.ts';
import { commonFlags, QUICK_INSTALL, storeOpener, writeAccounts } from './mariadb.ts';

const SERVER = '/usr/sbin/mariadbd';
const INSTALLER = '/usr/bin/mariadb-install-db';
const PROVIDER = '/usr/lib/galera/libgalera_smm.so';
const USER = 'ipam';
const OWNER = 'mysql';
const NODES = 3;
const START_MAX_MS = 60_000;
const STARTS_MAX = 3;
const LOG_SHOWN_MAX = 3000;

export interface Galera {
  readonly password: string;
  /** The store URL of a database on one node, without the password. */
  url(node: number, database: string): string;
  store(node: number, database: string, options?: Partial<MysqlOptions>, patch?: Partial<MysqlSpec>): Store;
  create(database: string): Promise<void>;
  /** Runs a statement on a node; returns its rows. */
  run(node: number, database: string, text: string): Promise<Record<string, unknown>[]>;
  /** Runs a statement on a connection of its own, which keeps its locks until it is let go. */
  hold(node: number, text: string): Promise<() => Promise<void>>;
  kill9(node: number): Promise<void>;
  /** Starts a node that was killed; resolves when it has caught up with the others. */
  rejoin(node: number): Promise<void>;
  /** Ends all nodes and removes their data. */
  stop(): Promise<void>;
}

interface Node {
  readonly folder: string;
  readonly port: number;
  readonly groupPort: number;
  readonly stepPort: number;
  wholePort: number;
  running: Program | null;
}

export async function startGalera(): Promise<Galera> {
  const owner = ownerIds();
  const folder = tempFolder();
  chmodSync(folder, 0o755);
  const password = randomBytes(12).toString('hex');
  const nodes: Node[] = [];
  for (let i = 0; i < NODES; i++) {
    const own = join(folder, `n${i}`);
    mkdirSync(own);
    chownSync(own, owner.uid, owner.gid);
    nodes.push({
      folder: own,
      port: await freePort(),
      groupPort: await freePort(),
      stepPort: await freePort(),
      wholePort: await freePort(),
      running: null,
    });
  }
  process.once('exit', () => removeFolder(folder));

  const nodeAt = (index: number): Node => {
    const node = nodes[index];
    if (node === undefined) throw new Error(`there is no node ${index}`);
    return node;
  };
  const url = (index: number, database: string) =>
    `mysql://${USER}@127.0.0.1:${nodeAt(index).port}/${database}?ssl=off`;
  const connect = async ({ port }: Node, database = '') => {
    const connection = await createConnection({ host: '127.0.0.1', port, user: USER, password, database });
    // A node that goes away between two queries tells the connection, and the next query too.
    return connection.on('error', () => {});
  };
  const run = async (index: number, database: string | undefined, text: string) => {
    const connection = await connect(nodeAt(index), database);
    try {
      const [rows] = await connection.query(text);
      return Array.isArray(rows) ? (rows as Record<string, unknown>[]) : [];
    } finally {
      connection.destroy();
    }
  };
  const start = async (index: number, isFirst: boolean) => {
    const node = nodeAt(index);
    const peers = nodes.filter(one => one !== node).map(one => `127.0.0.1:${one.groupPort}`);
    const options = { stdio: 'ignore', ...owner } as const;
    const started = startProgram(SERVER, flags(node, index, isFirst ? [] : peers), {}, options);
    node.running = started;
    const isReady = async () => {
      if (started.hasEnded()) throw new Error('it has ended');
      const ready = await run(index, undefined, "SHOW STATUS LIKE 'wsrep_ready'").catch(() => []);
      return ready[0]?.Value === 'ON';
    };
    await until(`node ${index} is ready`, isReady, START_MAX_MS);
  };
  /** A transfer of state from node to node fails now and then; systemd would start the node again, too. */
  const rejoin = async (index: number) => {
    for (let starts = 1; ; starts++)
      try {
        return await start(index, false);
      } catch (error) {
        const node = nodeAt(index);
        await node.running?.kill9();
        node.wholePort = await freePort(); // the rsync of the transfer that failed may be there yet
        const log = lastOf(join(node.folder, 'log'));
        if (starts === STARTS_MAX) throw new Error(`node ${index}: ${log}`, { cause: error });
        console.log(`  galera: node ${index} did not join (${error}) and is started again:\n${log}`);
      }
  };

  await Promise.all(nodes.map(node => install(node, password)));
  await start(0, true);
  await rejoin(1);
  await rejoin(2);
  return {
    password,
    url,
    store: (index, database, options, patch) =>
      storeOpener(name => url(index, name), password)(database, options, patch),
    create: async database => void (await run(0, undefined, `CREATE DATABASE \`${database}\``)),
    run,
    async hold(index, text) {
      const connection = await connect(nodeAt(index));
      await connection.query(text);
      return async () => connection.destroy();
    },
    kill9: async index => nodeAt(index).running?.kill9(),
    rejoin,
    async stop() {
      await Promise.all(nodes.map(node => node.running?.kill9()));
      removeFolder(folder);
    },
  };
}

/** A cluster for all files of a run that leave it whole. */
export const sharedGalera = shared(startGalera);

/** A node that ends at once may have no log. */
const lastOf = (path: string): string =>
  existsSync(path) ? readFileSync(path, 'utf8').slice(-LOG_SHOWN_MAX) : 'it has no log';

function ownerIds(): { uid: number; gid: number } {
  const idOf = (flag: string) => Number(spawnSync('id', [flag, OWNER], { encoding: 'utf8' }).stdout);
  return { uid: idOf('-u'), gid: idOf('-g') };
}

async function install(node: Node, password: string): Promise<void> {
  writeAccounts(node.folder, password, 0o644);
  const options = ['--no-defaults', '--skip-test-db', '--skip-name-resolve', ...QUICK_INSTALL];
  // Of its own, since installations side by side take each other's temporary tables away.
  options.push(`--user=${OWNER}`, `--tmpdir=${node.folder}`, `--datadir=${join(node.folder, 'data')}`);
  const { code, stdout, stderr } = await runProgram(INSTALLER, options);
  if (code !== 0) throw new Error(`mariadb-install-db: ${stdout}${stderr}`);
}

const flags = (node: Node, index: number, peers: readonly string[]): string[] => [
  ...commonFlags(node.folder, node.port),
  // The first node's account comes to the others with its state; they would fail to make it themselves.
  ...(peers.length === 0 ? [`--init-file=${join(node.folder, 'accounts.sql')}`, '--wsrep-new-cluster'] : []),
  '--binlog-format=ROW',
  '--innodb-autoinc-lock-mode=2',
  // So that a test can set the provider's options while it runs: the plugin knows not all of them.
  '--plugin-wsrep-provider=OFF',
  '--wsrep-on=ON',
  `--wsrep-provider=${PROVIDER}`,
  `--wsrep-cluster-address=gcomm://${peers.join()}`,
  '--wsrep-node-address=127.0.0.1',
  `--wsrep-node-name=n${index}`,
  '--wsrep-sst-method=rsync',
  `--wsrep-sst-receive-address=127.0.0.1:${node.wholePort}`,
  `--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:${node.groupPort};` +
    `ist.recv_addr=127.0.0.1:${node.stepPort};gcache.size=32M`,
];
