import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../../netns.ts';
import { Container } from '../container.ts';
import { pingAll } from '../reach.ts';
import { interfaceOf, SUBNETS, TENANTS, type Tenant } from '../site.ts';
import type { Environment, Host, Say, Stage } from '../stage.ts';
import { makeNetworks } from './networks.ts';

// Rests, graces and pauses are a tenth of the defaults and less, so that a minute has what hours have.
const SETTINGS: Environment = {
  EC2_IPAM_COOLDOWN: '3s',
  EC2_IPAM_QUARANTINE: '8s',
  EC2_IPAM_CALL_DEADLINE: '4s',
  EC2_IPAM_INTENT_GRACE: '12s',
  EC2_IPAM_RECONCILE_EVERY: '3s',
};
const CHURN_MS = 45_000;
/** Containers of a tenant on a host. */
const SLOTS = 2;
/** Of ten changes, how many are a stop and start; the others are `docker network connect` and `disconnect`. */
const RESTARTS_OF_TEN = 1;
const SERVER_KILL_EVERY_MS = 20_000;
const RECYCLE_EVERY_MS = 12_000;
const SETTLE_MS = 60_000;
/** A frame that was under way, or an answer to it. */
const SLACK_MS = 2500;
const PROBE_FOLDER = '/opt/probe';
/** In each container: asks all of its tenant who they are, over and over. */
const PROBE = `echo $NAME >/index.html
httpd -p 80 -h /
while :; do
  for ip in $(cat /probe/$TENANT); do
    echo "$(date +%s) $ip $(wget -q -T 1 -O - http://$ip/index.html 2>/dev/null)" >>/probe/log/$NAME
    sleep 1
  done
  sleep 1
done`;

/** One container, which comes to its tenant's network and leaves it. */
interface Slot {
  readonly host: Host;
  readonly tenant: Tenant;
  readonly name: string;
  /** Its life on the network, where it is on it. */
  life: Life | null;
}
/** Times are milliseconds since 1970. */
interface Life {
  readonly name: string;
  readonly ip: string;
  readonly askedAt: number;
  /** Nobody else may have the address between these two. */
  readonly from: number;
  to: number;
  /** Past this it has it no more. */
  endedAt: number;
}

/** Containers come and go on both hosts while EC2, servers and engines fail. */
export async function churn(stage: Stage, say: Say): Promise<void> {
  await stage.empty('shared', SETTINGS);
  await Promise.all(stage.hosts.map(makeNetworks));
  const probes = stage.hosts.map(host => host.pathOf(PROBE_FOLDER));
  for (const folder of probes) mkdirSync(join(folder, 'log'), { recursive: true });
  const world = new World(stage, probes, say);
  await world.open();
  const { faults } = stage.vpc;
  faults.add({ kind: 'latency', ms: 150 });
  faults.add({ kind: 'throttle', chance: 0.05 });
  faults.add({
    kind: 'error',
    code: 'InternalError',
    message: 'An internal error has occurred',
    chance: 0.02,
  });
  faults.add({ kind: 'lostReply', action: 'AssignPrivateIpAddresses', chance: 0.02 });
  faults.add({ kind: 'lostReply', action: 'UnassignPrivateIpAddresses', chance: 0.02 });
  faults.add({ kind: 'applyLate', ms: 3000, action: 'AssignPrivateIpAddresses', chance: 0.02 });
  await world.turn();
  faults.clear();
  await world.settle();
  world.judge();
}

class World {
  readonly #stage: Stage;
  readonly #probes: readonly string[];
  readonly #say: Say;
  readonly #slots: readonly Slot[];
  readonly #lives: Life[] = [];
  /** Hosts whose engine is dead, and when it will be up again with its containers. */
  readonly #down = new Map<Host, Promise<void>>();
  #serverKills = 0;
  #engineKills = 0;
  readonly #refused: string[] = [];

  constructor(stage: Stage, probes: readonly string[], say: Say) {
    this.#stage = stage;
    this.#probes = probes;
    this.#say = say;
    this.#slots = stage.hosts.flatMap(host =>
      TENANTS.flatMap(tenant =>
        Array.from({ length: SLOTS }, (_, index) => ({
          host,
          tenant,
          name: `${tenant}-${host.name}-${index}`,
          life: null,
        })),
      ),
    );
    this.#tell();
  }

  /** Starts the containers, on a bridge of their host where nobody is reached. */
  async open(): Promise<void> {
    await Promise.all(
      this.#stage.hosts.map(async host => {
        await host.docker('network', 'create', '--internal', 'aside');
        for (const { name, tenant } of this.#of(host)) {
          const flags = [
            '--env',
            `NAME=${name}`,
            '--env',
            `TENANT=${tenant}`,
            '--volume',
            `${PROBE_FOLDER}:/probe`,
            '--stop-signal',
            'KILL',
          ];
          await host.docker(
            'run',
            '-d',
            '--name',
            name,
            '--network',
            'aside',
            ...flags,
            'busybox',
            'sh',
            '-c',
            PROBE,
          );
        }
      }),
    );
  }

  async turn(): Promise<void> {
    const end = Date.now() + CHURN_MS;
    await Promise.all([
      ...this.#slots.map(slot => this.#turnSlot(slot, end)),
      ...this.#stage.hosts.map((host, index) => this.#fail(host, end, index)),
      this.#recycle(end),
    ]);
    this.#say(
      `${this.#lives.length} times a container came to a network, while servers were killed ` +
        `${this.#serverKills} times and engines ${this.#engineKills} times`,
    );
    const texts = this.#refused.map(text => text.replace(/\d+\.\d+\.\d+\.\d+|\b(eni|i)-\w+/g, '…').trim());
    for (const text of new Set(texts))
      this.#say(`  ${texts.filter(one => one === text).length} refused: ${text.slice(0, 160)}`);
  }

  #of = (host: Host): Slot[] => this.#slots.filter(slot => slot.host === host);

  /** Tells the probers whom to ask. */
  #tell(): void {
    for (const folder of this.#probes)
      for (const tenant of TENANTS) {
        const lives = this.#slots.flatMap(slot =>
          slot.tenant === tenant && slot.life !== null ? [slot.life] : [],
        );
        writeFileSync(join(folder, tenant), lives.map(({ ip }) => `${ip}\n`).join(''));
      }
  }

  /** One container's part. */
  async #turnSlot(slot: Slot, end: number): Promise<void> {
    const { host } = slot;
    while (Date.now() < end) {
      const down = this.#down.get(host);
      if (down !== undefined) await down.then(() => this.#look(slot, Date.now()));
      if (slot.life === null) await this.#bring(slot);
      else if (Math.random() * 10 < RESTARTS_OF_TEN) {
        await this.#leave(slot, 'stop');
        await this.#join(slot, 'start');
      } else await this.#leave(slot, 'disconnect');
    }
  }

  /** Brings it to its network. It may have been stopped when its engine was killed. */
  async #bring(slot: Slot): Promise<void> {
    await this.#join(slot, 'connect');
    if (slot.life === null) await this.#join(slot, 'start');
  }

  async #join(slot: Slot, how: 'connect' | 'start'): Promise<void> {
    const askedAt = Date.now();
    const refusal = await this.#ask(slot, how);
    await this.#down.get(slot.host);
    if (refusal !== null) this.#refused.push(refusal);
    await this.#look(slot, askedAt);
  }

  async #leave(slot: Slot, how: 'disconnect' | 'stop'): Promise<void> {
    const { life } = slot;
    this.#end(slot);
    await this.#ask(slot, how);
    await this.#down.get(slot.host);
    if (life !== null) life.endedAt = Date.now();
    await this.#look(slot, Date.now()); // it may be there still, when the engine was killed meanwhile
  }

  /** Has Docker do it; answers its refusal, or null. */
  async #ask(
    { host, tenant, name }: Slot,
    how: 'connect' | 'disconnect' | 'start' | 'stop',
  ): Promise<string | null> {
    const onNetwork = how === 'connect' || how === 'disconnect';
    const path = onNetwork ? `/networks/ec2-${interfaceOf(tenant)}/${how}` : `/containers/${name}/${how}`;
    try {
      const { status, text } = await host.api('POST', path, onNetwork ? { Container: name } : undefined);
      return status < 400 ? null : text;
    } catch (error) {
      return (error as Error).message; // the engine was killed
    }
  }

  /** Sees what address the container has on its tenant's network now. */
  async #look(slot: Slot, askedAt: number): Promise<void> {
    const addresses = await Container.addressesOf(slot.host, slot.name).catch(() => []);
    const ip = addresses.find(address => address.startsWith(SUBNETS[slot.tenant].cidr.replace(/0\/24$/, '')));
    if (this.#down.has(slot.host) || ip === undefined || slot.life !== null) return;
    const never = Number.POSITIVE_INFINITY;
    slot.life = { name: slot.name, ip, askedAt, from: Date.now(), to: never, endedAt: never };
    this.#lives.push(slot.life);
    this.#tell();
  }

  #end(slot: Slot): void {
    if (slot.life !== null) slot.life.to = Date.now();
    slot.life = null;
    this.#tell();
  }

  /** Kills the host's server again and again, and its engine once. */
  async #fail(host: Host, end: number, index: number): Promise<void> {
    const engineKillAt = end - CHURN_MS * (index === 0 ? 0.7 : 0.4);
    for (
      let at = Date.now() + SERVER_KILL_EVERY_MS * (index === 0 ? 0.5 : 1);
      at < end;
      at += SERVER_KILL_EVERY_MS
    )
      setTimeout(() => {
        this.#serverKills++;
        void host.server.kill9();
      }, at - Date.now());
    await new Promise(resolve => setTimeout(resolve, engineKillAt - Date.now()));
    const down = this.#killEngine(host).finally(() => this.#down.delete(host));
    this.#down.set(host, down);
    await down;
  }

  async #killEngine(host: Host): Promise<void> {
    this.#engineKills++;
    const slots = this.#of(host);
    const ended = slots.flatMap(({ life }) => (life === null ? [] : [life]));
    for (const slot of slots) this.#end(slot);
    await host.stopDocker('KILL');
    await host.startDocker(); // ends what the killed one had left running
    for (const life of ended) life.endedAt = Date.now();
    await host.run(['docker', 'start', ...slots.map(({ name }) => name)]);
  }

  /** Gives idle addresses back now and then, so that some change hosts. */
  async #recycle(end: number): Promise<void> {
    while (Date.now() < end) {
      await new Promise(resolve => setTimeout(resolve, RECYCLE_EVERY_MS));
      const subnets = TENANTS.map(tenant => SUBNETS[tenant].id);
      await this.#stage.a.ipam('recycle', ...subnets, '--idle', '1s').catch(() => {}); // throttled, perhaps
    }
  }

  /** Brings all back, and waits until ledger, EC2 and wire say the same. */
  async settle(): Promise<void> {
    for (const slot of this.#slots) if (slot.life === null) await this.#bring(slot);
    let difference = '';
    await until('ledger, EC2 and wire agree', SETTLE_MS, async () => {
      difference = await this.#difference();
      return difference === '';
    }).catch(error => {
      throw new Error(`${(error as Error).message}: ${difference}`);
    });
    const { stdout } = await this.#stage.sql("SELECT COUNT(*) FROM allocation WHERE status = 'allocated'");
    const held = Number(stdout);
    this.#say(
      `ledger, EC2 and wire agree on ${this.#carried().length} addresses; ${held} are held, ${this.#slots.length} by containers`,
    );
    for (const tenant of TENANTS) await this.#meet(tenant);
  }

  #carried = (): string[] =>
    [...this.#stage.vpc.network.enis()]
      .flatMap(({ mac, secondaries }) => secondaries.map(ip => `${mac} ${ip}`))
      .sort();

  /** What is not the same in the ledger, the simulator and the kernel; empty: nothing. */
  async #difference(): Promise<string> {
    const enis = [...this.#stage.vpc.network.enis()];
    const { stdout } = await this.#stage.sql(
      "SELECT iface, ip, status FROM allocation WHERE status NOT IN ('free', 'reserved', 'occupied')",
    );
    const rows = stdout
      .split('\n')
      .filter(Boolean)
      .map(line => line.split('\t'));
    const ledger = rows
      .map(
        ([iface, ip, status]) =>
          `${enis.find(({ id }) => id === iface)?.mac} ${ip}${status?.endsWith('ing') ? ` ${status}` : ''}`,
      )
      .sort();
    const primaries = enis.map(({ mac, primary }) => `${mac} ${primary}`);
    const wire = this.#stage.fabric.carried().filter(pair => !primaries.includes(pair));
    const ec2 = this.#carried();
    const without = (all: readonly string[], others: readonly string[]) =>
      all.filter(one => !others.includes(one));
    return [
      ...without(ledger, ec2).map(one => `${one} in the ledger only`),
      ...without(ec2, ledger).map(one => `${one} not in the ledger`),
      ...without(wire, ec2).map(one => `${one} on the wire only`),
      ...without(ec2, wire).map(one => `${one} not on the wire`),
    ].join('; ');
  }

  /** Every container reaches every other of its tenant. */
  async #meet(tenant: Tenant): Promise<void> {
    const slots = this.#slots.filter(slot => slot.tenant === tenant);
    await Promise.all(
      slots.map(async slot => {
        const one = await Container.at(slot.host, slot.name, slot.life?.ip ?? 'nowhere');
        const others = slots.flatMap(({ name, life }) =>
          name === slot.name ? [] : [{ name, ip: life?.ip ?? 'nowhere' }],
        );
        const lost = [...(await pingAll(one, others))].filter(([, answer]) => answer === 'no');
        if (lost.length > 0) throw new Error(`${one.name} does not reach ${lost.map(([name]) => name)}`);
      }),
    );
    this.#say(`the ${slots.length} containers of ${tenant} all reach each other`);
  }

  /** No address with two holders at a time, and no address that was answered by anybody but its holder. */
  judge(): void {
    for (const [index, one] of this.#lives.entries())
      for (const other of this.#lives.slice(index + 1))
        if (one.ip === other.ip && one.from < other.to && other.from < one.to)
          throw new Error(`${one.name} and ${other.name} had ${one.ip} at the same time`);
    const had = (name: string, ip: string, at: number): boolean =>
      this.#lives.some(
        life =>
          life.name === name &&
          life.ip === ip &&
          at >= life.askedAt - SLACK_MS &&
          at <= life.endedAt + SLACK_MS,
      );
    let asked = 0;
    let silent = 0;
    for (const folder of this.#probes)
      for (const file of readdirSync(join(folder, 'log')))
        for (const line of readFileSync(join(folder, 'log', file), 'utf8')
          .split('\n')
          .filter(Boolean)) {
          const [time = '', ip = '', name = ''] = line.split(' ');
          asked++;
          if (name === '') silent++;
          else if (!had(name, ip, Number(time) * 1000))
            throw new Error(`${file} asked ${ip}, and ${name} answered, which had it not: ${line}`);
        }
    this.#say(
      `probers asked ${asked} times and were answered by the holder of the address, or, ${silent} times, by nobody: one had just left, or they had`,
    );
    if (asked - silent < ANSWERS_MIN) throw new Error('the probers saw too little');
  }
}

const ANSWERS_MIN = 100;
