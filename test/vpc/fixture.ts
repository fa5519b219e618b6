/** The fixture of all scenarios: EC2's API and metadata, a database, two Docker hosts and a neighbour in a VPC. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, openSync, symlinkSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { join } from 'node:path';
import process from 'node:process';
import { createAdaptorServer } from '@hono/node-server';
import { createEc2Api } from '../../src/simulator/ec2/ec2-api.ts';
import { createImdsApi } from '../../src/simulator/imds/imds-api.ts';
import type { Vpc } from '../../src/simulator/model/vpc.ts';
import { buildVpc } from '../../src/simulator/model/world.ts';
import { execute, until } from '../kit/docker/netns.ts';
import { Fabric } from './fabric.ts';
import { EC2_ENVIRONMENT, type Environment, Host, STORE_ENVIRONMENT, type Way } from './host.ts';
import { Instance, wordsOf } from './instance.ts';
import { blockBehind, linesOf } from './readme.ts';
import {
  A,
  B,
  CERTIFICATES,
  DATABASE,
  EC2,
  HOSTS_FILE,
  IMAGE_FOLDER,
  INSTANCES,
  METADATA,
  PASSWORD,
  PEER,
  SERVER,
  SUBNETS,
  TENANTS,
  WORLD,
} from './site.ts';

/** How often the simulator is asked for its network, since it applies late calls only then. */
const LOOK_MS = 50;
const START_MS = 60_000;

export class Fixture {
  /** Prints evidence. */
  readonly say: (text: string) => void;
  readonly vpc: Vpc;
  readonly fabric: Fabric;
  readonly a: Host;
  readonly b: Host;
  readonly peer: Instance;
  #central: ChildProcess | null = null;
  #way: Way | null = null;

  constructor(say: (text: string) => void) {
    this.say = say;
    this.vpc = buildVpc(WORLD, { now: Date.now, random: Math.random, bucketScale: null });
    const { network } = this.vpc;
    this.fabric = new Fabric(
      network,
      TENANTS.map(tenant => network.subnet(SUBNETS[tenant].id)),
    );
    setInterval(() => this.vpc.network, LOOK_MS).unref();
    this.a = new Host(A, this.fabric);
    this.b = new Host(B, this.fabric);
    this.peer = new Instance(PEER, this.fabric);
  }

  get hosts(): readonly Host[] {
    return [this.a, this.b];
  }

  /** Starts EC2, the metadata service, a database and the neighbour. */
  async open(): Promise<void> {
    for (const address of [EC2, DATABASE, SERVER, METADATA])
      execFileSync('ip', ['address', 'add', `${address}/32`, 'dev', 'lo']);
    writeFileSync('/etc/hosts', HOSTS_FILE);
    await serveOn(EC2, createEc2Api(this.vpc, {}).fetch as Fetch);
    const metadata = new Map<string, Fetch>(
      INSTANCES.map(({ id }) => [id, createImdsApi(this.vpc, { instance: id }).fetch as Fetch]),
    );
    await serveOn(METADATA, (request, env) => {
      const asks = this.#instanceAt(env.incoming.socket.remoteAddress ?? '');
      return metadata.get(asks)?.(request, env) ?? new Response(null, { status: 404 });
    });
    makeImage();
    await Promise.all([startDatabase(), this.peer.boot()]);
  }

  /** The instance whose ENI carries the address. */
  #instanceAt(address: string): string {
    const ip = address.replace('::ffff:', '');
    const eni = [...this.vpc.network.enis()].find(({ primary, secondaries }) =>
      [primary, ...secondaries].some(one => one === ip),
    );
    return eni?.attachment?.instance ?? '';
  }

  /** Starts the server of all hosts by the command of the README. */
  async #startCentral(): Promise<void> {
    for (const name of ['ca.pem', 'server.pem', 'server.key'])
      cpSync(join(CERTIFICATES, name), join('/etc/ec2-ipam', name));
    writeFileSync('/etc/ec2-ipam/password', PASSWORD, { mode: 0o600 });
    execFileSync('ln', ['-sf', '/vpc/dist/ec2-ipam.mjs', '/usr/bin/ec2-ipam']);
    const [line = ''] = linesOf(blockBehind('## TLS', 'sh'));
    this.#central = spawn('bash', ['-c', `exec ${line}`], {
      env: {
        ...process.env,
        ...EC2_ENVIRONMENT,
        ...STORE_ENVIRONMENT,
        AWS_REGION: 'eu-central-1',
        AWS_ACCESS_KEY_ID: 'central',
        AWS_SECRET_ACCESS_KEY: 'central',
      },
      stdio: ['ignore', ...logFile('central')],
    });
    await answers(SERVER, 8031);
  }

  async #stopCentral(): Promise<void> {
    const child = this.#central;
    if (child === null) return;
    this.#central = null;
    const gone = once(child, 'exit');
    child.kill('SIGTERM');
    await gone;
  }

  /** Boots both hosts and installs on them what they need for this way. Hosts that are embedded already begin anew
   *  without a boot. */
  async begin(way: Way): Promise<void> {
    if (way === 'embedded' && this.#way === way) return await this.forget();
    this.#way = way;
    await this.#stopCentral();
    if (way === 'central') await this.#startCentral();
    await Promise.all(
      this.hosts.map(async host => {
        await host.powerOff();
        await host.boot();
        await host.must('rm -rf /var/lib/ec2-ipam /var/lib/docker/containers /var/lib/docker/network');
        this.#takeOff(host);
        await host.install(way);
        if (way === 'central') await host.link.start();
        else await host.server.start();
        await host.startDocker();
      }),
    );
    await this.#forgetNeighbours();
  }

  /** Removes all containers and networks, and starts the servers of the hosts anew with these settings. */
  async empty(way: Way, settings: Environment = {}): Promise<void> {
    await Promise.all(this.hosts.map(host => host.empty().then(() => host.restart(way, settings))));
  }

  /** Has the hosts booted before the next group, since something failed. */
  distrust(): void {
    this.#way = null;
  }

  /** Empties the hosts, their ledgers and their ENIs. */
  async forget(): Promise<void> {
    await Promise.all(
      this.hosts.map(async host => {
        await host.empty();
        await host.server.stop();
        await host.must('rm -rf /var/lib/ec2-ipam');
        this.#takeOff(host);
        await host.server.start();
      }),
    );
    await this.#forgetNeighbours();
  }

  /** A new ledger knows of no quarantine, so nobody may remember former holders. */
  async #forgetNeighbours(): Promise<void> {
    for (const instance of [this.peer, ...this.hosts]) await instance.must('ip neigh flush all');
  }

  #takeOff(host: Host): void {
    const { network } = this.vpc;
    for (const { id } of host.site.enis) {
      const { secondaries } = network.eni(id);
      if (secondaries.length > 0) network.unassign(id, secondaries);
    }
  }

  /** Runs a statement on the shared ledger; returns the rows. */
  async sql(statement: string): Promise<string[][]> {
    const flags = wordsOf(`--host ${DATABASE} --user ipam '--password=${PASSWORD}' --skip-ssl`);
    const asked = ['--batch', '--skip-column-names', '--execute', statement, 'shared'];
    const { code, stdout, stderr } = await execute('mariadb', [...flags, ...asked]);
    if (code !== 0) throw new Error(`the database: ${stderr}`);
    const lines = stdout.split('\n').filter(Boolean);
    return lines.map(line => line.split('\t'));
  }
}

type Fetch = (
  request: Request,
  env: { incoming: { socket: { remoteAddress?: string } } },
) => Response | Promise<Response>;

async function serveOn(address: string, fetch: Fetch): Promise<void> {
  const server = createAdaptorServer({ fetch: fetch as never, overrideGlobalObjects: false }) as Server;
  await new Promise<void>(resolve => server.listen(80, address, resolve));
}

function makeImage(): void {
  const bin = join(IMAGE_FOLDER, 'bin');
  mkdirSync(bin, { recursive: true });
  cpSync('/usr/bin/busybox', join(bin, 'busybox'));
  const applets = execFileSync('busybox', ['--list'], { encoding: 'utf8' }).split('\n');
  for (const name of applets) if (name !== '' && name !== 'busybox') symlinkSync('busybox', join(bin, name));
}

async function startDatabase(): Promise<void> {
  const own = blockBehind('## MySQL', 'sql').replace('…', PASSWORD);
  const shared = own
    .replace(/CREATE USER.*\n/, '')
    .replace('DATABASE ipam', 'DATABASE shared')
    .replace('ipam.*', 'shared.*');
  writeFileSync('/run/accounts.sql', own + shared);
  const flags = wordsOf(`--no-defaults --user=root --datadir=/var/lib/mysql --socket=/run/mysql.sock
    --pid-file=/run/mysql.pid --init-file=/run/accounts.sql --bind-address=${DATABASE} --skip-name-resolve
    --performance-schema=OFF --ssl-cert=${CERTIFICATES}/server.pem --ssl-key=${CERTIFICATES}/server.key
    --innodb-log-file-size=10M --innodb-buffer-pool-size=64M`);
  spawn('mariadbd', flags, { stdio: ['ignore', ...logFile('mariadb')] });
  await answers(DATABASE, 3306);
}

/** Waits until a server listens. */
const answers = (address: string, port: number): Promise<void> =>
  until(`${address}:${port} answers`, START_MS, async () => {
    const { code } = await execute('bash', ['-c', `exec 3<>/dev/tcp/${address}/${port}`]);
    return code === 0;
  });

function logFile(name: string): [number, number] {
  const file = openSync(join('/out', `${name}.log`), 'a');
  return [file, file];
}
