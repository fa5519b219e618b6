/** One ledger: a memory store behind a connection that can be slow, cut, or lose an answer. */
import type { Ipv4 } from '../../src/domain/address.ts';
import { type Allocation, type Change, ofItsClaim, type Status } from '../../src/domain/allocation.ts';
import { IpamError } from '../../src/domain/error.ts';
import type { EniId, SubnetId } from '../../src/domain/ids.ts';
import { TENANT_TAG } from '../../src/domain/tenant.ts';
import { LockedError, keyOf as storeKeyOf } from '../../src/store/group-commit.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import type { LateOutcomes, Moved, NewAllocation, Store } from '../../src/store/store.ts';
import type { Clock, Process } from '../kit/clock.ts';
import { wrapStore } from '../kit/world.ts';
import { APART_MS_MAX, keyOf, STEPS_APART_MS, TENANT } from './layout.ts';
import type { Mirror, Oracle } from './oracle.ts';
import { watchAdoption, watchMove } from './watch-ledger.ts';

/** The clocks at the start, in milliseconds since 1970. */
export const EPOCH = 1_800_000_000_000;
/** How long a statement waits for a lock, and how often it looks. */
const LOCK_WAIT_MS = 1_000;
const LOCK_LOOK_MS = 100;
const GONE = new IpamError('store-down', 'the ledger is gone');
export const ROW_IS_LOCKED = 'a stranger keeps a row locked';
const tellLocked = (changes: readonly Change[]): IpamError =>
  new IpamError('store-down', ROW_IS_LOCKED, { addresses: changes.map(({ row }) => row.ip) });
const COUNTED: ReadonlySet<Status> = new Set(['ready', 'assigning', 'unassigning', 'allocated']);
const READS = new Set(
  'outdated get withRequest onEni readyOn freeFor intents withStatus tally subnets eni enis servers fact lateOutcomes sightings usedSightings witnesses tenants tenantOf history historyEnd ec2Calls'.split(
    ' ',
  ),
);

export class Ledger {
  readonly mirror: Mirror;
  base: Store;
  /** It is lost, and nobody can reach the next one yet. */
  isLost = false;
  /** All that have connected to it. */
  readonly processes = new Set<Process>();
  /** How far its clock is off now. */
  skewMs = 0;
  /** When its clock was last set back; true time. */
  setBackAt = Number.NEGATIVE_INFINITY;
  /** How far its clock is from EC2's, small steps left out. */
  apartMs: number;
  /** When it was last set. */
  steppedAt = Number.NEGATIVE_INFINITY;
  /** It cannot be reached before then. */
  awayUntil = 0;
  /** Rows that a stranger has locked, by key, and until when. */
  readonly lockedUntil = new Map<string, number>();
  /** By process: what its moves did although they were reported as failed. */
  readonly #lateOutcomes = new Map<Process, Moved[]>();
  /** By process: how many statements fail, and how many succeed before those. */
  readonly failing = new Map<Process, { after: number; left: number }>();
  /** Of the tenant; null: it is not declared. */
  #quota: number | null = null;
  /** The tenant of each ENI in the ledger. */
  readonly #tenants = new Map<EniId, string | null>();
  readonly #clock: Clock;
  readonly #oracle: Oracle;

  constructor(clock: Clock, oracle: Oracle, mirror: Mirror) {
    this.#clock = clock;
    this.#oracle = oracle;
    this.mirror = mirror;
    this.apartMs = clock.random.chance(0.5) ? 0 : clock.random.between(-APART_MS_MAX, APART_MS_MAX);
    this.skewMs = this.apartMs;
    this.setSkew(0);
    this.steppedAt = Number.NEGATIVE_INFINITY;
    this.base = createMemoryStore({ clock: this.now });
  }

  setQuota(quota: number): void {
    this.#quota = quota;
    void this.base.saveTenant({ name: TENANT, quota, profile: null });
  }

  /** An empty ledger takes its place. Whoever was connected to it has died. */
  beginAnew(): void {
    for (const process of this.processes) this.#clock.kill(process);
    this.processes.clear();
    this.base = createMemoryStore({ clock: this.now });
    if (this.#quota !== null) this.setQuota(this.#quota);
    this.isLost = false;
    const { rows, since, gaveUp, left, unansweredCalls } = this.mirror;
    for (const known of [rows, since, gaveUp, left, unansweredCalls]) known.clear();
    for (const known of [this.#tenants, this.#lateOutcomes, this.failing, this.lockedUntil]) known.clear();
  }

  /** How many more addresses the tenant may have; below 0: it has too many. */
  #room(): number {
    if (this.#quota === null) return Number.POSITIVE_INFINITY;
    const isCounted = ({ status, primary, iface }: Allocation) =>
      COUNTED.has(status) && !primary && iface !== null && this.#tenants.get(iface) === TENANT;
    return this.#quota - [...this.mirror.rows.values()].filter(isCounted).length;
  }

  /** How many more the ENI may have. Its tenant is that in the ledger, or in EC2 when it is read again. */
  roomFor(eni: EniId): number {
    const tenants = [this.#tenants.get(eni), this.#oracle.eni(eni)?.tags[TENANT_TAG]];
    return tenants.includes(TENANT) ? this.#room() : Number.POSITIVE_INFINITY;
  }

  /** Two steps that cancel each other while a release waits could not be detected. */
  mayStep = (): boolean => this.#clock.now - this.steppedAt >= STEPS_APART_MS;

  setSkew(ms: number): void {
    if (this.apartMs + ms < this.skewMs) this.setBackAt = this.#clock.now;
    this.skewMs = this.apartMs + ms;
    this.steppedAt = this.#clock.now;
    const { clock } = this.mirror;
    clock.leastMs = Math.min(clock.leastMs, this.skewMs);
    clock.mostMs = Math.max(clock.mostMs, this.skewMs);
  }

  /** A server of the release before makes the move: it leaves the instance, all ids and the time of the claim as they are. Returns false if the row has another status. */
  async byOldServer(subnet: SubnetId, ip: Ipv4, move: 'claim' | 'release'): Promise<boolean> {
    const [row] = (await this.base.get(subnet, [ip])).rows;
    if (row === undefined) return false;
    const { instance, requestId, claimedAt, repeatedAt, containerId, containerSince } = row;
    const [after] = await this.base.move([{ row, move, instance, requestId }]);
    if (after === undefined) return false;
    // The store's own row.
    Object.assign(after, { instance, requestId, claimedAt, repeatedAt, containerId, containerSince });
    const { rows, since, claims, gaveUp } = this.mirror;
    const key = keyOf(subnet, ip);
    rows.set(key, after);
    since.set(key, this.#clock.now);
    if (move === 'claim') claims.set(key, (claims.get(key) ?? 0) + 1);
    else gaveUp.set(key, { at: this.now(), eni: row.iface });
    this.#watchContainer(after);
    return true;
  }

  now = (): number => EPOCH + this.#clock.now + this.skewMs;

  /** The ledger as the process reaches it. `wrote` gets what its answered moves say of each row. */
  connect(process: Process, wrote: Map<string, Allocation>): Store {
    this.processes.add(process);
    const watched: Store = {
      ...this.base,
      move: changes => this.#move(process, changes),
      add: rows => this.#add(rows),
      saveEnis: async enis => {
        await this.base.saveEnis(enis);
        for (const { id, tenant } of enis) this.#tenants.set(id, tenant);
      },
      adopt: async id => {
        await this.base.adopt(id);
        watchAdoption(this.#oracle, this.mirror, process, id);
      },
      noteContainers: async shown => {
        await this.base.noteContainers(shown);
        for (const { row } of shown) {
          const [after] = (await this.base.get(row.subnet, [row.ip])).rows;
          this.#watchContainer(after);
          if (after?.containerId != null) this.#oracle.idsNoted++;
        }
      },
    };
    return wrapStore(watched, (name, call, args) =>
      this.#clock.call(
        process,
        () => this.#carryOut(process, name, call, args),
        answer => {
          if (name === 'move') noteWritten(wrote, answer as Allocation[]);
        },
      ),
    );
  }

  async #carryOut(
    process: Process,
    name: keyof Store,
    call: () => Promise<unknown>,
    args: unknown[],
  ): Promise<unknown> {
    const failure = this.processes.has(process) ? this.#failure(process) : GONE;
    if (name === 'lateOutcomes') return await this.#learn(process, failure);
    const changes = name === 'move' ? (args[0] as readonly Change[]) : [];
    if (failure === null) {
      await this.#passLocks(changes);
      return asRead(await call());
    }
    // It may have been carried out all the same.
    if (!READS.has(name) && this.#clock.random.chance(0.5)) {
      const answer = await call();
      if (name === 'move') this.#keepLateOutcome(process, changes, answer as Allocation[]);
    }
    throw failure;
  }

  /** Waits for locked rows as a database does, and gives up with nothing changed. */
  async #passLocks(changes: readonly Change[]): Promise<void> {
    const endsAt = this.#clock.now + LOCK_WAIT_MS;
    while (changes.some(({ row }) => this.isLocked(row))) {
      if (this.#clock.now >= endsAt) throw new LockedError(tellLocked);
      await this.#clock.wait(LOCK_LOOK_MS);
    }
  }

  isLocked = ({ subnet, ip }: Pick<Allocation, 'subnet' | 'ip'>): boolean =>
    (this.lockedUntil.get(keyOf(subnet, ip)) ?? 0) > this.#clock.now;

  /** Which of the rows are locked; the process asks this. */
  locked = (process: Process, changes: readonly Change[]): Promise<ReadonlySet<string>> =>
    this.#clock.call(process, async () => {
      const failure = this.#failure(process);
      if (failure !== null) throw failure;
      return new Set(changes.flatMap(({ row }) => (this.isLocked(row) ? storeKeyOf(row) : [])));
    });

  /** A move that was made although its caller was told of a failure: `lateOutcomes` returns it, as the contract
   *  says. */
  #keepLateOutcome(process: Process, changes: readonly Change[], rows: readonly Allocation[]): void {
    const told = rows.flatMap(row => {
      const change = changes.find(one => one.row.ip === row.ip && one.row.subnet === row.subnet);
      return change === undefined ? [] : [{ change, row }];
    });
    this.#lateOutcomes.set(process, [...(this.#lateOutcomes.get(process) ?? []), ...told]);
  }

  async #learn(process: Process, failure: IpamError | null): Promise<LateOutcomes> {
    const told = this.#lateOutcomes.get(process) ?? [];
    if (told.length > 0 && failure !== null) throw failure;
    this.#lateOutcomes.delete(process);
    return { moved: told, unsettled: 0 };
  }

  #failure(process: Process): IpamError | null {
    if (this.isLost || this.#clock.now < this.awayUntil)
      return new IpamError('store-down', 'the ledger cannot be reached');
    const failing = this.failing.get(process);
    if (failing === undefined) return null;
    if (failing.after-- > 0) return null;
    if (failing.left-- <= 0) this.failing.delete(process);
    return new IpamError('store-down', 'the connection to the ledger was lost');
  }

  async #move(process: Process, changes: readonly Change[]): Promise<Allocation[]> {
    const answer = await this.base.move(changes);
    const storeNow = this.now();
    const { mirror } = this;
    let isCounted = false;
    for (const change of changes) {
      const { subnet, ip } = change.row;
      const key = keyOf(subnet, ip);
      const before = mirror.rows.get(key);
      const [after] = (await this.base.get(subnet, [ip])).rows;
      if (before === undefined || after === undefined || after.generation === before.generation) continue;
      const together = answer.filter(one => one.status === after.status && one.iface === after.iface).length;
      watchMove({ oracle: this.#oracle, mirror, process, change, key, before, after, together, storeNow });
      this.#watchContainer(after);
      this.#oracle.demand(
        answer.some(one => one.ip === after.ip && one.generation === after.generation),
        'what moved is answered',
      );
      const isNew = !COUNTED.has(before.status) && COUNTED.has(after.status);
      isCounted ||= isNew && after.iface !== null && this.#tenants.get(after.iface) === TENANT;
    }
    this.#oracle.demand(
      !isCounted || this.#room() >= 0,
      'a tenant never gets more addresses than its quota',
      () => `${-this.#room()} beyond ${this.#quota}`,
    );
    return answer;
  }

  /** A row has the id of no other container than the one that was promised its holding. */
  #watchContainer(row: Allocation | undefined): void {
    const id = row === undefined ? null : ofItsClaim(row).containerId;
    if (row === undefined || id === null) return;
    const key = keyOf(row.subnet, row.ip);
    const claim = this.#oracle.claimOf(this.mirror, key);
    const holding = this.#oracle.holdingOf.get(id);
    if (holding === null) return; // two ledgers gave the address, one of them on an ENI that had left
    this.#oracle.demand(
      holding?.ledger === this.mirror.index &&
        keyOf(holding.subnet, holding.ip) === key &&
        holding.eni === row.iface &&
        holding.claim === claim,
      'the id of a container is that of the holding for which it is noted',
      () => `${key} on ${row.iface}, claim ${claim}, has that of ${JSON.stringify(holding)}`,
    );
  }

  async #add(rows: readonly NewAllocation[]): Promise<number> {
    const added = await this.base.add(rows);
    for (const { subnet, ip } of rows)
      for (const row of (await this.base.get(subnet, [ip])).rows) {
        const key = keyOf(subnet, ip);
        if (this.mirror.rows.has(key)) continue;
        this.mirror.rows.set(key, row);
        this.mirror.since.set(key, this.#clock.now);
      }
    return added;
  }
}

/** Returns the answer with rows as they are read from SQL. */
function asRead(answer: unknown): unknown {
  if (Array.isArray(answer)) return answer.map(rowAsRead);
  const { rows } = (answer ?? {}) as { rows?: unknown[] };
  return rows === undefined ? answer : { ...(answer as object), rows: rows.map(rowAsRead) };
}
const rowAsRead = (row: unknown): unknown =>
  typeof row === 'object' && row !== null && 'claimedAt' in row ? ofItsClaim(row as Allocation) : row;

/** Answers may arrive in another order than the moves were made: the newest generation counts. */
function noteWritten(wrote: Map<string, Allocation>, rows: readonly Allocation[]): void {
  for (const row of rows) {
    const key = keyOf(row.subnet, row.ip);
    if (row.generation > (wrote.get(key)?.generation ?? -1)) wrote.set(key, row);
  }
}
