/** Everything in one history: ledgers, servers, EC2, engines, and the oracle. */
import type { Cidr, Ipv4 } from '../../src/domain/address.ts';
import { formatPoolId } from '../../src/domain/ids.ts';
import { ipv4sOf } from '../../src/simulator/model/records.ts';
import { buildVpc } from '../../src/simulator/model/world.ts';
import { Clock } from '../kit/clock.ts';
import { Random } from '../kit/random.ts';
import type { Reply, Witness } from './connection.ts';
import { Ec2 } from './ec2.ts';
import { Engine, keyFor, type Network } from './engine.ts';
import { keyOf, LATE_READ_MS_MAX, type Layout, type Port, STRANGER } from './layout.ts';
import { EPOCH, Ledger } from './ledger.ts';
import { type Holding, type Mirror, Oracle } from './oracle.ts';
import { type Request, Server } from './server.ts';

/** Between two rounds of a keeper while things happen. */
const KEEPER_PAUSE_MS = 15_000;
/** The same at rest, one after the other and again: long enough for the grace, for what must be seen twice, and for
 *  addresses known from a refusal only; then for the last idle addresses to be given back, and for other ledgers to see
 *  that they are on no ENI any more. */
const REST_PAUSES_MS = [
  1_000, 935_000, 65_000, 65_000, 65_000, 935_000, 3_600_000, 65_000, 65_000, 610_000, 935_000, 65_000,
  3_600_000, 65_000, 65_000, 65_000,
];
const REST_LAST_MS = 60_000;
export const REST_MS = REST_PAUSES_MS.reduce((sum, ms) => sum + ms, 0) + REST_LAST_MS;

/** The VPC is older than the latest read. */
const STARTS_MS = LATE_READ_MS_MAX;

export class World {
  readonly clock: Clock;
  readonly layout: Layout;
  readonly oracle: Oracle;
  readonly ec2: Ec2;
  readonly ledgers: Ledger[];
  readonly servers: Server[];
  readonly engines: Engine[];
  readonly random: Random;
  /** How often each operation was carried out. */
  readonly counts = new Map<string, number>();
  restingSince: number | null = null;
  /** Releases under way. */
  readonly #releasing = new Set<Holding>();

  constructor(layout: Layout, seed: number, tracing: boolean) {
    this.layout = layout;
    this.random = new Random(seed ^ 0x5eed);
    this.clock = new Clock({ seed, isClosed: true });
    const { clock } = this;
    this.oracle = new Oracle(layout, clock, tracing);
    const vpc = buildVpc(layout.vpc, {
      now: () => EPOCH + clock.now,
      random: this.random.next,
      bucketScale: layout.pace.bucketScale,
      unnamedRefusals: layout.unnamedRefusals,
    });
    this.oracle.network = () => vpc.network;
    for (const eni of vpc.network.enis())
      for (const ip of eni.id === STRANGER ? ipv4sOf(eni) : eni.secondaries)
        this.oracle.strangers.set(keyOf(eni.subnet, ip), eni.id);
    clock.now = STARTS_MS; // a read that is late sees the VPC as it was made
    this.ec2 = new Ec2(clock, this.oracle, vpc);
    this.ledgers = this.oracle.mirrors.map(mirror => new Ledger(clock, this.oracle, mirror));
    this.servers = this.ledgers.flatMap((ledger, index) =>
      Array.from(
        { length: layout.servers[index] ?? 1 },
        (_, i) => new Server(this, ledger, `server ${index + 1}${String.fromCharCode(97 + i)}`),
      ),
    );
    const hosts = [...new Set(layout.ports.map(port => port.instance))];
    this.engines = hosts.map(host => new Engine(this, host, this.#networksOf(host)));
  }

  /** One or two networks on each ENI of the host; the second takes its addresses from the upper half. */
  #networksOf(host: string): Network[] {
    return this.layout.ports
      .filter(port => port.instance === host)
      .flatMap(port => {
        const cidr = this.layout.cidrs.get(port.subnet);
        if (cidr === undefined) return [];
        const upper = { first: cidr.first + 8, last: cidr.last, maskLength: 29 };
        const whole = this.networkOn(port);
        const part = {
          port,
          cidr,
          poolId: formatPoolId({ eni: port.eni, range: upper }),
          subPool: `10.0.${cidr.first % 65536 >= 512 ? 2 : 1}.8/29`,
        };
        const both = this.random.chance(0.25) ? [whole, part] : [whole];
        return both.map(network => ({ ...network, isMade: false, turn: Promise.resolve() }));
      });
  }

  /** The network on the ENI that takes any address of the subnet. */
  networkOn(port: Port): Network {
    const cidr = this.layout.cidrs.get(port.subnet) as Cidr;
    const poolId = formatPoolId({ eni: port.eni, range: null });
    return { port, cidr, poolId, subPool: '', isMade: false, turn: Promise.resolve() };
  }

  #mirror = (ledger: number): Mirror => this.oracle.mirrors[ledger] as Mirror;

  /** Where requests go, by ledger, while that server takes them. */
  readonly routes = new Map<number, Server>();

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

  count(operation: string): void {
    this.counts.set(operation, (this.counts.get(operation) ?? 0) + 1);
  }

  // What engines know and do, for the oracle.

  /** A container has its address. */
  began(engine: Engine, network: Network, ip: Ipv4): Holding | null {
    const key = keyFor(network, ip);
    const { oracle } = this;
    oracle.note(`${engine.process.id}: a container has ${ip} on ${network.port.eni}`);
    const row = oracle.rowIn(network.port.ledger, network.port.subnet, ip);
    oracle.demand(
      row?.status === 'allocated' && row.iface === network.port.eni,
      'what a container was given is held in the ledger',
      () => `${key} is ${row?.status} on ${row?.iface}`,
    );
    const holding = oracle.held.get(key);
    return holding?.eni === network.port.eni && holding.ledger === network.port.ledger ? holding : null;
  }

  /** A container has ended; its address is about to be released. */
  ended(holding: Holding | null): void {
    if (holding === null) return;
    const key = keyOf(holding.subnet, holding.ip);
    this.oracle.note(`engine ${holding.engine}: the container with ${holding.ip} on ${holding.eni} ends`);
    if (this.oracle.held.get(key) === holding) this.oracle.held.delete(key);
    this.#releasing.add(holding);
  }
  released(holding: Holding | null): void {
    if (holding !== null) this.#releasing.delete(holding);
  }
  /** Its release has reached nobody, or nobody knows. */
  unreleased(holding: Holding | null): void {
    if (holding === null) return;
    this.#releasing.delete(holding);
    const key = keyOf(holding.subnet, holding.ip);
    this.oracle.lose(this.#mirror(holding.ledger), key, 'its release was not answered', holding.claim);
  }
  /** Whether the holder was given up on proof. */
  isProvenOver = (holding: Holding | null): boolean => holding !== null && this.oracle.proven.has(holding);

  /** Whose releases are under way. */
  releasing(engine: Engine): Holding[] {
    return [...this.#releasing].filter(one => one.engine === engine.host);
  }

  /** Tells the oracle what becomes of a request for an address. */
  witness(engine: Engine, request: Request): Witness {
    if (request.kind !== 'RequestAddress') return { written() {}, unread() {} };
    const port = engine.networks.find(one => one.poolId === request.poolId)?.port;
    if (port === undefined) return { written() {}, unread() {} };
    const ipOf = (reply: Reply) => reply.Address?.split('/')[0] as Ipv4 | undefined;
    return {
      written: reply => {
        const ip = ipOf(reply);
        this.oracle.note(`answer for ${port.eni}: ${reply.Address ?? reply.Error}`);
        if (ip !== undefined) this.#promised(engine, port, ip);
      },
      unread: reply => {
        const ip = ipOf(reply);
        if (ip === undefined) return;
        const key = keyOf(port.subnet, ip);
        const holding = this.oracle.held.get(key);
        if (holding?.eni === port.eni && holding.ledger === port.ledger) this.oracle.held.delete(key);
        this.oracle.lose(this.#mirror(port.ledger), key, 'its answer was read by nobody');
      },
    };
  }

  #promised(engine: Engine, port: Port, ip: Ipv4): void {
    const { oracle } = this;
    const key = keyOf(port.subnet, ip);
    const other = oracle.held.get(key);
    const isDead = oracle.hasLeft(port);
    oracle.demand(
      other === undefined || oracle.hasLeft(other) || isDead,
      'no address is given twice',
      () => `${key} was answered to ${engine.host} while ${other?.engine} holds it on ${other?.eni}`,
    );
    oracle.demand(
      isDead || oracle.secondaries(port.eni).includes(ip) || oracle.stolen.get(key) === port.eni,
      'what is answered is on its ENI',
      () => `${key} was answered for ${port.eni}`,
    );
    oracle.demand(
      !oracle.unlogged.has(key),
      'early reuse is logged',
      () => `${key} was answered for ${port.eni} before it had rested`,
    );
    for (const claims of oracle.unanswered.values()) claims.delete(key);
    if (isDead && other !== undefined) return; // the address is the other's
    // Should its ENI come back to it, its address is its own no more.
    if (other !== undefined) oracle.lose(this.#mirror(other.ledger), key, 'its ENI had left', other.claim);
    const claim = oracle.claimOf(this.#mirror(port.ledger), key);
    oracle.held.set(key, {
      subnet: port.subnet,
      ip,
      eni: port.eni,
      engine: engine.host,
      ledger: port.ledger,
      claim,
      since: this.clock.now,
    });
  }
}
