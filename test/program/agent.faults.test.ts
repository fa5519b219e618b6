// Goal: servers that stand still keep no container from starting and leave no address held for nobody, and one that waits
// for EC2 is not left. Method: the bundle as agent and as two servers on one MariaDB, stopped and continued by signals.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { type MariaLedger, mariaLedger } from '../kit/databases/ledgers.ts';
import { removeFolder, tempFolder } from '../kit/folders.ts';
import { type Simulator, startBundle, startSimulator } from '../kit/servers/bundle.ts';
import { type Certificates, makeCertificates } from '../kit/servers/certificates.ts';
import { freePort, type Program } from '../kit/servers/process.ts';
import { bodyOf, dockerds, open } from '../kit/servers/raw-http.ts';
import { assert, suite } from '../kit/uvu.ts';
import { pause, until } from '../kit/wait.ts';

const INSTANCE = 'i-0a1b2c3d4e5f60001';
const ENI = 'eni-0a1b2c3d4e5f60001';
const SUBNET = 'subnet-0a1b2c3d4e5f60001';
const ROLE = 'arn:aws:iam::123456789012:role/docker-host';
/** The primary address is one of loopback, since a proof must come from it. */
const WORLD = {
  subnets: [{ id: SUBNET, cidr: '127.0.0.0/24' }],
  instances: [{ id: INSTANCE, type: 'm5.large', role: 'docker-host' }],
  enis: ['127.0.0.10', '127.0.0.11'].map((primary, deviceIndex) => ({
    id: `${ENI.slice(0, -1)}${deviceIndex}`,
    subnet: SUBNET,
    primary,
    attachment: { instance: INSTANCE, deviceIndex },
  })),
};
/** Longer than a call waited for one server once. */
const EC2_AWAY_MS = 18_000;
const HASTY_S = 6;

interface Context {
  ledger: MariaLedger;
  simulator: Simulator;
  servers: Program[];
  /** Its bound is long, and the other's short. */
  agent: Program;
  hasty: Program;
  folder: string;
  certificates: Certificates;
  call(agent: 'agent' | 'hasty', name: string, body: object): Promise<{ Error?: string; Address?: string }>;
  held(): Promise<string[]>;
}
const agents = suite<Context>('an agent and servers that stand still');

agents.before(async context => {
  context.folder = tempFolder();
  context.certificates = makeCertificates();
  context.ledger = await mariaLedger();
  context.simulator = await startSimulator(WORLD);
  const key = join(context.folder, 'authority.key');
  writeFileSync(key, 'a long passphrase for tests', { mode: 0o600 });
  const aws = { ...context.simulator.env, AWS_ENDPOINT_URL_STS: context.simulator.url };
  const { cert, key: tlsKey } = context.certificates.server;
  const urls: string[] = [];
  context.servers = [];
  for (let i = 0; i < 2; i++) {
    const url = `https://127.0.0.1:${await freePort()}`;
    urls.push(url);
    const tls = ['--tls-cert', cert, '--tls-key', tlsKey, '--enroll-role', ROLE];
    const marks = ['--warm-min', '0', '--warm-max', '0', '--cooldown', '1s'];
    const env = { ...aws, ...context.ledger.env, EC2_IPAM_AUTHORITY_KEY_FILE: key };
    context.servers.push(
      await startBundle(['serve', '--listen', url, ...tls, ...marks], env, 'ledger opened'),
    );
  }
  const startAgent = (name: string, boundS: number) =>
    startBundle(
      [
        ...['agent', '--listen', `unix:${join(context.folder, name)}`, '--state-dir', context.folder],
        ...['--server-ca', context.certificates.ca, '--request-timeout', `${boundS}s`],
        ...urls.flatMap(url => ['--server', url]),
      ],
      aws,
      'listening on',
    );
  context.agent = await startAgent('agent', 60);
  await context.agent.says('enrolled');
  context.hasty = await startAgent('hasty', HASTY_S);
  context.call = async (agent, name, body) => {
    const docker = await open({ path: join(context.folder, agent) });
    try {
      const answer = await docker.exchange(dockerds(`/IpamDriver.${name}`, JSON.stringify(body)));
      return JSON.parse(bodyOf(answer));
    } finally {
      docker.close();
    }
  };
  context.held = async () =>
    (await context.ledger.rows()).filter(row => row.status === 'allocated').map(row => row.ip);
  await context.call('agent', 'RequestPool', { Options: { 'eni-id': ENI } });
  await context.call('hasty', 'ReleasePool', { PoolID: 'none' }); // it has a certificate too
});
agents.after(async ({ agent, hasty, servers, simulator, ledger, certificates, folder }) => {
  for (const program of servers) process.kill(program.pid, 'SIGCONT');
  for (const program of [agent, hasty, ...servers]) await program.kill9();
  await simulator.stop();
  await ledger.close();
  certificates.remove();
  removeFolder(folder);
});

const signal = (programs: readonly (Program | undefined)[], name: 'SIGSTOP' | 'SIGCONT'): void => {
  for (const program of programs) if (program !== undefined) process.kill(program.pid, name);
};
const ask = { PoolID: ENI };

agents('the server that it asks first stands still: the other serves it meanwhile', async context => {
  const { call, servers, held } = context;
  for (const frozen of servers) {
    signal([frozen], 'SIGSTOP');
    const { Address = '', Error: error } = await call('agent', 'RequestAddress', ask);
    assert.match(Address, /^127\.0\.0\.\d+\/24$/, error);
    const [ip = ''] = Address.split('/');
    assert.equal(await held(), [ip]);
    signal([frozen], 'SIGCONT');
    await pause(1_000); // it finds the call, and that its client has gone
    assert.equal(await held(), [ip]);
    assert.equal(await call('agent', 'ReleaseAddress', { PoolID: ENI, Address: ip }), {});
    assert.equal(await held(), []);
  }
});

agents(
  `EC2 throttles for ${EC2_AWAY_MS / 1000} s: the server that waits for it is not left`,
  async context => {
    const { call, simulator, agent, held } = context;
    const said = agent.output().length;
    await simulator.tell('POST', 'faults', { kind: 'throttle', action: 'AssignPrivateIpAddresses' });
    // More than are ready.
    const asked = Promise.all(Array.from({ length: 3 }, () => call('agent', 'RequestAddress', ask)));
    await pause(EC2_AWAY_MS);
    await simulator.tell('DELETE', 'faults');
    const given = (await asked).map(one => one.Address ?? one.Error);
    assert.equal(new Set(given).size, 3);
    assert.is((await held()).length, 3, given.join());
    assert.not.match(agent.output().slice(said), /call not answered/);
    for (const address of given)
      await call('agent', 'ReleaseAddress', { PoolID: ENI, Address: address?.split('/')[0] });
  },
);

agents('all servers stand still for longer than Docker waits: what they give goes back', async context => {
  const { call, servers, held, hasty } = context;
  assert.equal(await held(), []);
  signal(servers, 'SIGSTOP');
  const failed = await Promise.all([
    call('hasty', 'RequestAddress', ask),
    call('hasty', 'RequestAddress', ask),
  ]);
  for (const { Error: error } of failed) assert.match(error ?? '', /no answer from/);
  signal(servers, 'SIGCONT');
  await hasty.says(/call answered late/);
  await until('nothing is held', async () => (await held()).length === 0);
  await hasty.says(/address released: Docker has not received it/);
});

agents('a release that all servers miss: is made when they go on', async context => {
  const { call, servers, held } = context;
  const { Address = '' } = await call('hasty', 'RequestAddress', ask);
  const [ip = ''] = Address.split('/');
  assert.equal(await held(), [ip]);
  signal(servers, 'SIGSTOP');
  const { Error: error } = await call('hasty', 'ReleaseAddress', { PoolID: ENI, Address: ip });
  assert.match(error ?? '', /no answer from/);
  signal(servers, 'SIGCONT');
  await until('it is released', async () => (await held()).length === 0);
});
agents.run();
