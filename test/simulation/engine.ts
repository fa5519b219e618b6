/**
 * A Docker engine as its remote IPAM driver sees it: RequestAddress one after the other in each network,
 * ReleaseAddress at any time and never again, five tries when nobody listens, and an empty body after a
 * connection that broke on the way.
 */

import { type Cidr, formatCidr, type Ipv4, routerOf } from '../../src/domain/address.ts';
import { ofItsClaim } from '../../src/domain/allocation.ts';
import type { EniId, InstanceId } from '../../src/domain/ids.ts';
import { ANSWERED_WITHIN_MS, REPEATED_FOR_MS } from '../../src/domain/origin.ts';
import { Process } from '../kit/clock.ts';
import { type Broken, type Connection, createConnection, type Reply } from './connection.ts';
import type { Port } from './layout.ts';
import type { AgentCall, Holding } from './oracle.ts';
import type { Request, Server } from './server.ts';
import { watchStart, witnessOf } from './watch-engines.ts';
import { type HostFaults, noFaults } from './witness.ts';
import type { World } from './world.ts';

/** Between a restart's release and its request. */
const RESTART_MS = 3;
const RETRY_MS = [1000, 2000, 4000, 8000];
const EMPTY_RETRY_MS = 1000;

/** How long an agent waits for one server before it asks another one, and how long before it knocks again where nobody
 *  listens. */
const AGENT_WAITS_MS = { least: 2_000, most: 40_000 };
const AGENT_PAUSE_MS = 200;
const OWED_PAUSE_MS = 10_000;
/** How often an agent does not know what a release is for. */
const FORGOTTEN = 0.2;
/** The longest time until Docker is answered. */
const AGENT_BOUNDS_MS = [5_000, ANSWERED_WITHIN_MS];
/** How much later a server may be told of a connection's end. */
const TOLD_AFTER_MS_MAX = 600_000;

export interface Network {
  readonly port: Port;
  readonly cidr: Cidr;
  readonly poolId: string;
  readonly subPool: string;
  /** Docker has made it; before that it knows of no pool to ask from. */
  isMade: boolean;
  /** Settles when the RequestAddress before has been answered. */
  turn: Promise<unknown>;
}

/** A running container, as the engine's own store has it. */
export interface Container {
  readonly id: string;
  readonly engine: Engine;
  readonly network: Network;
  readonly ip: Ipv4;
  readonly named: boolean;
  readonly holding: Holding | null;
}

export class Engine {
  readonly host: string;
  readonly networks: Network[];
  containers: Container[] = [];
  /** Its instance was terminated. */
  isLost = false;
  /** What its host does not show. */
  readonly faults: HostFaults = noFaults();
  readonly connections = new Set<Connection>();
  readonly #world: World;
  #lives = 0;
  #calls = 0;
  /** What its agent knows: the ids of the requests that were given addresses, by ENI and address. */
  readonly #given = new Map<string, string>();
  /** The ENIs of calls under way. */
  #asking: EniId[] = [];
  process: Process;

  constructor(world: World, host: string, networks: Network[]) {
    this.#world = world;
    this.host = host;
    this.networks = networks;
    this.process = this.#newProcess();
  }

  #newProcess(): Process {
    return new Process(`engine ${this.host}.${++this.#lives}`);
  }

  /** `docker run`. */
  run(network: Network, named: Ipv4 | null): Promise<void> {
    const mine = network.turn.then(() => this.#start(network, named));
    network.turn = mine;
    return mine;
  }

  /** Several starts of one network at once, as from several engines behind one ENI. */
  async crowd(network: Network, count: number): Promise<void> {
    await Promise.all(Array.from({ length: count }, () => this.#start(network, null)));
  }

  async #start(network: Network, named: Ipv4 | null): Promise<void> {
    if (!network.isMade) await this.createNetwork(network, false);
    if (!network.isMade) return;
    const address = named ?? '';
    const reply = await this.#ask(network.port, { kind: 'RequestAddress', poolId: network.poolId, address });
    const ip = reply?.Address?.split('/')[0] as Ipv4 | undefined;
    if (ip === undefined) return;
    const holding = watchStart(this.#world.oracle, this, network, ip);
    this.hold(network, ip, named !== null, holding);
  }

  /** A container has the address from now on. */
  hold(network: Network, ip: Ipv4, named: boolean, holding: Holding | null): void {
    const id = this.#world.oracle.newContainer(holding);
    this.containers.push({ id, engine: this, network, ip, named, holding });
  }

  /** `docker stop`. */
  async stop(container: Container): Promise<void> {
    if (!this.containers.includes(container)) return;
    this.containers = this.containers.filter(one => one !== container);
    await this.#release(container);
  }

  /** The container ends, and nobody releases its address. */
  forget(container: Container): void {
    if (!this.containers.includes(container)) return;
    this.containers = this.containers.filter(one => one !== container);
    const { oracle } = this.#world;
    oracle.ended(container.holding);
    oracle.released(container.holding, false);
    if (container.holding !== null) oracle.leaks.add(container.holding);
  }

  async restart(container: Container, keepAddress: boolean): Promise<void> {
    if (!this.containers.includes(container)) return;
    await this.stop(container);
    await this.#world.clock.waitIn(this.process, RESTART_MS);
    await this.run(container.network, keepAddress ? container.ip : null);
  }

  async #release({ network, ip, holding }: Container): Promise<void> {
    const { oracle } = this.#world;
    // Docker's release names no more than the address. That of a container that was cut off from the VPC, and given
    // up on proof, would end the holding of the next one that has its address.
    // A certificate says whose release it is.
    if (holding !== null && oracle.provenOver.has(holding) && !oracle.layout.hasAgents) return;
    oracle.ended(holding);
    const { poolId, port } = network;
    const reply = await this.#ask(port, { kind: 'ReleaseAddress', poolId, address: ip });
    oracle.released(holding, reply !== null && reply.Error === undefined);
  }

  /** A release of what this network does not have: to be answered as success and to change nothing. */
  async strayRelease(network: Network, ip: Ipv4): Promise<void> {
    const { strayReleases } = this.#world.oracle;
    const place = `${network.port.eni} ${ip}`;
    strayReleases.add(place);
    await this.#ask(network.port, { kind: 'ReleaseAddress', poolId: network.poolId, address: ip });
    strayReleases.delete(place);
  }

  /** Whatever a client may say of an ENI that nobody has made a network on. */
  async speakOf(port: Port, ip: Ipv4): Promise<void> {
    await this.#ask(port, { kind: 'ReleaseAddress', poolId: port.eni, address: ip });
    const reply = await this.#ask(port, { kind: 'RequestAddress', poolId: port.eni, address: '' });
    this.#world.oracle.demand(
      reply?.Address === undefined,
      'a request on an ENI that nobody has pooled is refused',
      () => `${reply?.Address} was given on ${port.eni}`,
    );
    await this.#ask(port, { kind: 'ReleasePool', poolId: port.eni });
  }

  async createNetwork(network: Network, fails: boolean): Promise<void> {
    const { port, cidr, subPool } = network;
    const reply = await this.#ask(port, {
      kind: 'RequestPool',
      eni: port.eni,
      pool: formatCidr(cidr),
      subPool,
    });
    if (reply?.PoolID === undefined) return;
    if (fails) await this.#ask(port, { kind: 'ReleasePool', poolId: reply.PoolID });
    else network.isMade = true;
  }

  async removeNetwork(network: Network): Promise<void> {
    await this.strayRelease(network, routerOf(network.cidr));
    await this.#ask(network.port, { kind: 'ReleasePool', poolId: network.poolId });
  }

  /** Kill -9, and start again: with live-restore the containers live on, without it their addresses are
   *  released at the start and the containers started anew. */
  kill(liveRestore: boolean, downMs: number): void {
    const { clock, oracle } = this.#world;
    if (this.process.state === 'dead') return;
    oracle.note(`${this.process.id} is killed`);
    for (const connection of this.connections) connection.hangUp();
    this.connections.clear();
    clock.kill(this.process);
    for (const holding of oracle.releasing) if (holding.engine === this.host) oracle.released(holding, false);
    if (!this.isLost) clock.effect(null, () => this.#begin(liveRestore), downMs);
  }

  #begin(liveRestore: boolean): void {
    if (this.isLost) return;
    this.process = this.#newProcess();
    this.#asking = [];
    for (const network of this.networks) network.turn = Promise.resolve();
    if (liveRestore) return;
    const stale = this.containers;
    this.containers = [];
    for (const { holding } of stale) this.#world.oracle.ended(holding);
    void this.#startAnew(stale);
  }

  async #startAnew(stale: readonly Container[]): Promise<void> {
    for (const container of stale) await this.#release(container);
    await Promise.all(stale.map(({ network, ip, named }) => this.run(network, named ? ip : null)));
  }

  /** The instance is gone, and with it all that ran there. */
  lose(): void {
    const { oracle } = this.#world;
    this.isLost = true;
    for (const { holding } of this.containers) {
      oracle.ended(holding);
      oracle.released(holding, false);
    }
    this.containers = [];
    this.kill(false, 0);
  }

  /** Tries every call of the driver on an ENI of another host. */
  async trespass(port: Port, ip: Ipv4): Promise<void> {
    const { oracle } = this.#world;
    const instance = this.host as InstanceId;
    const cidr = oracle.layout.cidrs.get(port.subnet) as Cidr;
    const calls: Request[] = [
      { kind: 'ReleaseAddress', poolId: port.eni, address: ip },
      { kind: 'RequestPool', eni: port.eni, pool: formatCidr(cidr), subPool: '' },
      { kind: 'RequestAddress', poolId: port.eni, address: '' },
      { kind: 'ReleasePool', poolId: port.eni },
    ];
    for (const request of calls) {
      const isBelieved = oracle.mayBelieve(port.eni, instance);
      // An old server does not record whom it gives an address to. Then whoever is believed to have the ENI may end it.
      const row = oracle.rowIn(port.ledger, port.subnet, ip);
      const isRecorded = row !== undefined && ofItsClaim(row).instance !== null;
      if (request.kind === 'ReleaseAddress' && isBelieved && !isRecorded) continue;
      const wasPooled = oracle.pooled.has(port.eni);
      const place = `${this.host} ${port.eni} ${ip}`;
      if (request.kind === 'ReleaseAddress') oracle.trespasses.add(place);
      const reply = await this.#ask(port, request);
      if (request.kind === 'ReleaseAddress' && reply !== null) oracle.trespasses.delete(place);
      const mayBe = isBelieved || oracle.mayBelieve(port.eni, instance);
      if (!wasPooled && reply?.Error !== undefined) oracle.pooled.delete(port.eni);
      if (mayBe) return this.#forget(port, reply);
      // Without EC2 a release that would change nothing is answered as ever. That holders stay is a rule of its own.
      const mayDoNothing = request.kind === 'ReleaseAddress' || request.kind === 'ReleasePool';
      oracle.demand(
        mayDoNothing || reply === null || reply.Error !== undefined,
        'a host is refused each call on the ENI of another',
        () => `${request.kind} of ${instance} on ${port.eni}: ${JSON.stringify(reply)}`,
      );
    }
  }

  /** No container has the address of the reply. */
  #forget(port: Port, reply: Reply | null): void {
    const ip = reply?.Address?.split('/')[0] as Ipv4 | undefined;
    if (ip === undefined) return;
    const { oracle } = this.#world;
    const holding = oracle.holdingOn(port, ip);
    oracle.ended(holding);
    oracle.released(holding, false);
  }

  /** The ENIs of the calls of its agent that have no answer yet. */
  unanswered = (): EniId[] => [...this.#asking];

  /** Sends the call with an id. Docker is answered in its time, and the agent goes on after that. */
  async #askByAgent(port: Port, request: Request): Promise<Reply | null> {
    const call: AgentCall = {
      id: `${this.host} ${++this.#calls}`,
      instance: this.host as InstanceId,
      startedAt: this.#world.clock.now,
      givenTo: request.kind === 'ReleaseAddress' ? this.#takeGiven(`${port.eni} ${request.address}`) : null,
      readIp: null,
      written: new Map(),
    };
    const { random, restingSince } = this.#world;
    const bound = random.pick(AGENT_BOUNDS_MS);
    const boundMs = restingSince === null && bound !== undefined ? bound : ANSWERED_WITHIN_MS;
    const reply = await this.#repeat(port, request, call, boundMs);
    if (reply === null) void this.#goOn(port, request, call);
    return reply;
  }

  /** Null: the agent was restarted since. */
  #takeGiven(place: string): string | null {
    const id = this.#given.get(place) ?? null;
    this.#given.delete(place);
    return this.#world.random.chance(FORGOTTEN) ? null : id;
  }

  /** Makes a release after all, and releases what a request is given after all. */
  async #goOn(port: Port, request: Request, call: AgentCall): Promise<void> {
    const { oracle } = this.#world;
    if (request.kind !== 'RequestAddress' && request.kind !== 'ReleaseAddress') return;
    this.#asking.push(port.eni);
    oracle.note(`agent of ${this.host}: ${request.kind} ${call.id} is owed`);
    const reply = await this.#repeat(port, request, call, REPEATED_FOR_MS);
    const ip = reply?.Address?.split('/')[0] as Ipv4 | undefined;
    if (ip !== undefined) {
      const holding = oracle.holdingOn(port, ip);
      oracle.ended(holding);
      const release = { kind: 'ReleaseAddress', poolId: request.poolId, address: ip } as const;
      const released = await this.#askByAgent(port, release);
      oracle.released(holding, released !== null && released.Error === undefined);
    }
    this.#asking.splice(this.#asking.indexOf(port.eni), 1);
  }

  /** Sends the call to one server after the other until one answers. */
  async #repeat(port: Port, request: Request, call: AgentCall, forMs: number): Promise<Reply | null> {
    const { clock } = this.#world;
    while (clock.now - call.startedAt < forMs) {
      const server = this.#world.pickServer(port.ledger);
      if (server.process.state !== 'dead' && !server.isLeaving) {
        const sentMsAgo = clock.now - call.startedAt;
        const from = { instance: call.instance, id: call.id, sentMsAgo, givenTo: call.givenTo };
        const outcome = await this.#exchange(server, { ...request, from }, call);
        if (typeof outcome !== 'string' && outcome.status !== 503) {
          call.readIp = (outcome.Address?.split('/')[0] as Ipv4 | undefined) ?? null;
          if (call.readIp !== null) this.#given.set(`${port.eni} ${call.readIp}`, call.id);
          return outcome;
        }
      }
      await clock.waitIn(this.process, forMs > ANSWERED_WITHIN_MS ? OWED_PAUSE_MS : AGENT_PAUSE_MS);
    }
    return null;
  }

  /** The reply of whichever server is asked; null when there was none. */
  async #ask(port: Port, request: Request): Promise<Reply | null> {
    if (this.#world.layout.hasAgents) {
      this.#asking.push(port.eni);
      const reply = await this.#askByAgent(port, request);
      this.#asking.splice(this.#asking.indexOf(port.eni), 1);
      return reply;
    }
    const { clock } = this.#world;
    for (const pauseMs of [...RETRY_MS, null]) {
      const server = this.#world.pickServer(port.ledger);
      if (server.process.state !== 'dead' && !server.isLeaving) {
        const outcome = await this.#exchange(server, request);
        if (outcome === 'hung up') return null;
        if (outcome !== 'the connection broke') return outcome;
        await clock.waitIn(this.process, EMPTY_RETRY_MS);
        const again = this.#world.pickServer(port.ledger);
        if (again.process.state === 'dead') return null;
        const answer = await this.#exchange(again, { kind: 'empty' });
        return typeof answer === 'string' ? null : answer;
      }
      if (pauseMs !== null) await clock.waitIn(this.process, pauseMs);
    }
    return null;
  }

  /** The agent loses patience with the server. */
  #loseWith(connection: Connection): void {
    const { clock } = this.#world;
    const { random } = clock;
    const giveUp = () => {
      if (!this.connections.has(connection)) return;
      if (random.chance(0.5)) connection.hangUp();
      else connection.vanish(random.below(TOLD_AFTER_MS_MAX));
    };
    clock.effect(null, giveUp, random.between(AGENT_WAITS_MS.least, AGENT_WAITS_MS.most));
  }

  #exchange(server: Server, request: Request, call: AgentCall | null = null): Promise<Reply | Broken> {
    const { clock, oracle } = this.#world;
    return new Promise(resolve => {
      const settle = (outcome: Reply | Broken) => {
        this.connections.delete(connection);
        resolve(outcome);
      };
      const connection = createConnection(
        clock,
        server.process,
        this.process,
        witnessOf(oracle, this, request, call),
        settle,
      );
      if (call !== null && this.#world.restingSince === null) this.#loseWith(connection);
      this.connections.add(connection);
      server.accept(connection, request);
    });
  }
}
