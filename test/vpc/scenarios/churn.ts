import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../../kit/docker/netns.ts';
import { Container } from '../container.ts';
import type { Fixture } from '../fixture.ts';
import type { Environment, Host } from '../host.ts';
import { type Lifetime, Lifetimes, PROBE } from '../lifetimes.ts';
import { mustReach } from '../reach.ts';
import { interfaceOf, SUBNETS, TENANTS, type Tenant } from '../site.ts';
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
/** Releases that a kill may lose: an engine that waits for a killed server does not repeat them, one for each container. */
const LOST_PER_KILL = 2 * SLOTS;

/** A container that joins its tenant's network and leaves it. */
interface Slot {
  readonly host: Host;
  readonly tenant: Tenant;
  readonly name: string;
  /** Its lifetime on the network, where it is on it. */
  lifetime: Lifetime | null;
}

/** Containers come and go on both hosts while EC2, servers and engines fail. */
export async function churn(fixture: Fixture): Promise<void> {
  const { hosts, say } = fixture;
  await fixture.empty('shared', SETTINGS);
  await Promise.all(hosts.map(makeNetworks));
  const probes = hosts.map(host => host.pathOf(PROBE_FOLDER));
  for (const folder of probes) mkdirSync(join(folder, 'log'), { recursive: true });
  const churn = new Churn(fixture, probes);
  await churn.open();
  try {
    await churn.run();
  } finally {
    fixture.vpc.faults.clear();
  }
  await churn.settle();
  const { again, elsewhere } = churn.lifetimes.reuse();
  say(`${again} times an address was given again, ${elsewhere} times on the other host`);
  say(churn.lifetimes.judge(probes));
  for (const host of hosts)
    if (host.serverLog().includes('"internal error"'))
      throw new Error(`the server of ${host.name} logged an internal error`);
}

class Churn {
  readonly #fixture: Fixture;
  readonly #probes: readonly string[];
  readonly #slots: readonly Slot[];
  readonly lifetimes = new Lifetimes();
  /** Hosts whose engine is dead; resolves when it is up again with its containers, with the time at which those
   *  began to start. */
  readonly #down = new Map<Host, Promise<number>>();
  #serverKills = 0;
  #engineKills = 0;
  readonly #refused: string[] = [];

  constructor(fixture: Fixture, probes: readonly string[]) {
    this.#fixture = fixture;
    this.#probes = probes;
    this.#slots = fixture.hosts.flatMap(host =>
      TENANTS.flatMap(tenant =>
        Array.from({ length: SLOTS }, (_, index) => ({
          host,
          tenant,
          name: `${tenant}-${host.name}-${index}`,
          lifetime: null,
        })),
      ),
    );
    this.#tell();
  }

  /** Starts the containers, on a bridge of their host where nobody is reached. */
  async open(): Promise<void> {
    await Promise.all(this.#fixture.hosts.map(host => host.docker('network create --internal aside')));
    await Promise.all(
      this.#slots.map(({ host, name, tenant }) => {
        const environment = `--env NAME=${name} --env TENANT=${tenant}`;
        const flags = `--network aside --volume ${PROBE_FOLDER}:/probe --stop-signal KILL`;
        return host.docker(`run -d --name ${name} ${environment} ${flags} busybox sh -c '${PROBE}'`);
      }),
    );
  }

  async run(): Promise<void> {
    const end = Date.now() + CHURN_MS;
    const { faults } = this.#fixture.vpc;
    faults.add({ kind: 'latency', ms: 150 });
    for (let round = 0; round < FAULT_ROUNDS; round++)
      setTimeout(() => this.#addFaults(), (round * CHURN_MS) / FAULT_ROUNDS);
    await Promise.all([
      ...this.#slots.map(slot => this.#runSlot(slot, end)),
      ...this.#fixture.hosts.map((host, index) => this.#fail(host, end, index)),
      this.#recycle(end),
    ]);
    this.#fixture.say(
      `${this.lifetimes.count} times a container came to a network, while servers were killed ` +
        `${this.#serverKills} times and engines ${this.#engineKills} times`,
    );
    const left = Map.groupBy(faults.list, ({ kind, action = '' }) => `${kind} ${action}`);
    // Too little may be idle for an unassign.
    const unused = [...left].filter(
      ([name, all]) => all.length === FAULT_ROUNDS && !name.includes('Unassign'),
    );
    if (unused.length > 0) throw new Error(`this struck nobody: ${unused.map(([name]) => name)}`);
    const kindOf = (text: string) => text.replace(/\d+\.\d+\.\d+\.\d+|\b(eni|i)-\w+/g, '…').trim();
    for (const [text, all] of Map.groupBy(this.#refused, kindOf))
      this.#fixture.say(`  ${all.length} refused: ${text.slice(0, 160)}`);
  }

  /** Logs what happens, for whoever looks for the cause of a failure. */
  #note = (slot: Slot, what: string): void =>
    appendFileSync('/out/churn.log', `${new Date().toISOString()} ${slot.name} ${what}\n`);

  /** Adds failures of EC2, each for the next call that it fits. */
  #addFaults(): void {
    const { faults } = this.#fixture.vpc;
    const times = 1;
    faults.add({ kind: 'lostReply', action: 'AssignPrivateIpAddresses', times });
    faults.add({ kind: 'applyLate', ms: 3000, action: 'AssignPrivateIpAddresses', times });
    faults.add({ kind: 'lostReply', action: 'UnassignPrivateIpAddresses', times });
    faults.add({ kind: 'throttle', times });
    faults.add({ kind: 'error', code: 'InternalError', message: 'An internal error has occurred', times });
  }

  /** Tells the probers whom to ask. */
  #tell(): void {
    for (const folder of this.#probes)
      for (const tenant of TENANTS) {
        const lifetimes = this.#slots.flatMap(slot =>
          slot.tenant === tenant && slot.lifetime !== null ? [slot.lifetime] : [],
        );
        writeFileSync(join(folder, tenant), lifetimes.map(({ ip }) => `${ip}\n`).join(''));
      }
  }

  async #runSlot(slot: Slot, end: number): Promise<void> {
    const { host } = slot;
    while (Date.now() < end) {
      const down = this.#down.get(host);
      if (down !== undefined) await this.#look(slot, await down);
      if (slot.lifetime === null) await this.#bring(slot);
      else if (Math.random() * 10 < RESTARTS_OF_TEN) {
        await this.#leave(slot, 'stop');
        await this.#join(slot, 'start');
      } else await this.#leave(slot, 'disconnect');
    }
  }

  /** Brings it to its network. It may have been stopped when its engine was killed. */
  async #bring(slot: Slot): Promise<void> {
    await this.#join(slot, 'connect');
    if (slot.lifetime === null) await this.#join(slot, 'start');
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
    const { lifetime } = slot;
    this.#end(slot);
    this.#note(slot, `${how}: ${(await this.#ask(slot, how)) ?? 'done'}`);
    const startedAt = await this.#down.get(slot.host);
    if (lifetime !== null) lifetime.endedAt = Date.now();
    await this.#look(slot, startedAt ?? Date.now()); // it may be there still, when the engine was killed meanwhile
  }

  /** Asks Docker to do it; returns its refusal, or null. */
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

  /** Begins a lifetime if the container has an address on its tenant's network. */
  async #look(slot: Slot, askedAt: number): Promise<void> {
    const addresses = await Container.addressesOf(slot.host, slot.name).catch(() => []);
    const ip = addresses.find(address => address.startsWith(SUBNETS[slot.tenant].prefix));
    const isDown = this.#down.has(slot.host);
    this.#note(
      slot,
      `has ${addresses.join(' ') || 'nothing'}${isDown ? ', engine down' : ''}, lifetime ${slot.lifetime?.ip}`,
    );
    if (isDown || ip === undefined || slot.lifetime !== null) return;
    slot.lifetime = this.lifetimes.begin(slot.name, ip, askedAt);
    this.#tell();
  }

  #end(slot: Slot): void {
    if (slot.lifetime !== null) slot.lifetime.to = Date.now();
    slot.lifetime = null;
    this.#tell();
  }

  /** Kills the host's server again and again, and its engine once. */
  async #fail(host: Host, end: number, index: number): Promise<void> {
    const firstMs = SERVER_KILL_EVERY_MS * (index === 0 ? 0.5 : 1);
    const leftMs = end - Date.now();
    for (let ms = firstMs; ms < leftMs; ms += SERVER_KILL_EVERY_MS)
      setTimeout(() => {
        this.#serverKills++;
        void host.server.kill9();
      }, ms);
    await sleep(leftMs - CHURN_MS * (index === 0 ? 0.85 : 0.6));
    const down = this.#killEngine(host).finally(() => this.#down.delete(host));
    this.#down.set(host, down);
    await down;
  }

  async #killEngine(host: Host): Promise<number> {
    this.#engineKills++;
    const slots = this.#slots.filter(slot => slot.host === host);
    const ended = slots.flatMap(({ lifetime }) => (lifetime === null ? [] : [lifetime]));
    for (const slot of slots) {
      this.#note(slot, 'engine killed');
      this.#end(slot);
    }
    await host.stopDocker('KILL');
    await host.startDocker(); // ends what the killed one had left running
    for (const lifetime of ended) lifetime.endedAt = Date.now();
    const startedAt = Date.now();
    await host.run(`docker start ${slots.map(({ name }) => name).join(' ')}`);
    return startedAt;
  }

  /** Gives idle addresses back now and then, so that some change hosts. */
  async #recycle(end: number): Promise<void> {
    const subnets = TENANTS.map(tenant => SUBNETS[tenant].id).join(' ');
    for (let at = Date.now() + RECYCLE_EVERY_MS; at < end; at += RECYCLE_EVERY_MS) {
      await sleep(Math.max(at - Date.now(), 0));
      await this.#fixture.a.ipam(`recycle ${subnets} --idle 1s`).catch(() => {}); // throttled, perhaps
    }
  }

  /** Brings all back, and waits until ledger, EC2 and wire say the same, and the ledger what the containers have. */
  async settle(): Promise<void> {
    for (const slot of this.#slots) {
      await this.#lookAgain(slot);
      if (slot.lifetime === null) await this.#bring(slot);
    }
    let difference = '';
    await until('ledger, EC2 and wire agree', SETTLE_MS, async () => {
      difference = await this.#difference();
      return difference === '';
    }).catch(error => {
      throw new Error(`${(error as Error).message}: ${difference}`);
    });
    const rows = await this.#fixture.sql("SELECT iface, ip FROM allocation WHERE status = 'allocated'");
    const held = rows.map(row => row.join(' '));
    const had = this.#slots.map(({ host, tenant, lifetime }) => `${host.eniOf(tenant)} ${lifetime?.ip}`);
    const unheld = had.filter(pair => !held.includes(pair));
    if (unheld.length > 0)
      throw new Error(`containers have what the ledger does not know to be held: ${unheld}`);
    const lost = held.filter(pair => !had.includes(pair));
    this.#fixture.say(
      `ledger, EC2 and wire agree on ${this.#inEc2().length} addresses; ` +
        `${had.length} are held by containers, ${lost.length} by nobody since a kill`,
    );
    const bound = LOST_PER_KILL * (this.#serverKills + this.#engineKills);
    if (lost.length > bound) throw new Error(`more than ${bound} are held by nobody: ${lost}`);
    for (const tenant of TENANTS) await this.#meet(tenant);
  }

  /** A change that a kill cut off may have come about all the same, behind our back. */
  async #lookAgain(slot: Slot): Promise<void> {
    const { lifetime } = slot;
    if (lifetime === null || (await Container.addressesOf(slot.host, slot.name)).includes(lifetime.ip))
      return;
    this.#note(slot, `has ${lifetime.ip} no more`);
    lifetime.to = lifetime.from; // it is not known for how long it had it
    lifetime.endedAt = Date.now();
    slot.lifetime = null;
    await this.#look(slot, lifetime.from);
  }

  #inEc2 = (): string[] =>
    [...this.#fixture.vpc.network.enis()].flatMap(({ mac, secondaries }) =>
      secondaries.map(ip => `${mac} ${ip}`),
    );

  /** Secondary addresses that the ledger, EC2 and the wire do not all have on the same ENI; empty: none. */
  async #difference(): Promise<string> {
    const enis = [...this.#fixture.vpc.network.enis()];
    const rows = await this.#fixture.sql(
      "SELECT iface, ip, status FROM allocation WHERE status NOT IN ('free', 'reserved', 'occupied')",
    );
    const ledger = rows.map(([iface, ip, status]) => {
      const mac = enis.find(({ id }) => id === iface)?.mac;
      return status?.endsWith('ing') ? `${mac} ${ip} ${status}` : `${mac} ${ip}`;
    });
    const primaries = enis.map(({ mac, primary }) => `${mac} ${primary}`);
    const wire = this.#fixture.fabric.carried().filter(pair => !primaries.includes(pair));
    const views = Object.entries({ ledger, EC2: this.#inEc2(), wire });
    const pairs = new Set(views.flatMap(([, view]) => view));
    const partial = [...pairs].flatMap(pair => {
      const having = views.filter(([, view]) => view.includes(pair)).map(([name]) => name);
      return having.length === views.length ? [] : [`${pair} in ${having.join(' and ')} only`];
    });
    return partial.join('; ');
  }

  /** Every container reaches every other of its tenant. */
  async #meet(tenant: Tenant): Promise<void> {
    const slots = this.#slots.filter(slot => slot.tenant === tenant);
    await Promise.all(
      slots.map(async slot => {
        const others = slots.filter(other => other !== slot);
        const targets = others.map(({ name, lifetime }) => ({ name, ip: lifetime?.ip ?? 'nowhere' }));
        await mustReach(await Container.at(slot.host, slot.name, slot.lifetime?.ip ?? 'nowhere'), targets);
      }),
    );
    this.#fixture.say(`the ${slots.length} containers of ${tenant} all reach each other`);
  }
}
