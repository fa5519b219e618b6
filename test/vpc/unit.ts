/** A systemd unit without systemd: runs what its text says, in the order that systemd guarantees. */
import type { Program } from '../kit/docker/netns.ts';
import type { Instance } from './instance.ts';

const DIRECTIVES = `Type ExecStartPre ExecStart ExecStartPost Environment Restart RestartSec TimeoutStopSec
  StateDirectory StateDirectoryMode`.split(/\s+/);
/** What they take away is not taken away here. */
const HARDENING =
  /^(Runtime|Protect|Private|Restrict|ReadOnly|SystemCall)\w+$|^(UMask|NoNewPrivileges|CapabilityBoundingSet|LockPersonality)$/;

type Service = ReturnType<typeof parse>;

/** Reads a unit's text with its drop-ins. Throws on a directive of [Service] that is not supported here. */
function parse(text: string) {
  const sections = text.split(/^\[(\w+)\]$/m); // in turns the name of a section and its text
  const lines = sections.filter((_, i) => sections[i - 1] === 'Service').join('\n');
  const directives = [...lines.matchAll(/^(\w+)=(.*)$/gm)].map(([, key = '', value = '']) => [key, value]);
  const unknown = directives.find(([key = '']) => !DIRECTIVES.includes(key) && !HARDENING.test(key));
  if (unknown !== undefined) throw new Error(`${unknown[0]}= is not supported here`);
  const all = (key: string) => directives.flatMap(([name, value = '']) => (name === key ? [value] : []));
  const [start] = all('ExecStart');
  if (start === undefined) throw new Error('the unit starts nothing');
  return {
    pre: all('ExecStartPre'),
    start,
    post: all('ExecStartPost'),
    environment: Object.fromEntries(all('Environment').map(value => value.split(/=(.*)/).slice(0, 2))),
    stateDirectory: all('StateDirectory')[0],
    stateMode: all('StateDirectoryMode')[0] ?? '0755',
    oneshot: all('Type')[0] === 'oneshot',
    restartMs: all('Restart')[0] === 'always' ? Number(all('RestartSec')[0] ?? 0.1) * 1000 : null,
  };
}

export class Unit {
  readonly #instance: Instance;
  readonly #name: string;
  #running: Program | null = null;
  /** Changes with each start and stop, so that a restart can tell whether it is still wanted. */
  #wanted: symbol | null = null;

  /** The unit of that name in the instance's /etc/systemd/system. */
  constructor(instance: Instance, name: string) {
    this.#instance = instance;
    this.#name = name;
  }

  /** Resolves when what is ordered after it may start. Throws if systemd would call the start failed. */
  async start(): Promise<void> {
    const wanted = Symbol(this.#name);
    this.#wanted = wanted;
    const files = `/etc/systemd/system/${this.#name}.service`;
    const service = parse(await this.#instance.sh(`shopt -s nullglob; cat ${files} ${files}.d/*.conf`));
    const env: Record<string, string> = { ...service.environment };
    if (service.stateDirectory !== undefined) {
      const path = `/var/lib/${service.stateDirectory}`;
      await this.#instance.sh(`mkdir -p ${path} && chmod ${service.stateMode} ${path}`);
      env.STATE_DIRECTORY = path;
    }
    await this.#launch(service, env, wanted);
  }

  async stop(): Promise<void> {
    this.#wanted = null;
    await this.#running?.signal('TERM');
    await this.#running?.ended;
  }

  /** Kills the program; the unit starts it again as it says. */
  async kill9(): Promise<void> {
    await this.#running?.signal('KILL');
  }

  /** The instance has lost its power. */
  forget(): void {
    this.#wanted = null;
  }

  async #launch(service: Service, env: Record<string, string>, wanted: symbol): Promise<void> {
    for (const command of service.pre) await this.#step(command);
    if (this.#wanted !== wanted) return;
    if (service.oneshot) return this.#step(service.start);
    const running = await this.#instance.start(service.start, this.#name, env);
    if (this.#wanted !== wanted) return void (await running.signal('TERM'));
    this.#running = running;
    running.ended.then(() => this.#again(service, env, wanted)).catch(() => {}); // the instance has lost its power
    for (const command of service.post) await this.#step(command);
  }

  async #again(service: Service, env: Record<string, string>, wanted: symbol): Promise<void> {
    if (service.restartMs === null) return;
    await new Promise(resolve => setTimeout(resolve, service.restartMs ?? 0));
    if (this.#wanted === wanted) await this.#launch(service, env, wanted);
  }

  async #step(command: string): Promise<void> {
    const mayFail = command.startsWith('-');
    const { code, stdout, stderr } = await this.#instance.run(command.replace(/^-/, ''));
    if (code !== 0 && !mayFail) throw new Error(`${command} ended with ${code}: ${stdout}${stderr}`);
  }
}
