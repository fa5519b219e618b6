// Goal: a central server learns from the agent of a host which addresses are in use there: leaks end, and nothing that is in
// use is given up or given again, also when the agent changes servers. Method: a real dockerd with the bundle as agent
// beside it, which reads Docker and the kernel each second, and two https servers outside, with one ledger.
import { readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { type Ledger, sqliteLedger } from '../kit/databases/ledgers.ts';
import { ipsOf, SETTLES_MS, settled, statusOf } from '../kit/docker/agreement.ts';
import { dockerdAvailable } from '../kit/docker/dockerd.ts';
import { EngineSite, openEngine, type Server } from '../kit/docker/engine-site.ts';
import { ruleOf } from '../kit/docker/netns.ts';
import { startBundle } from '../kit/servers/bundle.ts';
import { type Certificates, makeCertificates } from '../kit/servers/certificates.ts';
import { freePort, type Program } from '../kit/servers/process.ts';
import { INSTANCE, SUBNET, TIMES } from '../kit/servers/site.ts';
import { assert, suite } from '../kit/uvu.ts';
import { PROCESS_POLL_MS, until } from '../kit/wait.ts';

const missing = await dockerdAvailable();
const WITNESS = {
  EC2_IPAM_WITNESS: 'release',
  EC2_IPAM_WITNESS_EVERY: '1s',
  EC2_IPAM_WITNESS_AGE: '2s',
};

class AgentSite extends EngineSite {
  readonly certificates: Certificates = makeCertificates();
  readonly servers: Program[] = [];
  readonly #urls: string[] = [];
  readonly #relays: { close(): void }[] = [];
  agent: Server | null = null;

  static async behindAgent(ledger: Ledger): Promise<AgentSite> {
    const { docker, ec2 } = await openEngine(true);
    const more = { ...TIMES, ...WITNESS };
    const site = new AgentSite(docker, ec2, ledger, { flags: '', more, isInside: true });
    const { cert, key } = site.certificates.sign('host', `URI:ec2-ipam://instance/${INSTANCE}`);
    const saved = [key, cert].map(path => readFileSync(path, 'utf8')).join('');
    writeFileSync(join(docker.folder, 'agent.pem'), saved, { mode: 0o600 });
    for (let i = 0; i < 2; i++) await site.#startCentral();
    await site.startAgent();
    return site;
  }

  /** A server outside, and how programs inside reach it. */
  async #startCentral(): Promise<void> {
    const port = await freePort();
    const { cert, key } = this.certificates.server;
    const tls = ['--tls-cert', cert, '--tls-key', key, '--tls-client-ca', this.certificates.ca];
    const url = `https://127.0.0.1:${port}`;
    const args = ['serve', '--listen', url, ...tls, '--docker-socket', 'off'];
    this.servers.push(await startBundle(args, this.env, 'ledger opened'));
    this.#urls.push(url);
    const socket = join(this.docker.folder, `server-${port}.sock`);
    const relay = createServer(inside => {
      const outside = connect(port, '127.0.0.1');
      inside.on('error', () => outside.destroy());
      outside.on('error', () => inside.destroy());
      inside.pipe(outside).pipe(inside);
    }).listen(socket);
    this.#relays.push(relay);
    await this.docker.expose('127.0.0.1', port, socket);
  }

  async startAgent(): Promise<void> {
    const { docker } = this;
    const socket = `unix:${join(docker.pluginDir, 'ec2-ipam.sock')}`;
    const servers = this.#urls.flatMap(url => ['--server', url]);
    const more = ['--server-ca', this.certificates.ca, '--request-timeout', '10s'];
    const args = ['agent', '--listen', socket, '--state-dir', docker.folder, ...servers, ...more];
    this.agent = await this.startInside(args, /listening on/);
  }

  override async close(): Promise<void> {
    await this.agent?.stop();
    for (const server of this.servers) await server.stop();
    for (const relay of this.#relays) relay.close();
    await super.close();
    this.certificates.remove();
  }
}

const leaks = suite('leaks of an engine behind an agent');
const rule = ruleOf(leaks, missing);
let site: AgentSite;
leaks.before(async () => {
  if (missing !== null) return;
  site = await AgentSite.behindAgent(sqliteLedger());
  await site.makeNetwork();
});
leaks.after(() => site?.close());

const endedByEvidence = async (): Promise<number> => (await statusOf(site)).endedByEvidence;
/** A container is removed while nobody takes its release; returns its address. */
async function leak(name: string): Promise<string> {
  const ip = (await site.inside()).get(name) ?? '';
  await site.agent?.kill9();
  await site.docker.must('rm', '-f', name);
  assert.ok((await site.held()).includes(ip), 'it is held');
  await site.startAgent();
  return ip;
}

rule('rm -f while the agent is away: the address is released by evidence, and others are not', async () => {
  await site.mustStart('gone', 'stays', 'moves');
  const stays = (await site.inside()).get('stays') ?? '';
  const before = await endedByEvidence();
  await leak('gone');
  await settled(site);
  assert.is(await endedByEvidence(), before + 1);
  assert.ok((await site.held()).includes(stays));
  const { hosts } = await statusOf(site);
  assert.equal(
    hosts.map(({ instance, incomplete }) => [instance, incomplete]),
    [[INSTANCE, null]],
  );
});

rule('a container: has its id in the history of the servers', async () => {
  const ip = (await site.inside()).get('stays') ?? '';
  const idTold = async () => {
    const { stdout } = await site.command('history', ip, '--json');
    return JSON.parse(stdout).holdings[0].containerId;
  };
  await until('the id is known', async () => (await idTold()) !== null, SETTLES_MS);
  assert.is(await idTold(), (await site.docker.must('inspect', '-f', '{{.Id}}', 'stays')).trim());
});

rule('a server that is killed: the agent tells the other one, and leaks end', async () => {
  await site.servers[0]?.kill9();
  const before = await endedByEvidence();
  await leak('moves');
  await settled(site);
  assert.is(await endedByEvidence(), before + 1);
  await site.mustStart('more1', 'more2');
  await settled(site);
});

rule('a dockerd that is killed: what lives on stays held', async () => {
  const before = await site.inside();
  const ended = await endedByEvidence();
  await site.docker.kill9();
  const reads = async () => (await statusOf(site)).hosts.some(({ incomplete }) => incomplete !== null);
  await until('a reading is not complete', reads, SETTLES_MS, PROCESS_POLL_MS);
  await site.docker.startEngine();
  await settled(site);
  assert.equal(await site.inside(), before);
  assert.is(await endedByEvidence(), ended);
});

rule('an address that a process runs on with: is withheld, and comes back when it ends', async () => {
  await site.mustStart('runs-on');
  const ip = (await site.inside()).get('runs-on') ?? '';
  const rowIs = async (status: string) =>
    (await site.ledger.rows()).some(row => row.ip === ip && row.status === status);
  // As Docker does after a kill: the release is sent, the process stays.
  const { code, stderr } = await site.command('release', SUBNET, ip, '--yes');
  assert.is(code, 0, stderr);
  const isWithheld = async () => ipsOf((await statusOf(site)).withheld).includes(ip);
  await until('it is withheld', isWithheld, SETTLES_MS, PROCESS_POLL_MS);
  await until('it is occupied', () => rowIs('occupied'), SETTLES_MS);
  const refused = await site.start('other', '--ip', ip);
  assert.is(refused.code, 125);
  const [{ finding } = { finding: '' }] = (await statusOf(site)).withheld;
  assert.match(finding, /process \d+ \(sleep 3600\) of container [0-9a-f]{12} in network namespace/);
  await site.docker.must('rm', '-f', 'runs-on', 'other');
  await until('it is ready', () => rowIs('ready'), SETTLES_MS);
  assert.is((await site.start('again', '--ip', ip)).code, 0);
  await settled(site);
});
leaks.run();
