/** A server process: the whole program, with a memory of its own, behind connections that can break. */
import type { Answer } from '../../src/agent/server-client.ts';
import { formatCidr, type Ipv4, parseIpv4 } from '../../src/domain/address.ts';
import type { Change } from '../../src/domain/allocation.ts';
import { createDeadlineClock } from '../../src/domain/clock.ts';
import { IpamError, isError } from '../../src/domain/error.ts';
import { type EniId, type InstanceId, type Pool, parsePoolId } from '../../src/domain/ids.ts';
import type { Log } from '../../src/domain/log.ts';
import { ANYBODY, type Origin } from '../../src/domain/origin.ts';
import { type HostReading, WITNESS_AGE_MS } from '../../src/domain/witness.ts';
import { handOver } from '../../src/http/answer.ts';
import { WITNESS_PATHS } from '../../src/http/hosts/witness.ts';
import { OLD_INPUT_MS, STOP_MS_MIN } from '../../src/http/pulse.ts';
import type { IpamContext } from '../../src/ipam/context.ts';
import { type Ipam, openIpam, type WitnessOptions } from '../../src/ipam/ipam.ts';
import type { Caller } from '../../src/simulator/model/caller.ts';
import { createGroupCommit } from '../../src/store/group-commit.ts';
import type { Store } from '../../src/store/store.ts';
import type { ProbeAnswer } from '../../src/witness/witness.ts';
import { Process } from '../kit/clock.ts';
import { createContext } from '../kit/world.ts';
import type { Connection, Reply } from './connection.ts';
import { keyOf } from './layout.ts';
import { EPOCH, type Ledger, ROW_IS_LOCKED } from './ledger.ts';
import type { Oracle } from './oracle.ts';
import { POOL_SLACK_MS, REQUEST_SLACK_MS } from './watch-ec2.ts';
import { watchEarlyReuse } from './watch-ledger.ts';
import { createSimulatedWitness } from './witness.ts';
import type { World } from './world.ts';

const KEPT = 'release refused, address perhaps given anew';
const RECONCILE_EVERY_MS = 30_000;
/** Commits of one process at a time, as with a database. */
const LANES_MAX = 2;
/** A server that stops looks this often whether all requests are answered, and gives its keeper this long. */
const LEAVING_LOOK_MS = 50;
const KEEPER_STOP_MAX_MS = 15_000;
/** Within it a process that thaws handles all that had come to it. */
const TURN_MS = 5;

/** What an engine sends. */
export type Request = Sent & { readonly from?: Origin };
type Sent =
  | { readonly kind: 'RequestPool'; readonly eni: EniId; readonly pool: string; readonly subPool: string }
  | { readonly kind: 'ReleasePool'; readonly poolId: string }
  | { readonly kind: 'RequestAddress' | 'ReleaseAddress'; readonly poolId: string; readonly address: string }
  /** What it sends after a broken connection. */
  | { readonly kind: 'empty' };

/** What one process works with: a server, or a command. */
export function contextOf(world: World, ledger: Ledger, process: Process, caller?: Caller): IpamContext {
  const { clock: time, oracle, layout, ec2 } = world;
  const { mirror } = ledger;
  const wrote = new Map();
  const startedAt = time.now - time.random.below(1_000_000);
  const clock = () => time.now - startedAt - process.asleepMs;
  const deadlines = createDeadlineClock(clock, () => EPOCH + time.now + process.dayAheadMs);
  const connected = ledger.connect(process, wrote);
  const later = (work: () => void, ms: number) => {
    let isWanted = true;
    time.resume(process, () => isWanted && work(), ms);
    return () => {
      isWanted = false;
    };
  };
  const move = createGroupCommit(connected.move, {
    lanesMax: LANES_MAX,
    gather: work => time.resume(process, work, 0),
    clock,
    later,
    locked: changes => ledger.locked(process, changes),
  });
  const log: Log = (_level, message, { error, eni, ip } = {}) => {
    if (error !== undefined) oracle.note(`${process.id}: ${message}: ${error}`);
    if (message === KEPT) noteKept(world, ledger, process, eni as EniId, ip as Ipv4);
    if (message === 'early reuse') {
      const mayBeWithheld = new Set(world.engines.flatMap(({ faults }) => [...faults.hasRunOn]));
      const reuse = { eni: eni as EniId, ip: String(ip), storeNow: ledger.now(), mayBeWithheld };
      watchEarlyReuse(oracle, mirror, process, reuse);
    }
    if (error instanceof Error && !(error instanceof IpamError)) oracle.crash(error);
  };
  return createContext(time, {
    store: { ...connected, move: watchLocks(oracle, ledger, move) },
    client: ec2.connect(process, mirror, deadlines, wrote, caller),
    limits: { share: layout.pace.share, budget: layout.pace.isShared ? connected : null },
    policy: layout.policy,
    clock,
    deadlineClock: deadlines,
    wait: (ms, signal) => time.waitIn(process, ms, signal),
    host: { instance: layout.owners[mirror.index] ?? null },
    random: time.random.next,
    log,
  });
}

/** Demands that a lock fails only moves of its row. */
function watchLocks(oracle: Oracle, ledger: Ledger, move: Store['move']): Store['move'] {
  return async changes => {
    const locks = new Map(ledger.lockedUntil);
    try {
      return await move(changes);
    } catch (error) {
      const wasLocked = ({ row }: Change) => {
        const key = keyOf(row.subnet, row.ip);
        return locks.has(key) || ledger.lockedUntil.has(key);
      };
      oracle.demand(
        !(error instanceof IpamError) || error.message !== ROW_IS_LOCKED || changes.some(wasLocked),
        'a lock keeps back the moves of its row only',
        () => changes.map(({ row, move: name }) => `${name} of ${row.ip}`).join(),
      );
      throw error;
    }
  };
}

/** A process notices within this time that a clock was wrong. */
const CLOCKS_LEARNT_MS = 60_000;

/** A process whose clock was wrong since the claim cannot know whether the release came before it, and keeps the
 *  holder. */
function noteKept({ oracle, layout }: World, ledger: Ledger, process: Process, eni: EniId, ip: Ipv4): void {
  const subnet = layout.ports.find(port => port.eni === eni)?.subnet;
  if (subnet === undefined) return;
  const { mirror } = ledger;
  const key = keyOf(subnet, ip);
  const claimedAt = mirror.since.get(key) ?? 0;
  const isUnsure = Math.max(ledger.setBackAt, process.unsteadyAt) >= claimedAt - CLOCKS_LEARNT_MS;
  const holding = oracle.held.get(key);
  const isGivenAnew = holding?.ledger === mirror.index && holding.eni === eni;
  if (isUnsure && !isGivenAnew) oracle.lose(mirror, key, 'its release was not made, and that was said');
}

const WITNESS_EVERY_MS = 60_000;

/** What an agent sends with its ticket. */
interface Said {
  readonly ticket: string;
  readonly reading: HostReading;
  readonly answers: readonly ProbeAnswer[];
}

/** How a server of the ledger weighs what hosts show; null: it is told of none. */
export function witnessFor(world: World, { mirror }: Ledger, process: Process): WitnessOptions | null {
  const host = world.layout.owners[mirror.index] ?? null;
  if (host === null && !world.layout.hasAgents) return null;
  const own =
    host === null
      ? null
      : { witness: createSimulatedWitness(world, process, host), everyMs: WITNESS_EVERY_MS };
  return { mode: 'release', ageMs: WITNESS_AGE_MS, own };
}

/** As `createPulse`. */
function inputAgeMs({ wentOn: { at, afterMs } }: Process, now: number): number {
  return afterMs >= STOP_MS_MIN && now - at < OLD_INPUT_MS ? now - at + afterMs : 0;
}
/** The calls whose age counts. */
const OF_ADDRESSES: readonly Request['kind'][] = ['RequestAddress', 'ReleaseAddress'];

export class Server {
  readonly ledger: Ledger;
  readonly connections = new Set<Connection>();
  readonly #world: World;
  readonly #name: string;
  #lives = 0;
  #life: { readonly process: Process; readonly ipam: Ipam };
  /** It was told to stop and accepts no more requests. */
  isLeaving = false;
  /** Releases that have come in and have not ended. */
  readonly #inHand = new Set<{ readonly key: string; readonly process: Process }>();

  constructor(world: World, ledger: Ledger, name: string) {
    this.#world = world;
    this.ledger = ledger;
    this.#name = name;
    this.#life = this.#start();
  }

  get process(): Process {
    return this.#life.process;
  }

  /** A new process, with an empty memory. */
  restart(): void {
    if (this.process.state !== 'dead' || this.ledger.isLost) return;
    this.isLeaving = false;
    this.#life = this.#start();
  }

  #start() {
    const { clock, oracle } = this.#world;
    const process = new Process(`${this.#name}.${++this.#lives}`);
    oracle.note(`${process.id} starts`);
    oracle.unanswered.set(process, new Set());
    const ipam = openIpam(contextOf(this.#world, this.ledger, process), {
      server: process.id,
      reconcileEveryMs: RECONCILE_EVERY_MS,
      pause: () => clock.waitIn(process, this.#world.keeperPauseMs()),
      witness: witnessFor(this.#world, this.ledger, process),
    });
    void ipam.keeper.run();
    return { process, ipam };
  }

  /** SIGTERM: finishes its requests, notes its end and exits; it is started again later. */
  async leave(awayMs: number): Promise<void> {
    const { clock, oracle } = this.#world;
    const { process, ipam } = this.#life;
    oracle.note(`${process.id} is told to stop`);
    this.isLeaving = true;
    while (this.connections.size > 0) await clock.waitIn(process, LEAVING_LOOK_MS);
    await ipam.keeper.stop(KEEPER_STOP_MAX_MS);
    if (this.process !== process || process.state === 'dead') return;
    this.die();
    clock.effect(null, () => this.restart(), this.#world.restingSince === null ? awayMs : 0);
  }

  die(): void {
    const { process, connections } = this;
    const { clock, oracle } = this.#world;
    oracle.note(`${process.id} dies`);
    clock.kill(process);
    for (const key of oracle.unanswered.get(process) ?? [])
      oracle.lose(this.ledger.mirror, key, `${process.id} died before it had answered`);
    oracle.unanswered.delete(process);
    for (const connection of connections) connection.break();
    connections.clear();
  }

  /** A request comes in. */
  accept(connection: Connection, request: Request): void {
    this.connections.add(connection);
    this.#world.clock.resume(this.process, () => void this.#handle(connection, request));
  }

  /** An agent tells of its host. */
  hear(host: InstanceId, path: string, body: string, answered: (answer: Answer) => void): void {
    this.#world.clock.resume(this.process, () => {
      void this.#weigh(host, path, JSON.parse(body)).then(
        reply => answered({ status: 200, text: JSON.stringify(reply) }),
        error => {
          if (!(error instanceof IpamError) || error.code === 'internal') this.#world.oracle.crash(error);
          answered({ status: 503, text: JSON.stringify({ Error: String(error) }) });
        },
      );
    });
  }

  async #weigh(host: InstanceId, path: string, said: Said): Promise<object> {
    const { testimony } = this.#life.ipam;
    if (testimony === null) return { witness: 'off' };
    switch (path) {
      case WITNESS_PATHS.begin:
        return await testimony.begin(host);
      case WITNESS_PATHS.readings:
        return { probes: await testimony.readings(host, said.ticket, said.reading) };
      default:
        await testimony.probed(host, said.ticket, said.answers);
        return {};
    }
  }

  async #handle(connection: Connection, request: Request): Promise<void> {
    const { process } = this;
    const { clock, oracle, layout } = this.#world;
    const ageMs = inputAgeMs(process, clock.now);
    if (ageMs > 0 && OF_ADDRESSES.includes(request.kind)) {
      if ((request.from?.id ?? null) !== null) {
        connection.write({ Error: 'stopped', status: 503 });
        this.connections.delete(connection);
        return;
      }
      request = { ...request, from: { ...ANYBODY, ...request.from, sentMsAgo: ageMs } };
    }
    const startedAt = clock.now;
    const frozenBefore = process.frozenMs;
    try {
      const reply = await this.#serve(connection, request);
      if (reply !== null) connection.write(reply);
    } catch (error) {
      if (!(error instanceof IpamError) || error.code === 'internal') oracle.crash(error);
      if (request.kind === 'RequestAddress') watchRefusal(this.#world, this, request.poolId, error);
      const isElsewhere = isError(error, 'store-down') && (request.from?.id ?? null) !== null;
      connection.write({
        Error: error instanceof IpamError ? error.line : 'internal',
        ...(isElsewhere ? { status: 503 } : {}),
      });
    }
    this.connections.delete(connection);
    const tookMs = clock.now - startedAt - (process.frozenMs - frozenBefore);
    const slackMs = request.kind === 'RequestPool' ? POOL_SLACK_MS : REQUEST_SLACK_MS;
    oracle.demand(
      tookMs <= layout.policy.requestTimeoutMs + slackMs,
      'every request ends within its bound',
      () => `${request.kind} took ${tookMs} ms`,
    );
  }

  /** The reply; null when it was handed over already. */
  async #serve(connection: Connection, request: Request): Promise<Reply | null> {
    const { pools } = this.#life.ipam;
    const { from = ANYBODY } = request;
    switch (request.kind) {
      case 'empty':
        return { Error: 'without a body' };
      case 'ReleasePool':
        await pools.release(parsePoolId(request.poolId), from);
        return {};
      case 'RequestPool': {
        const { eni: eniId, pool, subPool } = request;
        this.#world.oracle.pooled.add(eniId);
        return { PoolID: (await pools.request({ eniId, instanceId: null, pool, subPool, from })).poolId };
      }
      case 'ReleaseAddress':
        return await this.#release(connection, parsePoolId(request.poolId), parseIpv4(request.address), from);
      case 'RequestAddress': {
        const named = request.address === '' ? null : parseIpv4(request.address);
        return await this.#give(connection, parsePoolId(request.poolId), named, from);
      }
    }
  }

  async #release(connection: Connection, pool: Pool, ip: Ipv4, from: Origin): Promise<Reply> {
    const release = { key: `${pool.eni} ${ip}`, process: this.process };
    this.#inHand.add(release);
    let isLate = false;
    const opened = async () => {
      if (from.id === null) return;
      await this.#world.clock.waitIn(this.process, TURN_MS);
      isLate = connection.isGone();
    };
    try {
      await this.#life.ipam.allocator.release(pool, ip, opened, { from, isLate: () => isLate });
      if (from.id === null && from.sentMsAgo > 0) this.#noteUnmade(pool.eni, ip);
    } finally {
      this.#inHand.delete(release);
    }
    return {};
  }

  /** Nobody can tell a release in the moment after a stop, of what was given since the stop began, from one that was sent
   *  before. */
  #noteUnmade(eni: EniId, ip: Ipv4): void {
    const { oracle } = this.#world;
    const { mirror } = this.ledger;
    const subnet = oracle.eni(eni)?.subnet;
    const key = `${subnet} ${ip}`;
    if (mirror.rows.get(key)?.status === 'allocated')
      oracle.lose(mirror, key, 'it was released in the moment after a stop');
  }

  async #give(connection: Connection, pool: Pool, named: Ipv4 | null, from: Origin): Promise<null> {
    const { process, ipam } = this.#life;
    const { oracle } = this.#world;
    const { mirror } = this.ledger;
    const naming = `${process.id} ${pool.eni} ${named}`;
    const inHand = [...this.#inHand].filter(
      one => one.process === process && one.key === `${pool.eni} ${named}`,
    );
    const startedAt = oracle.now;
    oracle.requests.set(connection, { process, eni: pool.eni, ranged: pool.range !== null });
    oracle.named.set(naming, (oracle.named.get(naming) ?? 0) + 1);
    try {
      const asked = { pool, named, holder: null, caller: connection.signal, from };
      const { row, home, isRepeated, isStale } = await ipam.allocator.request(asked);
      const { cidr } = home.subnet;
      const body = { Address: `${row.ip}/${cidr.maskLength}`, Data: {} };
      await handOver(connection.context(), connection, body, {
        undo: async () => {
          // Nobody can tell whether the agent has read the answer that it repeats.
          if (isRepeated)
            oracle.lose(mirror, keyOf(row.subnet, row.ip), 'its repeated answer went to nobody');
          else await ipam.allocator.undo(row);
        },
        isStale,
      });
      connection.write({ Error: 'the caller has gone' });
      oracle.demand(
        formatCidr(cidr) === formatCidr(oracle.layout.cidrs.get(row.subnet) ?? cidr),
        'the prefix is that of the subnet',
        () => formatCidr(cidr),
      );
      return null;
    } catch (error) {
      const tookMs = oracle.now - startedAt;
      const isHeldHere =
        error instanceof IpamError &&
        error.message.includes('is held by') &&
        error.message.endsWith(` on ${pool.eni}`);
      oracle.demand(
        !isHeldHere ||
          !inHand.some(one => this.#inHand.has(one)) ||
          tookMs >= oracle.layout.policy.requestTimeoutMs - REQUEST_SLACK_MS,
        'no request overtakes a release of its address that its server has in hand',
        () => `${named} on ${pool.eni} after ${tookMs} ms`,
      );
      throw error;
    } finally {
      oracle.requests.delete(connection);
      oracle.named.set(naming, (oracle.named.get(naming) ?? 1) - 1);
    }
  }
}

/** A request of the only server must get what was assigned for it. */
function watchRefusal({ oracle, layout }: World, server: Server, poolId: string, error: unknown): void {
  if (!(error instanceof IpamError) || !error.message.startsWith('other requests claimed')) return;
  if (server.process.frozenMs > 0 || layout.servers[server.ledger.mirror.index] !== 1) return;
  const { mirror } = server.ledger;
  const fresh = [...mirror.rows.values()].filter(
    row =>
      row.iface === poolId &&
      row.status === 'ready' &&
      mirror.gaveUp.get(keyOf(row.subnet, row.ip)) === undefined,
  );
  oracle.demand(
    fresh.length < oracle.waiting(server.process, poolId as EniId) + 1,
    'a request gets what was assigned for it',
    () => `${fresh.map(row => row.ip).join(' ')} are ready on ${poolId}`,
  );
}
