/** The command `demo`: a server with a simulated EC2 and an embedded store, a tour of Docker's requests, and a page on
 *  which containers come and go. */
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { aborted } from '../../domain/abort.ts';
import { formatCidr, parseCidr, routerOf } from '../../domain/address.ts';
import { IpamError, isError } from '../../domain/error.ts';
import { listen } from '../../http/listener/listen.ts';
import { command, type Io } from '../command.ts';
import { loadConfig } from '../settings/config.ts';
import { DEMO_SETTINGS, SERVE_SETTINGS } from '../settings/settings.ts';
import { wholeNumber } from '../settings/value-parsers.ts';
import { wait } from '../wait.ts';
import { startServer } from './serve.ts';

const CONTAINERS = ['web', 'db', 'cache'];
/** What comes and goes after the tour. The interface has room for some of the user's own beside them. */
const VISITORS = ['build', 'mail', 'queue', 'search'];
const VISIT_EVERY_MS = 3000;

export const demo = command({
  name: 'demo',
  summary: 'everything on one machine with no account: simulated EC2, embedded store, server',
  usage: '',
  args: { min: 0, max: 0 },
  settings: DEMO_SETTINGS,
  options: {
    port: {
      kind: wholeNumber(0, 65_535),
      fallback: '8031',
      help: 'where the server listens on 127.0.0.1; 0: any',
    },
    'page-port': {
      kind: wholeNumber(0, 65_535),
      fallback: '8032',
      help: 'where its page is on 127.0.0.1; 0: any',
    },
  },
  async run({ config, io, log, options, assemble }) {
    const { buildVpc, DEFAULT_WORLD } = await import('../../simulator/model/world.ts');
    const { createSimulator } = await import('../../simulator/simulator.ts');
    const folder = mkdtempSync(join(tmpdir(), 'ec2-ipam-demo-'));
    const vpc = buildVpc(DEFAULT_WORLD, { now: Date.now, random: Math.random });
    const [instance] = vpc.network.instances();
    const eni = instance && vpc.network.enisOf(instance.id).find(one => one.attachment?.deviceIndex === 1);
    if (instance === undefined || eni === undefined)
      throw new Error('the world of the demo has no second interface');
    const cidr = formatCidr(vpc.network.subnet(eni.subnet).cidr);
    vpc.faults.add({ kind: 'latency', ms: 150 });
    const ec2 = await listen(
      createSimulator(vpc, { instance: instance.id }),
      { kind: 'http', host: '127.0.0.1', port: 0 },
      log,
    );
    Object.assign(process.env, {
      AWS_ENDPOINT_URL_EC2: ec2.address,
      AWS_EC2_METADATA_SERVICE_ENDPOINT: ec2.address,
      AWS_REGION: vpc.region,
      AWS_ACCESS_KEY_ID: 'demo',
      AWS_SECRET_ACCESS_KEY: 'demo',
    });
    const socket = join(folder, 'ec2-ipam.sock');
    const store = join(folder, 'ledger.sqlite');
    const served = loadConfig({
      flags: new Map([
        ['listen', [`http://127.0.0.1:${options.port}`, `unix:${socket}`]],
        ['admin-listen', [`http://127.0.0.1:${options['page-port']}`]],
        ['store', [`sqlite:${store}`]],
        // The interfaces and containers of this machine are not those of the simulated instance.
        ['witness', ['off']],
        ['log-format', [config.logFormat]],
        ['log-level', [config.logLevel]],
      ]),
      env: {},
      home: folder,
      isRoot: false,
      isTerminal: io.err.isTerminal,
      readFile: () => '',
      readPrivate: () => '',
      uses: SERVE_SETTINGS,
    });
    try {
      const server = await startServer({ config: served, io, log, assemble }).catch(error => {
        throw isError(error, 'conflict')
          ? new IpamError('conflict', error.message, {
              hint: 'stop it, or give another --port',
              cause: error,
            })
          : error;
      });
      try {
        await Promise.race([aborted(io.signal), server.opened]);
        await tour(socket, eni.id, cidr, io);
        io.out.write(page(await server.admin));
        io.out.write(advice(server.addresses, socket, store, eni.id, cidr, ec2.address));
        await visits(socket, eni.id, io.signal);
      } catch (error) {
        if (!io.signal.aborted) throw error; // Ctrl-C has ended the tour
      } finally {
        await server.stop();
      }
    } finally {
      await ec2.close(0);
      rmSync(folder, { recursive: true, force: true });
    }
    return 0;
  },
});

/** Sends the requests of dockerd for a network, three containers, and the stop of one. Throws when the signal is aborted. */
async function tour(
  socket: string,
  eni: string,
  cidr: string,
  { out, signal }: Pick<Io, 'out' | 'signal'>,
): Promise<void> {
  signal.throwIfAborted();
  out.write(
    `A simulated subnet ${cidr} with the network interface ${eni}. The requests of dockerd, and the answers:\n\n`,
  );
  const say = async (method: string, body: unknown, when: string): Promise<Record<string, unknown>> => {
    const startedAt = performance.now();
    const answer = await post(socket, `/${method}`, body, signal);
    const took = `${(performance.now() - startedAt).toFixed(1)} ms`;
    out.write(`  ${when.padEnd(38)} ${took.padStart(9)}  ${JSON.stringify(answer)}\n`);
    return answer;
  };
  await say('Plugin.Activate', null, 'docker looks at its plugins');
  const pool = { AddressSpace: 'ec2-ipam', Pool: cidr, SubPool: '', Options: { 'eni-id': eni }, V6: false };
  const { PoolID } = await say('IpamDriver.RequestPool', pool, 'docker network create');
  let last: unknown;
  for (const name of CONTAINERS) {
    const asked = { PoolID, Address: '', Options: { 'com.docker.network.endpoint.name': name } };
    const first = last === undefined ? ' (cold: one EC2 call)' : ' (warm: none)';
    last = (await say('IpamDriver.RequestAddress', asked, `docker run --name ${name}${first}`)).Address;
  }
  const [address] = String(last).split('/');
  await say('IpamDriver.ReleaseAddress', { PoolID, Address: address }, `docker stop ${CONTAINERS.at(-1)}`);
}

/** Containers start and stop, one of them now and then, until the signal. What fails is tried again later. */
async function visits(socket: string, pool: string, signal: AbortSignal): Promise<void> {
  const addresses = new Map<string, string>();
  for (let turn = 0; !signal.aborted; turn++) {
    const name = VISITORS[turn % VISITORS.length] ?? '';
    const address = addresses.get(name);
    try {
      if (address === undefined) {
        const asked = { PoolID: pool, Address: '', Options: { 'com.docker.network.endpoint.name': name } };
        const { Address } = await post(socket, '/IpamDriver.RequestAddress', asked, signal);
        if (typeof Address === 'string') addresses.set(name, Address.replace(/\/.*/, ''));
      } else {
        await post(socket, '/IpamDriver.ReleaseAddress', { PoolID: pool, Address: address }, signal);
        addresses.delete(name);
      }
    } catch {}
    await wait(VISIT_EVERY_MS, signal);
  }
}

function post(
  socketPath: string,
  path: string,
  body: unknown,
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, path, method: 'POST', signal }, answer => {
      let text = '';
      answer.setEncoding('utf8');
      answer.on('data', chunk => {
        text += chunk;
      });
      answer.on('end', () => resolve(JSON.parse(text)));
      answer.on('error', reject);
    });
    sent.on('error', reject);
    sent.end(body === null ? '' : JSON.stringify(body));
  });
}

const page = (address: string | null): string =>
  address === null
    ? '\nThe page could not be opened; see the warning above, or give another --page-port.\n'
    : `\nThe page, on which containers come and go now:\n  ${address}\n`;

function advice(
  addresses: readonly string[],
  socket: string,
  store: string,
  eni: string,
  cidr: string,
  ec2: string,
): string {
  const command = [process.execPath, process.argv[1] ?? 'ec2-ipam.mjs'].join(' ');
  return `
The server listens on
${addresses.map(address => `  ${address}`).join('\n')}
until Ctrl-C. In another terminal, to see the ledger and EC2 agree:

  ${command} status --store sqlite:${store}
  curl ${ec2}/simulator/state

With Docker here (as root; macvlan or ipvlan on an interface of this machine, the addresses are simulated):

  mkdir -p /run/docker/plugins && ln -s ${socket} /run/docker/plugins/ec2-ipam.sock
  ip link add demo0 type dummy && ip link set demo0 up
  docker network create -d macvlan -o parent=demo0 --ipam-driver ec2-ipam \\
    --subnet ${cidr} --gateway ${routerOf(parseCidr(cidr))} --ipam-opt eni-id=${eni} demo
  docker run --rm --network demo busybox ip addr

With a real account, on an instance with a second network interface and its instance role:

  ec2-ipam serve --listen unix:/run/docker/plugins/ec2-ipam.sock
  mknet.sh
`;
}
