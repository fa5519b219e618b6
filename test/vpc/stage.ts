/** The VPC and what is around it: EC2's API and metadata, the database, two Docker hosts, and ways to install on them. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, openSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { basename, join } from 'node:path';
import process from 'node:process';
import { createAdaptorServer } from '@hono/node-server';
import { ec2Face } from '../../src/simulator/ec2-face.ts';
import { imdsFace } from '../../src/simulator/imds-face.ts';
import type { Vpc } from '../../src/simulator/vpc.ts';
import { buildVpc } from '../../src/simulator/world.ts';
import { execute, type Result, until } from '../netns.ts';
import { Fabric } from './fabric.ts';
import { Instance } from './instance.ts';
import { blockBehind, linesOf } from './readme.ts';
import {
  A,
  B,
  DATABASE,
  EC2,
  HOSTS_FILE,
  INSTANCES,
  METADATA,
  PEER,
  SERVER,
  SUBNETS,
  TENANTS,
  WORLD,
} from './site.ts';
import { Unit } from './unit.ts';

/** Between two looks at what has become due in the simulator: a call that is applied late. */
const LOOK_MS = 50;
const START_MS = 60_000;
const PASSWORD = 'of the tests';
const CERTIFICATES = '/vpc/certificates';
const IMAGE_FOLDER = '/tmp/image';

/** How hosts are served: by one server on HTTPS and MySQL; each by its own on one MySQL; or all by itself. */
export type Way = 'central' | 'shared' | 'embedded';
export type Say = (text: string) => void;
export type Environment = Readonly<Record<string, string>>;

/** What any program needs to find the simulated EC2; credentials and Region come from the metadata service. */
const EC2_ENVIRONMENT: Environment = { AWS_ENDPOINT_URL_EC2: `http://${EC2}` };
const STORE_ENVIRONMENT: Environment = {
  EC2_IPAM_STORE: 'mysql://ipam@db.internal:3306/shared?ssl=on',
  EC2_IPAM_STORE_PASSWORD_FILE: '/etc/ec2-ipam/password',
  NODE_EXTRA_CA_CERTS: '/etc/ec2-ipam/ca.pem',
};

export class Host extends Instance {
  readonly server = new Unit(this, 'ec2-ipam');
  /** Where no server runs, this one brings the ENIs up. */
  readonly link = new Unit(this, 'ec2-ipam-link');
  #environment: Environment = {};

  /** Installs by the README, the workstation's commands included, and powers the rest of a boot. Settings go into
   *  a drop-in, as `systemctl edit` makes it. */
  async install(way: Way, settings: Environment = {}): Promise<void> {
    for (const line of linesOf(blockBehind('**2. The files.**', 'sh'))) await this.#workstation(line);
    this.write('/etc/systemd/system/ec2-ipam.service', blockBehind('**4. The unit.**', 'ini'));
    this.#configure(way, settings);
    await this.must('rm', '-f', '/etc/docker/plugins/ec2-ipam.json');
    if (way === 'central') {
      this.write(
        '/etc/docker/plugins/ec2-ipam.json',
        blockBehind('Each host, in `/etc/docker/plugins/', 'json'),
      );
      for (const name of ['ca.pem', 'host.pem', 'host.key']) this.#certificate(name, '/etc/docker/ec2-ipam');
      this.write(
        '/etc/systemd/system/ec2-ipam-link.service',
        '[Service]\nType=oneshot\nExecStart=/opt/ec2-ipam/mknet.sh --link\n',
      );
    } else if (way === 'shared') {
      this.#certificate('ca.pem', '/etc/ec2-ipam');
      this.write('/etc/ec2-ipam/password', PASSWORD, 0o600);
    }
  }

  /** Sets what the server reads when it is started next. */
  #configure(way: Way, settings: Environment = {}): void {
    this.#environment = { ...EC2_ENVIRONMENT, ...(way === 'shared' ? STORE_ENVIRONMENT : {}), ...settings };
    const lines = Object.entries(this.#environment).map(([name, value]) => `Environment=${name}=${value}\n`);
    this.write('/etc/systemd/system/ec2-ipam.service.d/override.conf', `[Service]\n${lines.join('')}`);
  }

  /** Removes containers and networks. */
  async empty(): Promise<void> {
    await this.sh('docker ps -aq | xargs -r docker rm -f');
    await this.sh('docker network ls -q --filter type=custom | xargs -r docker network rm');
  }

  /** Starts the server again, with these settings. */
  async restart(way: Way, settings: Environment = {}): Promise<void> {
    this.#configure(way, settings);
    await this.server.stop();
    await this.server.start();
  }

  /** Runs the program by hand, with the server's settings. */
  async ipam(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(['ec2-ipam', ...args], { ...this.#environment });
    if (code !== 0)
      throw new Error(`${this.name}: ec2-ipam ${args.join(' ')} ended with ${code}: ${stderr || stdout}`);
    return stdout;
  }

  override powerOff(): Promise<void> {
    this.server.forget();
    return super.powerOff();
  }

  override async startDocker(): Promise<void> {
    await super.startDocker();
    if ((await this.run(['docker', 'image', 'inspect', 'busybox'])).code !== 0)
      await this.sh(`tar -C ${IMAGE_FOLDER} -c . | docker import - busybox:latest`);
  }

  #certificate(name: string, folder: string): void {
    this.write(join(folder, name), readFileSync(join(CERTIFICATES, name), 'utf8'), 0o600);
  }

  /** Does what a command of the README, typed on a workstation with the checkout, does to this host. */
  async #workstation(line: string): Promise<void> {
    const [command = '', ...rest] = line.split(' ');
    if (line === 'npm run setup') return; // done: dist/ is there
    if (command === 'ssh') await this.sh(rest.slice(1).join(' '));
    else if (command === 'scp') {
      const [, folder = ''] = rest.at(-1)?.split(':') ?? [];
      for (const file of rest.slice(0, -1))
        cpSync(join('/vpc', file), join(this.pathOf(folder), basename(file)));
    } else throw new Error(`the README has a command that is not played: ${line}`);
  }
}

export class Stage {
  readonly vpc: Vpc;
  readonly fabric: Fabric;
  readonly a: Host;
  readonly b: Host;
  readonly peer: Instance;
  #central: ChildProcess | null = null;

  constructor() {
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

  /** Starts what an account has besides instances, EC2, the metadata service and a database; then the instances. */
  async open(): Promise<void> {
    for (const address of [EC2, DATABASE, SERVER, METADATA])
      execFileSync('ip', ['address', 'add', `${address}/32`, 'dev', 'lo']);
    writeFileSync('/etc/hosts', HOSTS_FILE);
    await serveOn(EC2, ec2Face(this.vpc, {}).fetch as Fetch);
    const metadata = new Map<string, Fetch>(
      INSTANCES.map(({ id }) => [id, imdsFace(this.vpc, { instance: id }).fetch as Fetch]),
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

  /** Starts the server of all hosts, as the README tells. */
  async #startCentral(): Promise<void> {
    for (const [from, to] of [
      ['ca.pem', 'ca.pem'],
      ['server.pem', 'server.pem'],
      ['server.key', 'server.key'],
    ] as const) {
      mkdirSync('/etc/ec2-ipam', { recursive: true });
      copyFileSync(join(CERTIFICATES, from), join('/etc/ec2-ipam', to));
    }
    writeFileSync('/etc/ec2-ipam/password', PASSWORD, { mode: 0o600 });
    execFileSync('ln', ['-sf', '/vpc/dist/ec2-ipam.mjs', '/usr/bin/ec2-ipam']);
    const [line = ''] = linesOf(blockBehind('use an authority for this alone. The server:', 'sh'));
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
    await until(
      'the central server listens',
      START_MS,
      async () => (await execute('bash', ['-c', `exec 3<>/dev/tcp/${SERVER}/8031`])).code === 0,
    );
  }

  async #stopCentral(): Promise<void> {
    const child = this.#central;
    if (child === null) return;
    this.#central = null;
    const gone = new Promise(resolve => child.once('exit', resolve));
    child.kill('SIGTERM');
    await gone;
  }

  /** Boots and installs both hosts so that they are served in this way, Docker last, as after an order to do so. */
  async begin(way: Way): Promise<void> {
    await this.#stopCentral();
    if (way === 'central') await this.#startCentral();
    await Promise.all(
      this.hosts.map(async host => {
        await host.powerOff();
        await host.boot();
        await host.must(
          'rm',
          '-rf',
          '/var/lib/ec2-ipam',
          '/var/lib/docker/containers',
          '/var/lib/docker/network',
        );
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

  /** The same with ledgers that know nothing, and nothing on the ENIs. */
  async forget(): Promise<void> {
    await Promise.all(
      this.hosts.map(async host => {
        await host.empty();
        await host.server.stop();
        await host.must('rm', '-rf', '/var/lib/ec2-ipam');
        this.#takeOff(host);
        await host.server.start();
      }),
    );
    await this.#forgetNeighbours();
  }

  /** A ledger that begins anew knows of no quarantine: nobody may remember the former holders. */
  async #forgetNeighbours(): Promise<void> {
    for (const instance of [this.peer, ...this.hosts]) await instance.must('ip', 'neigh', 'flush', 'all');
  }

  #takeOff(host: Host): void {
    const { network } = this.vpc;
    for (const { id } of host.site.enis) {
      const { secondaries } = network.eni(id);
      if (secondaries.length > 0) network.unassign(id, secondaries);
    }
  }

  /** Asks the database of the shared ledger. */
  sql(statement: string): Promise<Result> {
    const flags = [
      '--host',
      DATABASE,
      '--user',
      'ipam',
      `--password=${PASSWORD}`,
      '--skip-ssl',
      '--batch',
      '--skip-column-names',
    ];
    return execute('mariadb', [...flags, '--execute', statement, 'shared']);
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
  mkdirSync(join(IMAGE_FOLDER, 'bin'), { recursive: true });
  copyFileSync('/usr/bin/busybox', join(IMAGE_FOLDER, 'bin/busybox'));
  const applets = execFileSync('busybox', ['--list'], { encoding: 'utf8' }).split('\n');
  for (const name of applets)
    if (name !== '' && name !== 'busybox') symlinkSync('busybox', join(IMAGE_FOLDER, 'bin', name));
}

async function startDatabase(): Promise<void> {
  writeFileSync(
    '/run/accounts.sql',
    `CREATE USER IF NOT EXISTS ipam IDENTIFIED BY '${PASSWORD}';\nGRANT ALL ON *.* TO ipam;\n` +
      'CREATE DATABASE IF NOT EXISTS ipam CHARACTER SET utf8mb4;\nCREATE DATABASE IF NOT EXISTS shared CHARACTER SET utf8mb4;\n',
  );
  const flags = [
    ...[
      '--no-defaults',
      '--user=root',
      '--datadir=/var/lib/mysql',
      '--socket=/run/mysql.sock',
      '--pid-file=/run/mysql.pid',
    ],
    ...[
      '--init-file=/run/accounts.sql',
      `--bind-address=${DATABASE}`,
      '--skip-name-resolve',
      '--performance-schema=OFF',
    ],
    ...[`--ssl-cert=${CERTIFICATES}/server.pem`, `--ssl-key=${CERTIFICATES}/server.key`],
    ...['--innodb-log-file-size=10M', '--innodb-buffer-pool-size=64M'],
  ];
  spawn('mariadbd', flags, { stdio: ['ignore', ...logFile('mariadb')] });
  await until(
    'MariaDB answers',
    START_MS,
    async () => (await execute('bash', ['-c', `exec 3<>/dev/tcp/${DATABASE}/3306`])).code === 0,
  );
}

function logFile(name: string): [number, number] {
  const file = openSync(join('/out', `${name}.log`), 'a');
  return [file, file];
}
