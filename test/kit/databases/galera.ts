/** Three MariaDB nodes as a Galera cluster of the test's own: data folders, ports and sockets of their own, bound to
 *  loopback, gone with stop(). They run as the user `mysql`: as root the state transfer between nodes fails. */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { createConnection } from 'mysql2/promise';
import { freePort } from '../servers/bundle.ts';
import { QUICK_INSTALL, until } from './mariadb.ts';

const SERVER = '/usr/sbin/mariadbd';
const INSTALLER = '/usr/bin/mariadb-install-db';
const PROVIDER = '/usr/lib/galera/libgalera_smm.so';
const USER = 'ipam';
const OWNER = 'mysql';
const NODES = 3;
const STOP_TIMEOUT_MS = 20_000;

export interface Galera {
  readonly password: string;
  /** The store URL of a database on one node, without the password. */
  url(node: number, database: string): string;
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
  readonly wholePort: number;
  child: ChildProcess | null;
}

export async function startGalera(): Promise<Galera> {
  const owner = ownerIds();
  const folder = mkdtempSync(join(tmpdir(), 'ec2-ipam-galera-'));
  chmodSync(folder, 0o755);
  const password = randomBytes(12).toString('hex');
  const nodes: Node[] = [];
  for (let i = 0; i < NODES; i++) {
    const own = join(folder, `n${i}`);
    mkdirSync(own);
    chownSync(own, owner.uid, owner.gid);
    const [port = 0, groupPort = 0, stepPort = 0, wholePort = 0] = await freePorts(4);
    nodes.push({ folder: own, port, groupPort, stepPort, wholePort, child: null });
  }
  const cleanUp = () => {
    for (const { child } of nodes) child?.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  };
  process.once('exit', cleanUp);

  const nodeAt = (index: number): Node => {
    const node = nodes[index];
    if (node === undefined) throw new Error(`there is no node ${index}`);
    return node;
  };
  const connect = (node: Node, database?: string) =>
    createConnection({
      host: '127.0.0.1',
      port: node.port,
      user: USER,
      password,
      ...(database === undefined ? {} : { database }),
    });
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
    const child = spawn(SERVER, flags(node, index, isFirst ? [] : peers), { stdio: 'ignore', ...owner });
    node.child = child;
    await until(async () => {
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`node ${index}: ${readFileSync(join(node.folder, 'log'), 'utf8').slice(-3000)}`);
      const ready = await run(index, undefined, "SHOW STATUS LIKE 'wsrep_ready'").catch(() => []);
      return ready[0]?.Value === 'ON';
    });
  };
  const end = async (index: number, signal: 'SIGTERM' | 'SIGKILL') => {
    const node = nodeAt(index);
    const { child } = node;
    node.child = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    await new Promise<void>(resolve => {
      const impatience = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
      child.once('exit', () => {
        clearTimeout(impatience);
        resolve();
      });
      child.kill(signal);
    });
  };

  await Promise.all(nodes.map(node => install(node, password)));
  await start(0, true);
  await Promise.all([start(1, false).then(() => start(2, false))]);
  return {
    password,
    url: (index, database) => `mysql://${USER}@127.0.0.1:${nodeAt(index).port}/${database}?ssl=off`,
    create: async database => void (await run(0, undefined, `CREATE DATABASE \`${database}\``)),
    run,
    async hold(index, text) {
      const connection = await connect(nodeAt(index));
      await connection.query(text);
      return async () => connection.destroy();
    },
    kill9: index => end(index, 'SIGKILL'),
    rejoin: index => start(index, false),
    async stop() {
      await Promise.all(nodes.map((_, index) => end(index, 'SIGKILL')));
      process.removeListener('exit', cleanUp);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function ownerIds(): { uid: number; gid: number } {
  const idOf = (flag: string) => Number(spawnSync('id', [flag, OWNER], { encoding: 'utf8' }).stdout);
  return { uid: idOf('-u'), gid: idOf('-g') };
}

/** Ports that nobody has; asked for at once, so that they differ. */
const freePorts = (count: number): Promise<number[]> =>
  Promise.all(Array.from({ length: count }, () => freePort()));

function install(node: Node, password: string): Promise<void> {
  writeFileSync(
    join(node.folder, 'accounts.sql'),
    `CREATE USER IF NOT EXISTS '${USER}'@'127.0.0.1' IDENTIFIED BY '${password}';\n` +
      `GRANT ALL ON *.* TO '${USER}'@'127.0.0.1' WITH GRANT OPTION;\n`,
  );
  const options = ['--no-defaults', '--skip-test-db', '--skip-name-resolve', ...QUICK_INSTALL];
  options.push(`--user=${OWNER}`);
  // Of its own, since installations side by side take each other's temporary tables away.
  options.push(`--tmpdir=${node.folder}`);
  return new Promise((resolve, reject) => {
    execFile(INSTALLER, [...options, `--datadir=${join(node.folder, 'data')}`], (error, stdout, stderr) => {
      if (error === null) resolve();
      else reject(new Error(`mariadb-install-db: ${stdout}${stderr}`));
    });
  });
}

const flags = (node: Node, index: number, peers: readonly string[]): string[] => [
  '--no-defaults',
  `--datadir=${join(node.folder, 'data')}`,
  `--socket=${join(node.folder, 'socket')}`,
  `--pid-file=${join(node.folder, 'pid')}`,
  `--log-error=${join(node.folder, 'log')}`,
  // The first node's account comes to the others with its state; they would fail to make it themselves.
  ...(peers.length === 0 ? [`--init-file=${join(node.folder, 'accounts.sql')}`, '--wsrep-new-cluster'] : []),
  `--port=${node.port}`,
  '--bind-address=127.0.0.1',
  '--skip-name-resolve',
  '--innodb-buffer-pool-size=64M',
  '--innodb-log-file-size=64M',
  '--performance-schema=OFF',
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
