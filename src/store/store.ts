import type { Cidr, Ipv4 } from '../domain/address.ts';
import type { Allocation, Change, Rest, Status } from '../domain/allocation.ts';
import type { EniId, InstanceId, SubnetId } from '../domain/ids.ts';

/** What the ledger said, and when by its own clock (milliseconds since 1970). */
export interface Reading<T> {
  readonly now: number;
  readonly rows: readonly T[];
}

/** A subnet in the ledger. */
export interface LedgerSubnet {
  readonly id: SubnetId;
  readonly vpc: string;
  readonly cidr: Cidr;
}

/** An ENI in the ledger, kept so that a restart costs no EC2 call. */
export interface LedgerEni {
  readonly id: EniId;
  readonly subnet: SubnetId;
  readonly primary: Ipv4;
  readonly instance: InstanceId | null;
  readonly attachment: string | null;
  /** Start of the last read that showed `attachment`, in milliseconds; null: it was not noted. */
  readonly attachmentSeenAt: number | null;
  /** The attachment before. EC2 uses no attachment id twice, so a read that shows it again is late. */
  readonly earlierAttachment: string | null;
  /** Start of the last read that showed `earlierAttachment`, in milliseconds: what was claimed before then was
   *  claimed on it. Null: nothing is known of one. */
  readonly claimsEndBefore: number | null;
  /** Addresses the ENI may hold, its primary included; null when unknown. */
  readonly addressLimit: number | null;
  /** IPv4 prefixes on it, each of which takes one of its places. */
  readonly prefixes: number;
  /** It belongs to this ledger: Docker has used it under its PoolID. Once true it stays true. */
  readonly ours: boolean;
  /** Docker has released the last pool on it then, and asked for nothing since, in milliseconds; null: it is used. */
  readonly releasedAt: number | null;
}

/** A server process that uses this ledger. */
export interface LedgerServer {
  readonly id: string;
  readonly startedAt: number;
  readonly seenAt: number;
  /** Null: still running, or died without a word. */
  readonly stoppedAt: number | null;
}

export interface NewAllocation {
  readonly subnet: SubnetId;
  readonly ip: Ipv4;
  readonly status: Extract<Status, 'free' | 'occupied' | 'reserved'>;
  readonly iface: EniId | null;
  readonly primary: boolean;
}

export interface FreeQuery {
  readonly subnet: SubnetId;
  /** The ENI that wants them. */
  readonly eni: EniId;
  readonly range: Cidr | null;
  readonly rest: Rest;
  /** `rested`: only those past cooldown or quarantine; `any`: then the others too, longest-resting first. */
  readonly which: 'rested' | 'any';
  readonly limit: number;
}

/** A bucket that all servers share. */
export interface BucketName {
  readonly name: string;
  /** No turn of this bucket is ever given further ahead: what is, was written before the store's clock was set
   *  back. */
  readonly aheadMs: number;
}
export interface TurnQuery extends BucketName {
  /** Tokens that the bucket holds at most, and how long one takes to come back. */
  readonly capacity: number;
  readonly intervalMs: number;
  /** The turn must come within this. */
  readonly withinMs: number;
}

/** A change that was made, and the row after it. */
export interface Moved {
  readonly change: Change;
  readonly row: Allocation;
}

/** What was learned of moves that had ended in store-down. */
export interface Heard {
  readonly moved: readonly Moved[];
  /** Calls of the database of which it is still not known what they did. */
  readonly unsettled: number;
}

export interface Tally {
  readonly subnet: SubnetId;
  readonly status: Status;
  readonly count: number;
}

/**
 * The ledger, in domain words. Every method is one durable transaction and waits for nothing outside the
 * store. "No" is an answer (a row that is absent from what comes back); errors are `store-down` (nothing
 * was changed by this call, but for what `lateOutcomes` tells of) or `internal`. The memory store is the specification; one contract suite runs
 * on all of them.
 */
export interface Store {
  /** Brings the schema up to date; safe when several start at once. */
  migrate(): Promise<void>;
  /** Why the schema cannot be used as it is, or null. */
  outdated(): Promise<string | null>;
  close(): Promise<void>;

  /** Makes each change whose row still stands as it says; returns the rows that moved, as they now are, in the
   *  order of `changes`. Calls made at the same time may share a transaction. After a lost connection the outcome
   *  is settled before it returns: a change that is not in the answer did not happen and will not happen, or
   *  somebody else has moved its row again before it was read back. A row that a stranger keeps locked ends in
   *  store-down with its address, after LOCKED_MAX_MS, and nothing was changed. At most CHANGES_MAX. */
  move(changes: readonly Change[]): Promise<Allocation[]>;
  /** What a `move` did after all that had to end in store-down because its outcome could not be learned in time;
   *  each is answered once. Asks the store only when there is something to learn. Throws store-down when nothing could
   *  be learned. */
  lateOutcomes(): Promise<Heard>;
  /** Inserts the rows whose address is not in the ledger yet; returns how many. Any number, in portions that
   *  are a transaction each: after an error some may be there, and adding again adds the rest. They are rested. */
  add(rows: readonly NewAllocation[]): Promise<number>;

  get(subnet: SubnetId, ips: readonly Ipv4[]): Promise<Reading<Allocation>>;
  /** All rows that name the ENI, in any status; primaries included. */
  onEni(eni: EniId): Promise<Reading<Allocation>>;
  /** Ready, non-primary rows on the ENI, longest-rested first (never given up comes first, then by address). */
  readyOn(eni: EniId, range: Cidr | null, limit: number): Promise<Reading<Allocation>>;
  /** Free rows that may be assigned to the ENI, best first: those that never rested, from hash(ENI) onward
   *  along `spread` with wrap-around; then the longest-rested; then those that EC2 once refused. Never one that it
   *  refused within SKIPPED_FOR_MS, nor one
   *  that must still stay off this same ENI (`staysAwayMs`). */
  freeFor(query: FreeQuery): Promise<Reading<Allocation>>;
  /** Intents written at least `ageMs` ago, oldest first. */
  intents(ageMs: number, limit: number): Promise<Reading<Allocation>>;
  /** Rows of the subnet that have one of the statuses, in the order of their addresses. */
  withStatus(subnet: SubnetId, statuses: readonly Status[]): Promise<Reading<Allocation>>;
  tally(): Promise<Tally[]>;

  subnets(): Promise<LedgerSubnet[]>;
  saveSubnet(subnet: LedgerSubnet): Promise<void>;
  eni(id: EniId): Promise<LedgerEni | null>;
  enis(): Promise<LedgerEni[]>;
  /** Inserts or refreshes; `ours` and `releasedAt` of an ENI that is there already are left alone. */
  saveEnis(enis: readonly LedgerEni[]): Promise<void>;
  /** Notes that a read that was begun at `readAt` showed these ENIs as they are attached, where the ledger says so too. */
  noteAttachments(seen: readonly Pick<LedgerEni, 'id' | 'attachment'>[], readAt: number): Promise<void>;
  /** The ENI belongs to this ledger from now on. */
  adopt(id: EniId): Promise<void>;
  /** Notes that Docker has released the ENI's last pool, now unless that is noted already; or that it is used again. */
  setReleased(id: EniId, released: boolean): Promise<void>;

  /** Notes that the process lives (or has stopped in good order), and forgets old ones when it does so first; returns
   *  what the store's clock says. */
  beat(server: string, stopped: boolean): Promise<number>;
  /** All server processes that are noted. */
  servers(): Promise<Reading<LedgerServer>>;
  /** Takes the named lease for `forMs`, or renews it; false: another server has it. It saves double work and
   *  fences nothing: who held it may go on working after it has ended. One that would last longer than `forMs` from now
   *  was taken before the store's clock was set back, and has ended. */
  lease(name: string, server: string, forMs: number): Promise<boolean>;
  /** Takes the next turn of the bucket; returns in how many milliseconds it comes, null where that is not soon enough,
   *  and then nothing was taken. Turns come in the order in which they were asked for. They pace, and fence nothing: a
   *  turn may be lost, or its time be that of another clock. */
  takeTurn(turn: TurnQuery): Promise<number | null>;
  /** EC2 has throttled a call of the bucket: it is empty, and half as fast until there were no more throttles for a while.
   *  Answers how often its speed is halved now; null: it was slowed already after that call's turn was given. */
  slowTurns(bucket: BucketName): Promise<number | null>;
  /** A fact about the ledger as a whole, by name: null when it was never noted. */
  fact(name: string): Promise<string | null>;
  noteFact(name: string, value: string): Promise<void>;
  /** Notes the fact unless it is noted already; returns what is noted now. */
  noteFactOnce(name: string, value: string): Promise<string>;
}

/** The most changes that one `move` takes, so that its statement stays well under 1 MiB. */
export const CHANGES_MAX = 500;

/** How long a server that is not seen any more stays noted; one that did not stop in good order for as long, besides,
 *  as a row is held whose claim it may not have answered. */
export const SERVER_KEPT_MS = 7 * 24 * 3_600_000;
