// Goal: Docker Engine gets its addresses through an agent that enrols, from one of two central servers, also when one is
// killed. Method: a real dockerd on the agent's socket, the bundle as agent and as two https servers with one ledger; the
// address that the host enrols from is one of loopback.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Ledger, sqliteLedger } from '../kit/databases/ledgers.ts';
import { dockerdAvailable } from '../kit/docker/dockerd.ts';
import { EngineSite, openEngine } from '../kit/docker/engine-site.ts';
import { ruleOf } from '../kit/docker/netns.ts';
import { startBundle } from '../kit/servers/bundle.ts';
import { type Certificates, makeCertificates } from '../kit/servers/certificates.ts';
import { freePort, type Program } from '../kit/servers/process.ts';
import { assert, suite } from '../kit/uvu.ts';

const missing = await dockerdAvailable();
const OWN = { subnet: 'subnet-0a1b2c3d4e5f60009', cidr: '127.0.0.0/24', address: '127.0.0.10' };
const ROLE = 'arn:aws:iam::123456789012:role/simulated-role';

class AgentSite extends EngineSite {
  readonly certificates: Certificates = makeCertificates();
  readonly servers: Program[] = [];
  agent: Program | null = null;

  static async behindAgent(ledger: Ledger): Promise<AgentSite> {
    const { docker, ec2 } = await openEngine(true, OWN);
    const key = join(docker.folder, 'authority.key');
    writeFileSync(key, 'a long passphrase for tests', { mode: 0o600 });
    const more = { EC2_IPAM_AUTHORITY_KEY_FILE: key, AWS_ENDPOINT_URL_STS: ec2.url };
    const site = new AgentSite(docker, ec2, ledger, { flags: '', more, isInside: false });
    const urls = [];
    for (let i = 0; i < 2; i++) urls.push(await site.startCentral());
    const socket = `unix:${join(docker.pluginDir, 'ec2-ipam.sock')}`;
    const args = [
      'agent',
      '--listen',
      socket,
      '--server-ca',
      site.certificates.ca,
      '--request-timeout',
      '10s',
      '--docker-socket',
      'off',
      '--state-dir',
      docker.folder,
    ];
    const servers = urls.flatMap(url => ['--server', url]);
    const aws = { ...ec2.env, AWS_ENDPOINT_URL_STS: ec2.url };
    site.agent = await startBundle([...args, ...servers], aws, 'enrolled');
    return site;
  }

  private async startCentral(): Promise<string> {
    const url = `https://127.0.0.1:${await freePort()}`;
    const { cert, key } = this.certificates.server;
    const tls = ['--tls-cert', cert, '--tls-key', key, '--enroll-role', ROLE];
    this.servers.push(await startBundle(['serve', '--listen', url, ...tls], this.env, 'ledger opened'));
    return url;
  }

  override async close(): Promise<void> {
    await this.agent?.stop();
    for (const server of this.servers) await server.stop();
    await super.close();
    this.certificates.remove();
  }
}

const engine = suite('Docker Engine behind an agent');
const rule = ruleOf(engine, missing);
let site: AgentSite;
engine.before(async () => {
  if (missing === null) site = await AgentSite.behindAgent(sqliteLedger());
});
engine.after(() => site?.close());

rule('containers: have the addresses that ledger and EC2 say', async () => {
  await site.makeNetwork();
  await site.mustStart('c0', 'c1', 'c2');
  await site.agree(3);
});

rule('a server that is killed: the other goes on, and no address is lost', async () => {
  await site.servers[0]?.kill9();
  await site.docker.must('rm', '-f', 'c0');
  await site.mustStart('c3', 'c4');
  await site.docker.must('restart', '-t', '0', 'c1');
  await site.agree(4);
  assert.match(site.agent?.output() ?? '', 'call not answered');
});

rule('a host that is revoked: gets nothing more, and what it has stays held', async () => {
  const { code } = await site.command('hosts', 'revoke', 'i-0a1b2c3d4e5f60001');
  assert.is(code, 0);
  await site.servers[1]?.says('client disconnected');
  const refused = await site.start('c5');
  assert.is(refused.code, 125);
  assert.match(refused.stderr, /i-\w+ is revoked/);
  assert.is((await site.held()).length, 4);
});
engine.run();
