import { type Result, until } from '../kit/docker/netns.ts';
import type { Host } from './host.ts';
import { type Command, wordsOf } from './instance.ts';
import type { Place } from './reach.ts';

/** A container as its kernel sees it. It serves its own name by HTTP, so that who answers can be told. */
export class Container {
  readonly host: Host;
  readonly name: string;
  readonly ip: string;
  readonly #pid: string;

  private constructor(host: Host, name: string, ip: string, pid: string) {
    this.host = host;
    this.name = name;
    this.ip = ip;
    this.#pid = pid;
  }

  /** `docker run` on a network, with more flags if given. */
  static async run(host: Host, name: string, network: string, flags = ''): Promise<Container> {
    const options = `--name ${name} --env NAME=${name} --stop-signal KILL --network ${network} ${flags}`;
    await host.docker(`run -d ${options} busybox sh -c '${SERVE}'`);
    const container = await Container.of(host, name);
    await until(`${name} serves its name`, SERVES_MS, async () => (await ask(container, '127.0.0.1')) !== '');
    return container;
  }

  /** A container that runs already. */
  static async of(host: Host, name: string): Promise<Container> {
    const [ip] = await Container.addressesOf(host, name);
    if (ip === undefined) throw new Error(`${name} has no address`);
    return Container.at(host, name, ip);
  }

  /** A container that is known to have the address. */
  static at = async (host: Host, name: string, ip: string): Promise<Container> =>
    new Container(host, name, ip, await pidOf(host, name));

  /** The addresses of the VPC that it has; none if it does not run. */
  static async addressesOf(host: Host, name: string): Promise<string[]> {
    const pid = await pidOf(host, name);
    return pid === '0' ? [] : host.addressesOf(pid).filter(ip => ip.startsWith('10.0.'));
  }

  /** The id of its instance. */
  get instance(): string {
    return this.host.instance;
  }

  /** Runs a command in its network; much faster than `docker exec`. */
  run(command: Command): Promise<Result> {
    return this.host.run(['nsenter', '--target', this.#pid, '--net', ...wordsOf(command)]);
  }
}

async function pidOf(host: Host, name: string): Promise<string> {
  const { status, text } = await host.api('GET', `/containers/${name}/json`);
  if (status !== 200) throw new Error(`Docker of ${host.name} does not tell of ${name}: ${text}`);
  return String((JSON.parse(text) as { State: { Pid: number } }).State.Pid);
}

/** Throws if two of them have the same address. */
export function mustDiffer(containers: readonly Container[]): void {
  if (new Set(containers.map(({ ip }) => ip)).size < containers.length)
    throw new Error('an address was given twice');
}

/** The name that is served at the address, or `nobody` after some seconds. */
export async function whoAnswers(asker: Place, ip: string): Promise<string> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const name = await ask(asker, ip);
    if (name !== '') return name;
  }
  return 'nobody';
}

const ask = async (asker: Place, ip: string): Promise<string> =>
  (await asker.run(`wget -q -T 1 -O - http://${ip}/`)).stdout.trim();

const ATTEMPTS = 3;
const SERVES_MS = 20_000;
const SERVE = 'mkdir -p /www && echo $NAME >/www/index.html && exec httpd -f -p 80 -h /www';
