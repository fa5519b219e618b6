import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../../kit/docker/netns.ts';
import { Container } from '../container.ts';
import type { Environment, Host, Say } from '../host.ts';
import { type Life, Lives, PROBE } from '../lives.ts';
import { mustReach } from '../reach.ts';
import { interfaceOf, SUBNETS, TENANTS, type Tenant } from '../site.ts';
import type { Stage } from '../stage.ts';
import { makeNetworks } from './networks.ts';

// Rests, graces and pauses are a tenth of the defaults and less, so that a minute has what hours have.
const SETTINGS: Environment = {
  EC2_IPAM_COOLDOWN: '3s',
  EC2_IPAM_QUARANTINE: '8s',
  EC2_IPAM_CALL_DEADLINE: '4s',
  EC2_IPAM_INTENT_GRACE: '12s',
  EC2_IPAM_RECONCILE_EVERY: '3s',
};
const CHURN_MS = 30_000;
/** Containers of a tenant on a host. */
const SLOTS = 2;
/** Of ten changes, how many are a stop and start; the others are `docker network connect` and `disconnect`. */
const RESTARTS_OF_TEN = 1;
/** How often each kind of failure of EC2 is set to strike. */
const FAULT_ROUNDS = 3;
const SERVER_KILL_EVERY_MS = 15_000;
const RECYCLE_EVERY_MS = 9000;
const SETTLE_MS = 60_000;
const PROBE_FOLDER = '/opt/probe';
/** What a killed server may have been told to release and an engine that waits for it does not repeat: one a container. */
const LOST_PER_KILL = 2 * SLOTS;

/** One container, which comes to its tenant's network and leaves it. */
interface Slot {
  readonly host: Host;
  readonly tenant: Tenant;
  readonly name: string;
  /** Its life on the network, where it is on it. */
  life: Life | null;
}

/** Containers come and go on both hosts while EC2, servers and engines fail. */
export async function churn(stage: Stage, say: Say): Promise<void> {
  await stage.empty('shared', SETTINGS);
  await Promise.all(stage.hosts.map(makeNetworks));
  const probes = stage.hosts.map(host => host.pathOf(PROBE_FOLDER));
  for (const folder of probes) mkdirSync(join(folder, 'log'), { recursive: true });
  const churn = new Churn(stage, probes, say);
  await churn.open();
  try {
    await churn.turn();
  } finally {
    stage.vpc.faults.clear();
  }
  await churn.settle();
  const { again, elsewhere } = churn.lives.reuse();
  say(`${again} times an address was given again, ${elsewhere} times on the other host`);
  say(churn.lives.judge(probes));
  for (const host of stage.hosts)
    if (host.serverLog().includes('"internal error"'))
      throw new Error(`the server of ${host.name} logged an internal error`);
}

class Churn {
  readonly #stage: Stage;
  readonly #probes: readonly string[];
  readonly #say: Say;
  readonly #slots: readonly Slot[];
  readonly lives = new Lives();
  /** Hosts whose engine is dead; resolves when it is up again with its containers, with the time at which those
   *  began to start. */
  readonly #down = new Map<Host, Promise<number>>();
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
    await Promise.all(this.#stage.hosts.map(host => host.docker('network', 'create', '--internal', 'aside')));
    await Promise.all(
      this.#slots.map(({ host, name, tenant }) => {
        const environment = ['--env', `NAME=${name}`, '--env', `TENANT=${tenant}`];
        const flags = ['--network', 'aside', '--volume', `${PROBE_FOLDER}:/probe`, '--stop-signal', 'KILL'];
        return host.docker(
          'run',
          '-d',
          '--name',
          name,
          ...environment,
          ...flags,
          'busybox',
          'sh',
          '-c',
          PROBE,
        );
      }),
    );
  }

  async turn(): Promise<void> {
    const end = Date.now() + CHURN_MS;
    const { faults } = this.#stage.vpc;
    faults.add({ kind: 'latency', ms: 150 });
    for (let round = 0; round < FAULT_ROUNDS; round++)
      setTimeout(() => this.#addFaults(), (round * CHURN_MS) / FAULT_ROUNDS);
    await Promise.all([
      ...this.#slots.map(slot => this.#turnSlot(slot, end)),
      ...this.#stage.hosts.map((host, index) => this.#fail(host, end, index)),
      this.#recycle(end),
    ]);
    this.#say(
      `${this.lives.count} times a container came to a network, while servers were killed ` +
        `${this.#serverKills} times and engines ${this.#engineKills} times`,
    );
    const left = faults.list.map(({ kind, action = '' }) => `${kind} ${action}`);
    const spared = left.filter(
      (one, index) => left.slice(0, index).filter(other => other === one).length === FAULT_ROUNDS - 1,
    );
    // What idles may be too little for an unassign.
    const surely = spared.filter(one => !one.includes('Unassign'));
    if (surely.length > 0) throw new Error(`this struck nobody: ${surely}`);
    const texts = this.#refused.map(text => text.replace(/\d+\.\d+\.\d+\.\d+|\b(eni|i)-\w+/g, '…').trim());
    for (const text of new Set(texts))
      this.#say(`  ${texts.filter(one => one === text).length} refused: ${text.slice(0, 160)}`);
  }

  /** For whoever looks for the cause of a failure. */
  #note = (slot: Slot, what: string): void =>
    appendFileSync('/out/churn.log', `${new Date().toISOString()} ${slot.name} ${what}\n`);

  /** Each strikes the next call that it can. */
  #addFaults(): void {
    const { faults } = this.#stage.vpc;
    const times = 1;
    faults.add({ kind: 'lostReply', action: 'AssignPrivateIpAddresses', times });
    faults.add({ kind: 'applyLate', ms: 3000, action: 'AssignPrivateIpAddresses', times });
    faults.add({ kind: 'lostReply', action: 'UnassignPrivateIpAddresses', times });
    faults.add({ kind: 'throttle', times });
    faults.add({ kind: 'error', code: 'InternalError', message: 'An internal error has occurred', times });
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
      if (down !== undefined) await this.#look(slot, await down);
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
    const begunAt = Date.now();
    const refusal = await this.#ask(slot, how);
    this.#note(slot, `${how}: ${refusal ?? 'done'}`);
    const askedAt = (await this.#down.get(slot.host)) ?? begunAt;
    if (refusal !== null) this.#refused.push(refusal);
    await this.#look(slot, Math.min(askedAt, begunAt));
  }

  async #leave(slot: Slot, how: 'disconnect' | 'stop'): Promise<void> {
    const { life } = slot;
    this.#end(slot);
    this.#note(slot, `${how}: ${(await this.#ask(slot, how)) ?? 'done'}`);
    const startedAt = await this.#down.get(slot.host);
    if (life !== null) life.endedAt = Date.now();
    await this.#look(slot, startedAt ?? Date.now()); // it may be there still, when the engine was killed meanwhile
  }

  /** Has Docker do it; returns its refusal, or null. */
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
    this.#note(
      slot,
      `has ${addresses.join(' ') || 'nothing'}${this.#down.has(slot.host) ? ', engine down' : ''}, life ${slot.life?.ip}`,
    );
    if (this.#down.has(slot.host) || ip === undefined || slot.life !== null) return;
    slot.life = this.lives.begin(slot.name, ip, askedAt);
    this.#tell();
  }

  #end(slot: Slot): void {
    if (slot.life !== null) slot.life.to = Date.now();
    slot.life = null;
    this.#tell();
  }

  /** Kills the host's server again and again, and its engine once. */
  async #fail(host: Host, end: number, index: number): Promise<void> {
    const engineKillAt = end - CHURN_MS * (index === 0 ? 0.85 : 0.6);
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

  async #killEngine(host: Host): Promise<number> {
    this.#engineKills++;
    const slots = this.#of(host);
    const ended = slots.flatMap(({ life }) => (life === null ? [] : [life]));
    for (const slot of slots) {
      this.#note(slot, 'engine killed');
      this.#end(slot);
    }
    await host.stopDocker('KILL');
    await host.startDocker(); // ends what the killed one had left running
    for (const life of ended) life.endedAt = Date.now();
    const startedAt = Date.now();
    await host.run(['docker', 'start', ...slots.map(({ name }) => name)]);
    return startedAt;
  }

  /** Gives idle addresses back now and then, so that some change hosts. */
  async #recycle(end: number): Promise<void> {
    const subnets = TENANTS.map(tenant => SUBNETS[tenant].id);
    for (let at = Date.now() + RECYCLE_EVERY_MS; at < end; at += RECYCLE_EVERY_MS) {
      await new Promise(resolve => setTimeout(resolve, Math.max(at - Date.now(), 0)));
      await this.#stage.a.ipam('recycle', ...subnets, '--idle', '1s').catch(() => {}); // throttled, perhaps
    }
  }

  /** Brings all back, and waits until ledger, EC2 and wire say the same, and the ledger what the containers have. */
  async settle(): Promise<void> {
    for (const slot of this.#slots) {
      await this.#lookAgain(slot);
      if (slot.life === null) await this.#bring(slot);
    }
    let difference = '';
    await until('ledger, EC2 and wire agree', SETTLE_MS, async () => {
      difference = await this.#difference();
      return difference === '';
    }).catch(error => {
      throw new Error(`${(error as Error).message}: ${difference}`);
    });
    const held = (await this.#stage.sql("SELECT iface, ip FROM allocation WHERE status = 'allocated'")).map(
      row => row.join(' '),
    );
    const had = this.#slots.map(({ host, tenant, life }) => `${host.eniOf(tenant)} ${life?.ip}`);
    const unheld = had.filter(pair => !held.includes(pair));
    if (unheld.length > 0)
      throw new Error(`containers have what the ledger does not know to be held: ${unheld}`);
    const lost = held.filter(pair => !had.includes(pair));
    this.#say(
      `ledger, EC2 and wire agree on ${this.#carried().length} addresses; ${had.length} are held by containers, ${lost.length} by nobody since a kill`,
    );
    const bound = LOST_PER_KILL * (this.#serverKills + this.#engineKills);
    if (lost.length > bound) throw new Error(`more than ${bound} are held by nobody: ${lost}`);
    for (const tenant of TENANTS) await this.#meet(tenant);
  }

  /** A change that a kill cut off may have come about all the same, behind our back. */
  async #lookAgain(slot: Slot): Promise<void> {
    const { life } = slot;
    if (life === null || (await Container.addressesOf(slot.host, slot.name)).includes(life.ip)) return;
    this.#note(slot, `has ${life.ip} no more`);
    life.to = life.from; // it is not known for how long it had it
    life.endedAt = Date.now();
    slot.life = null;
    await this.#look(slot, life.from);
  }

  #carried = (): string[] =>
    [...this.#stage.vpc.network.enis()]
      .flatMap(({ mac, secondaries }) => secondaries.map(ip => `${mac} ${ip}`))
      .sort();

  /** What is not the same in the ledger, the simulator and the kernel; empty: nothing. */
  async #difference(): Promise<string> {
    const enis = [...this.#stage.vpc.network.enis()];
    const rows = await this.#stage.sql(
      "SELECT iface, ip, status FROM allocation WHERE status NOT IN ('free', 'reserved', 'occupied')",
    );
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
        await mustReach(one, others);
      }),
    );
    this.#say(`the ${slots.length} containers of ${tenant} all reach each other`);
  }
}
