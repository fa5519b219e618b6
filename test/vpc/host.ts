/** A Docker host, on which ec2-ipam is installed by the commands of the READMEs. */
import { cpSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Result } from '../kit/docker/netns.ts';
import { Instance } from './instance.ts';
import { blockBehind, linesOf } from './readme.ts';
import { CERTIFICATES, EC2, IMAGE_FOLDER, PASSWORD, type Tenant } from './site.ts';
import { Unit } from './unit.ts';

/** How hosts are served: by one server on HTTPS and MySQL, each by its own on one MySQL, or each by its own ledger. */
export type Way = 'central' | 'shared' | 'embedded';
export type Environment = Readonly<Record<string, string>>;

/** What any program needs to find the simulated EC2; credentials and Region come from the metadata service. */
export const EC2_ENVIRONMENT: Environment = { AWS_ENDPOINT_URL_EC2: `http://${EC2}` };
export const STORE_ENVIRONMENT: Environment = {
  EC2_IPAM_STORE: 'mysql://ipam@db.internal:3306/shared?ssl=on',
  EC2_IPAM_STORE_PASSWORD_FILE: '/etc/ec2-ipam/password',
  NODE_EXTRA_CA_CERTS: '/etc/ec2-ipam/ca.pem',
};

export class Host extends Instance {
  readonly server = new Unit(this, 'ec2-ipam');
  /** Brings the ENIs up on a host without a server. */
  readonly link = new Unit(this, 'ec2-ipam-link');
  #environment: Environment = {};

  /** Installs by the README, the workstation's commands included. Settings go into a drop-in, as `systemctl edit`
   *  makes it. */
  async install(way: Way, settings: Environment = {}): Promise<void> {
    for (const line of linesOf(blockBehind('**2. The files.**', 'sh'))) await this.#workstation(line);
    this.write('/etc/systemd/system/ec2-ipam.service', blockBehind('**4. The unit.**', 'ini'));
    this.#configure(way, settings);
    await this.must('rm -f /etc/docker/plugins/ec2-ipam.json');
    if (way === 'central') {
      const plugin = blockBehind('Each host, in `/etc/docker/plugins/', 'json');
      this.write('/etc/docker/plugins/ec2-ipam.json', plugin);
      this.#certificate('ca.pem', '/etc/docker/ec2-ipam');
      for (const kind of ['pem', 'key'])
        this.#certificate(`${this.site.id}.${kind}`, '/etc/docker/ec2-ipam', `host.${kind}`);
      const link = blockBehind('`/etc/systemd/system/ec2-ipam-link.service`', 'ini');
      this.write('/etc/systemd/system/ec2-ipam-link.service', link);
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

  eniOf = (tenant: Tenant): string => this.site.enis.find(({ subnet }) => subnet === tenant)?.id ?? '';

  /** All that its servers have written so far. */
  serverLog = (): string => readFileSync(join('/out', `${this.name}-ec2-ipam.log`), 'utf8');

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
  ipam(line: string): Promise<string> {
    return this.must(`ec2-ipam ${line}`, { ...this.#environment });
  }

  /** The same for a command that may fail. */
  tryIpam(line: string): Promise<Result> {
    return this.run(`ec2-ipam ${line}`, { ...this.#environment });
  }

  /** Throws if its ledger does not say that so many addresses are held. */
  async mustHold(count: number): Promise<void> {
    const { holders } = JSON.parse(await this.ipam('status --json')) as { holders: unknown[] };
    if (holders.length !== count) throw new Error(`${holders.length} addresses are held, not ${count}`);
  }

  mknet = (line: string): Promise<string> => this.must(`/opt/ec2-ipam/mknet.sh ${line}`);

  override powerOff(): Promise<void> {
    this.server.forget();
    return super.powerOff();
  }

  override async startDocker(): Promise<void> {
    await super.startDocker();
    if ((await this.run('docker image inspect busybox')).code !== 0)
      await this.sh(`tar -C ${IMAGE_FOLDER} -c . | docker import - busybox:latest`);
  }

  #certificate(name: string, folder: string, as = name): void {
    this.write(join(folder, as), readFileSync(join(CERTIFICATES, name), 'utf8'), 0o600);
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
    } else throw new Error(`the README has a command that is not known here: ${line}`);
  }
}
