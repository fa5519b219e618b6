/** A Docker Engine whose networks have the bundle as their IPAM driver, and the simulated EC2 of both, for tests that
 *  break them and then compare containers' kernels, ledger and EC2. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Ledger } from '../databases/ledgers.ts';
import {
  BUNDLE,
  ec2Env,
  NODE,
  runBundle,
  type Simulator,
  startBundle,
  startSimulator,
} from '../servers/bundle.ts';
import type { Program, Ran } from '../servers/process.ts';
import { eniName, worldOf } from '../servers/site.ts';
import { assert } from '../uvu.ts';
import { until } from '../wait.ts';
import { type Dockerd, IMAGE, startDockerd } from './dockerd.ts';
import { linesOf, MKNET, must } from './netns.ts';

/** Of the primary ENI, which is the host's, and of the one for containers. */
const MACS = ['02:0a:1b:2c:3d:00', '02:0a:1b:2c:3d:01'] as const;
export const ENI = eniName(1);

/** Prints a line for each container that runs: its name and the addresses of its eth0. `docker exec` would take ten times
 *  as long. */
const INSIDE = `
  set -e -o pipefail
  ids=$(docker ps -q)
  [ -z "$ids" ] || docker inspect --format '{{.Name}} {{.State.Pid}}' $ids | while read -r name pid; do
    echo "$name" $(nsenter --net="/proc/$pid/ns/net" ip -o -4 address show dev eth0)
  done
`;

/** The server, outside the machine of the engine or inside. */
export type Server = Pick<Program, 'says' | 'stop' | 'kill9'>;

/** Where programs inside reach the simulator. */
const METADATA = 'http://169.254.169.254';

/** An engine whose host has these ENIs, by the simulated EC2. `primary`: of the host's own ENI, where it is another. */
export async function openEngine(
  liveRestore: boolean,
  primary?: { subnet: string; cidr: string; address: string },
): Promise<{ docker: Dockerd; ec2: Simulator }> {
  const docker = await startDockerd({ liveRestore });
  const imds = join(docker.folder, 'imds.sock');
  const world = worldOf(MACS.length);
  const own = primary === undefined ? {} : { subnet: primary.subnet, primary: primary.address };
  const enis = world.enis.map((eni, i) => ({ ...eni, mac: MACS[i], ...(i === 0 ? own : {}) }));
  const more = primary === undefined ? [] : [{ id: primary.subnet, cidr: primary.cidr }];
  const ec2 = await startSimulator({ ...world, enis, subnets: [...world.subnets, ...more] }, [imds]);
  await docker.expose('169.254.169.254', 80, imds);
  await docker.makeParent(MACS[0], 'ens5');
  await docker.makeParent(MACS[1], 'ens6');
  await docker.importBusybox();
  return { docker, ec2 };
}

/** runc loses its init process now and then. Docker then gives the address back, and the container may be started anew. */
const RUNC_FAILED = /runc create failed: .* connection reset by peer/;

export class EngineSite {
  readonly docker: Dockerd;
  readonly ec2: Simulator;
  readonly ledger: Ledger;
  readonly #flags: readonly string[];
  protected readonly env: Readonly<Record<string, string>>;
  readonly #isInside: boolean;
  #starts = 0;
  server: Server | null = null;

  protected constructor(
    docker: Dockerd,
    ec2: Simulator,
    ledger: Ledger,
    { flags, more, isInside }: { flags: string; more: object; isInside: boolean },
  ) {
    this.docker = docker;
    this.ec2 = ec2;
    this.ledger = ledger;
    this.#flags = flags.split(' ').filter(Boolean);
    this.env = { ...ec2.env, ...ledger.env, ...more };
    this.#isInside = isInside;
  }

  /** `flags`: of the server; `more`: of the environment of server and commands. `isInside`: the server runs in the
   *  machine of the engine, as on a host. The ledger is closed with the site. */
  static async open(
    ledger: Ledger,
    liveRestore: boolean,
    flags = '',
    more = {},
    isInside = false,
  ): Promise<EngineSite> {
    const { docker, ec2 } = await openEngine(liveRestore);
    const site = new EngineSite(docker, ec2, ledger, { flags, more, isInside });
    await site.startServer();
    return site;
  }

  async startServer(): Promise<void> {
    const socket = `unix:${join(this.docker.pluginDir, 'ec2-ipam.sock')}`;
    const args = ['serve', '--listen', socket, ...this.#flags];
    this.server = this.#isInside
      ? await this.startInside(args, /ledger opened/)
      : await startBundle(args, this.env, 'ledger opened');
  }
  /** Starts the bundle in the machine of the engine; resolves when it has said `ready`. */
  protected async startInside(args: readonly string[], ready: RegExp): Promise<Server> {
    const name = `program-${++this.#starts}.log`;
    const env = { ...this.env, ...ec2Env(METADATA) };
    const program = await this.docker.start([NODE, BUNDLE, ...args], name, env);
    const path = join(this.docker.folder, name);
    const output = () => (existsSync(path) ? readFileSync(path, 'utf8') : '');
    const server: Server = {
      async says(text) {
        const look = () => output().match(text);
        await until(`the program says ${text}`, () => look() !== null);
        return look() ?? [];
      },
      async stop() {
        await program.signal('TERM');
        return await program.ended;
      },
      async kill9() {
        await program.signal('KILL');
        await program.ended;
      },
    };
    await server.says(ready).catch(error => {
      throw new Error(`${error.message}:\n${output()}`);
    });
    return server;
  }
  command(...args: string[]): Promise<Ran> {
    return runBundle(args, this.env);
  }
  /** The network, as mknet.sh makes it; returns what that says. */
  async makeNetwork(): Promise<string> {
    const { code, stdout, stderr } = await this.docker.run(['bash', MKNET, '--driver', 'macvlan', 'ens6']);
    assert.is(code, 0, stderr);
    return stdout;
  }

  /** Starts a container on the network. */
  start(name: string, ...options: string[]): Promise<Ran> {
    return this.docker.docker(
      'run',
      '-d',
      '--name',
      name,
      '--network',
      'ec2',
      ...options,
      IMAGE,
      'sleep',
      '3600',
    );
  }
  async mustStart(...names: string[]): Promise<void> {
    for (const name of names) {
      let ran = await this.start(name);
      if (RUNC_FAILED.test(ran.stderr)) {
        console.log(`  started again: ${ran.stderr.trim()}`);
        await this.docker.must('rm', '-f', name);
        ran = await this.start(name);
      }
      assert.is(ran.code, 0, ran.stderr);
    }
  }
  /** Removes the containers whose names contain the text. */
  async remove(text = ''): Promise<void> {
    const ids = linesOf(await this.docker.must('ps', '-aq', '--filter', `name=${text}`));
    if (ids.length > 0) await this.docker.must('rm', '-f', ...ids);
  }

  /** What the ledger calls allocated. */
  async held(): Promise<string[]> {
    const rows = await this.ledger.rows();
    return rows.flatMap(row => (row.status === 'allocated' ? row.ip : [])).sort();
  }
  /** What every running container's kernel says, by name. */
  async inside(): Promise<Map<string, string>> {
    const found = new Map<string, string>();
    for (const line of linesOf(await must(this.docker, ['bash', '-c', INSIDE]))) {
      const [, name = '', text = ''] = line.match(/^\/(\S+) (.*)/) ?? [];
      const [ip = '', ...more] = [...text.matchAll(/inet ([0-9.]+)/g)].map(match => match[1]);
      assert.equal(more, [], `${name} has one address`);
      found.set(name, ip);
    }
    assert.is(new Set(found.values()).size, found.size, 'no address twice');
    return found;
  }
  /** Containers, ledger and EC2 agree; returns the addresses by container. */
  async agree(running?: number): Promise<Map<string, string>> {
    const inside = await this.inside();
    if (running !== undefined) assert.is(inside.size, running, 'containers that run');
    const addresses = [...inside.values()].sort();
    assert.equal(addresses, await this.held(), 'what containers have is what the ledger calls allocated');
    const onEni = await this.ec2.secondaries(ENI);
    for (const [name, ip] of inside) assert.ok(onEni.includes(ip), `${name}'s ${ip} is on the ENI`);
    return inside;
  }

  async close(): Promise<void> {
    await this.docker.close();
    await this.server?.stop();
    await this.ec2.stop();
    await this.ledger.close();
  }
}
