// Goal: a host enrols at a server, Docker's calls go through its agent, and a revoked host is cut off, on Node, Bun and
// Deno. Method: the bundle as simulator, server and agent, on loopback: the instance's primary address is one of it.
import { readFileSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { join } from 'node:path';
import { RUNTIMES, type Runtime } from '../../scripts/tiers.ts';
import { credentialOf } from '../../src/agent/credential.ts';
import { sendCall } from '../../src/agent/server-client.ts';
import { type Alone, bundleAlone } from '../kit/servers/alone.ts';
import { ec2Env } from '../kit/servers/bundle.ts';
import { type Certificates, makeCertificates } from '../kit/servers/certificates.ts';
import { freePort } from '../kit/servers/process.ts';
import { bodyOf, dockerds, open } from '../kit/servers/raw-http.ts';
import { assert, suite } from '../kit/uvu.ts';
import { until } from '../kit/wait.ts';

const INSTANCE = 'i-0a1b2c3d4e5f60001';
const ENI = 'eni-0a1b2c3d4e5f60001';
const ADDRESS = '127.0.0.10';
/** The role of the simulated instance. */
const ROLE = 'arn:aws:iam::123456789012:role/docker-host';
const WORLD = {
  subnets: [{ id: 'subnet-0a1b2c3d4e5f60001', cidr: '127.0.0.0/24' }],
  instances: [{ id: INSTANCE, type: 'm5.large', role: 'docker-host' }],
  enis: [ADDRESS, '127.0.0.11'].map((primary, deviceIndex) => ({
    id: `${ENI.slice(0, -1)}${deviceIndex}`,
    subnet: 'subnet-0a1b2c3d4e5f60001',
    primary,
    attachment: { instance: INSTANCE, deviceIndex },
  })),
};

interface Site {
  readonly alone: Alone;
  readonly endpoint: string;
  readonly server: { readonly host: string; readonly port: number };
  readonly serverCa: string;
  call(path: string, body: object): Promise<{ Error?: string; Address?: string; PoolID?: string }>;
  run(...args: string[]): Promise<string>;
}

let certificates: Certificates;

async function openSite(alone: Alone, runtime: Runtime): Promise<Site> {
  writeFileSync(join(alone.folder, 'world.json'), JSON.stringify(WORLD));
  writeFileSync(join(alone.folder, 'authority.key'), 'a long passphrase for tests\n', { mode: 0o600 });
  const path = join(alone.folder, 's.sock');
  for (const [name, file] of Object.entries({ ca: certificates.ca, ...certificates.server }))
    writeFileSync(join(alone.folder, `${name}.pem`), readFileSync(file), { mode: 0o600 });
  const start = (line: string, env = {}) => alone.start(runtime, line.split(' '), env);
  const simulator = start('simulate --listen http://127.0.0.1:0 --world world.json');
  const [, endpoint = ''] = await simulator.says(/ at (http:\S+);/);
  const aws = { ...ec2Env(endpoint), AWS_ENDPOINT_URL_STS: endpoint };
  const port = await freePort();
  const store = `--store sqlite:${join(alone.folder, 'l.sqlite')}`;
  const server = start(
    `serve --listen https://127.0.0.1:${port} --tls-cert cert.pem --tls-key key.pem ${store} --enroll-role ${ROLE}`,
    { ...aws, EC2_IPAM_AUTHORITY_KEY_FILE: 'authority.key', EC2_IPAM_LOG_FORMAT: 'json' },
  );
  await server.says('ledger opened');
  const servers = `--server https://localhost:${await freePort()} --server https://localhost:${port}`;
  const agent = start(
    `agent --listen unix:${path} ${servers} --server-ca ca.pem --state-dir ${alone.folder} --request-timeout 20s`,
    { ...aws, EC2_IPAM_LOG_FORMAT: 'json' },
  );
  await agent.says('listening on');
  const docker = await open({ path });
  return {
    alone,
    endpoint,
    server: { host: 'localhost', port },
    serverCa: readFileSync(certificates.ca, 'utf8'),
    async call(path, body) {
      const answer = await docker.exchange(dockerds(`/${path}`, JSON.stringify(body)));
      return JSON.parse(bodyOf(answer));
    },
    async run(...args) {
      const program = alone.start(runtime, [...args, ...store.split(' ')]);
      assert.is(await program.ended, 0, program.output());
      return program.output();
    },
  };
}

const enrolment = suite('a host that enrols');
enrolment.before(() => {
  certificates = makeCertificates();
});
enrolment.after(() => certificates.remove());

for (const runtime of RUNTIMES)
  enrolment(`${runtime}: gets addresses through its agent, until it is revoked`, async () => {
    const alone = bundleAlone();
    try {
      const site = await openSite(alone, runtime);
      const pool = await site.call('IpamDriver.RequestPool', { Options: { 'eni-id': ENI } });
      assert.is(pool.PoolID, ENI, JSON.stringify(pool));
      const given = await site.call('IpamDriver.RequestAddress', { PoolID: ENI });
      assert.match(given.Address ?? '', /^127\.0\.0\.\d+\/24$/);
      await refusesOthers(site);
      const { hosts } = JSON.parse(await site.run('hosts', '--json'));
      assert.equal(
        hosts.map((host: { instance: string; state: string }) => [host.instance, host.state]),
        [[INSTANCE, 'enrolled']],
      );
      await revokes(site);
    } finally {
      await alone.remove();
    }
  });

/** Without a certificate nothing but enrolment is answered. */
async function refusesOthers({ server, serverCa, alone }: Site): Promise<void> {
  const bare = { agent: false as const, serverCa, withinMs: 10_000 };
  for (const path of [
    '/IpamDriver.RequestAddress',
    '/Plugin.Activate',
    '/enroll/',
    '/enroll?x',
    '//enroll',
  ]) {
    const { status, text } = await sendCall(server, { ...bare, path, body: '{}' });
    assert.is(status, 403, `${path}: ${text}`);
    assert.match(text, /a client certificate is needed/);
  }
  const rogue = new Agent({
    cert: readFileSync(certificates.rogue.cert),
    key: readFileSync(certificates.rogue.key),
    ca: serverCa,
  });
  const body = JSON.stringify({ PoolID: ENI });
  const call = { path: '/IpamDriver.RequestAddress', body, agent: rogue, serverCa, withinMs: 10_000 };
  assert.match((await sendCall(server, call)).text, /the certificate is not accepted/);
  assert.ok(!readFileSync(join(alone.folder, 'l.sqlite')).includes('PRIVATE KEY'));
}

async function revokes(site: Site): Promise<void> {
  const { server, serverCa, alone } = site;
  const [, key = '', certificate = ''] =
    /(-----BEGIN PRIVATE.*PRIVATE KEY-----).*(-----BEGIN CERT.*CERTIFICATE-----)/s.exec(
      readFileSync(join(alone.folder, 'agent.pem'), 'utf8'),
    ) ?? [];
  const stolen = credentialOf(certificate, key, serverCa);
  const steal = () =>
    sendCall(server, {
      path: '/IpamDriver.GetCapabilities',
      body: '{}',
      agent: stolen?.agent ?? false,
      serverCa,
      withinMs: 10_000,
    });
  assert.is((await steal()).status, 200);
  await site.run('hosts', 'revoke', INSTANCE);
  await until('the revoked certificate is refused', async () => {
    const answer = await steal().catch(() => null); // its connection may be the one that is ended
    return answer !== null && answer.status === 403 && /i-\w+ is revoked/.test(answer.text);
  });
  const refused = site.call('IpamDriver.RequestAddress', { PoolID: ENI });
  await site.run('hosts', 'allow', INSTANCE);
  // It enrols anew, and what waited goes on.
  assert.match((await refused).Address ?? '', /^127\.0\.0\.\d+\/24$/);
  assert.is((await steal()).status, 403, 'the certificate from before stays refused');
}
enrolment.run();
