/** Everything in one history: ledgers, servers, EC2, engines, and the oracle. */
import { type Cidr, formatCidr } from '../../src/domain/address.ts';
import { formatPoolId } from '../../src/domain/ids.ts';
import { buildVpc } from '../../src/simulator/model/world.ts';
import { Clock } from '../kit/clock.ts';
import { Random } from '../kit/random.ts';
import { Agent } from './agent.ts';
import { Ec2 } from './ec2.ts';
import { Engine, type Network } from './engine.ts';
import { LATE_READ_MS_MAX, type Layout, type Port } from './layout.ts';
import { EPOCH, Ledger } from './ledger.ts';
import { Oracle } from './oracle.ts';
import { Server } from './server.ts';

/** A history with more events than this does not come to rest. */
const STEPS_MAX = 300_000;
/** Between two rounds of a keeper while operations are carried out. */
const KEEPER_PAUSE_MS = 15_000;
/** The same at rest, in this order and again from the start: long enough for the grace, for evidence that takes
 *  two reads, and for addresses known from a refusal only; then for the last idle addresses to be unassigned,
 *  and for other ledgers to read that they are on no ENI. */
const REST_PAUSES_MS = [
  1_000, 935_000, 65_000, 65_000, 65_000, 935_000, 3_600_000, 65_000, 65_000, 610_000, 935_000, 65_000,
  3_600_000, 65_000, 65_000, 65_000,
];
const REST_LAST_MS = 60_000;
export const REST_MS = REST_PAUSES_MS.reduce((sum, ms) => sum + ms, 0) + REST_LAST_MS;

/** The VPC is older than the latest read. */
const STARTS_MS = LATE_READ_MS_MAX;

export interface Place {
  readonly engine: Engine;
  readonly network: Network;
}

export class World {
  readonly clock: Clock;
  readonly layout: Layout;
  readonly oracle: Oracle;
  readonly ec2: Ec2;
  readonly ledgers: Ledger[];
  readonly servers: Server[];
  readonly engines: Engine[];
  /** Of the hosts of central servers: one for each ledger that serves ENIs of the host. */
  readonly agents: Agent[];
  readonly random: Random;
  /** How often each operation was carried out. */
  readonly counts = new Map<string, number>();
  restingSince: number | null = null;
  /** Faults go on until then: an operation that takes long is under way. */
  faultsUntil = 0;
  /** Where requests go, by ledger, while that server takes them. */
  readonly routes = new Map<number, Server>();

  constructor(layout: Layout, seed: number, tracing: boolean) {
    this.layout = layout;
    this.random = new Random(seed ^ 0x5eed);
    this.clock = new Clock({ seed, isClosed: true });
    const { clock } = this;
    const vpc = buildVpc(layout.vpc, {
      now: () => EPOCH + clock.now,
      random: this.random.next,
      bucketScale: layout.pace.bucketScale,
      unnamedRefusals: layout.unnamedRefusals,
    });
    this.oracle = new Oracle(layout, clock, vpc.network, tracing);
    clock.now = STARTS_MS; // even the oldest read shows the VPC as it was made
    this.ec2 = new Ec2(clock, this.oracle, vpc);
    this.ledgers = this.oracle.mirrors.map(mirror => new Ledger(clock, this.oracle, mirror));
    for (const ledger of this.ledgers) if (layout.quota !== null) ledger.setQuota(layout.quota);
    this.servers = this.ledgers.flatMap((ledger, index) =>
      Array.from(
        { length: layout.servers[index] ?? 1 },
        (_, i) => new Server(this, ledger, `server ${index + 1}${String.fromCharCode(97 + i)}`),
      ),
    );
    const hosts = [...new Set(layout.ports.map(port => port.instance))];
    this.engines = hosts.map(host => new Engine(this, host, this.#networksOf(host)));
    this.agents = !layout.hasAgents
      ? []
      : this.engines.flatMap(engine => this.ledgers.map((_, ledger) => new Agent(this, engine, ledger)));
  }

  /** One or two networks on each ENI of the host. */
  #networksOf(host: string): Network[] {
    return this.layout.ports
      .filter(port => port.instance === host)
      .flatMap(port => {
        const whole = this.networkOn(port);
        return this.random.chance(0.25) ? [whole, this.networkOn(port, true)] : [whole];
      });
  }

  /** A network on the ENI that takes any address of the subnet, or those of its upper half. */
  networkOn(port: Port, isHalf = false): Network {
    const cidr = this.layout.cidrs.get(port.subnet) as Cidr;
    const range = isHalf ? { first: cidr.first + 8, last: cidr.last, maskLength: 29 } : null;
    const poolId = formatPoolId({ eni: port.eni, range });
    const subPool = range === null ? '' : formatCidr(range);
    return { port, cidr, poolId, subPool, isMade: false, turn: Promise.resolve() };
  }

  /** A server of the ledger, alive or not. */
  pickServer(ledger: number): Server {
    const routed = this.routes.get(ledger);
    if (routed !== undefined && routed.process.state === 'running' && !routed.isLeaving) return routed;
    const all = this.servers.filter(server => server.ledger === this.ledgers[ledger]);
    return this.clock.random.pick(all) ?? (this.servers[0] as Server);
  }

  /** How long a keeper waits now. */
  keeperPauseMs(): number {
    if (this.restingSince === null) return KEEPER_PAUSE_MS;
    let passedMs = (this.clock.now - this.restingSince) % REST_MS;
    for (const pauseMs of REST_PAUSES_MS) {
      if (passedMs < pauseMs * 0.9) return pauseMs;
      passedMs -= pauseMs;
    }
    return REST_LAST_MS;
  }

  /** Whether a rule was broken. */
  isOver(): boolean {
    if (this.clock.steps > STEPS_MAX) this.oracle.fail('it comes to rest', `not within ${STEPS_MAX} events`);
    return this.oracle.violation !== null;
  }

  pass = (ms: number): Promise<void> => this.clock.advance(ms, () => this.isOver());

  /** The networks of the engines. */
  places = (): Place[] =>
    this.engines
      .filter(engine => !engine.isLost)
      .flatMap(engine => engine.networks.map(network => ({ engine, network })));

  count(operation: string): void {
    this.counts.set(operation, (this.counts.get(operation) ?? 0) + 1);
  }
}
