/** The Store interface: what every store of the ledger does. */
import type { Cidr, Ipv4 } from '../domain/address.ts';
import type { Allocation, Change, Rest, Status } from '../domain/allocation.ts';
import type { Ec2CallRecord, Tenure } from '../domain/history.ts';
import type { Host } from '../domain/host.ts';
import type { EniId, InstanceId, SubnetId } from '../domain/ids.ts';
import type { LedgerSighting, LedgerWitness, ShownContainer, WitnessedHost } from '../domain/sighting.ts';
import type { Limited, Tenant } from '../domain/tenant.ts';
import type { Looks } from './looks.ts';

/** Rows of the ledger, and the time of the read by the store's clock, in milliseconds since 1970. */
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

/** An ENI in the ledger. It is stored so that a restart needs no EC2 call. */
export interface LedgerEni {
  readonly id: EniId;
  readonly subnet: SubnetId;
  readonly primary: Ipv4;
  readonly instance: InstanceId | null;
  readonly attachment: string | null;
  /** The start of the last read that showed `attachment`, in milliseconds; null: not noted. */
  readonly attachmentSeenAt: number | null;
  /** The previous attachment. EC2 never uses an attachment id twice, so a read that shows it again is an old state. */
  readonly earlierAttachment: string | null;
  /** The start of the last read that showed `earlierAttachment`, in milliseconds. Earlier claims were made on that
   *  attachment. Null: not known. */
  readonly claimsEndBefore: number | null;
  /** Whose quota its addresses count against; null: nobody's. */
  readonly tenant: string | null;
  /** Its MAC address, which never changes; null: EC2 has not shown it yet. */
  readonly mac: string | null;
  /** How many addresses the ENI may have, its primary included; null: not known. */
  readonly addressLimit: number | null;
  /** IPv4 prefixes on it. Each counts as one address of the limit. */
  readonly prefixes: number;
  /** It belongs to this ledger, since Docker used it under its PoolID. It stays true. */
  readonly ours: boolean;
  /** When Docker released its last pool, in milliseconds; null: it is in use. */
  readonly releasedAt: number | null;
}

export type SightingKey = Pick<LedgerSighting, 'subnet' | 'ip' | 'iface'>;

/** A server process that uses the ledger. */
export interface LedgerServer {
  readonly id: string;
  readonly startedAt: number;
  readonly seenAt: number;
  /** Null: it runs, or it died. */
  readonly stoppedAt: number | null;
  /** Null: it is a server of the release before. */
  readonly version: string | null;
}
/** Longer versions are cut. */
export const VERSION_CHARS_MAX = 64;

export interface NewAllocation {
  readonly subnet: SubnetId;
  readonly ip: Ipv4;
  readonly status: Extract<Status, 'free' | 'occupied' | 'reserved'>;
  readonly iface: EniId | null;
  readonly primary: boolean;
}

export interface FreeQuery {
  readonly subnet: SubnetId;
  /** The ENI that needs them. */
  readonly eni: EniId;
  readonly range: Cidr | null;
  readonly rest: Rest;
  /** `rested`: only addresses past cooldown or quarantine. `any`: then the others too, the longest-resting first. Neither
   *  has those that EC2 refused within SKIPPED_FOR_MS. `skipped`: only the rested of those, first the one refused longest
   *  ago. */
  readonly which: 'rested' | 'any' | 'skipped';
  readonly limit: number;
}

/** A token bucket that all servers share. */
export interface BucketName {
  readonly name: string;
  /** The largest time from now to a permit, in milliseconds. A later one was written before the store's clock was set
   *  back. */
  readonly aheadMs: number;
}
export interface PermitQuery extends BucketName {
  /** The most tokens in the bucket, and the time for one to return, in milliseconds. */
  readonly capacity: number;
  readonly intervalMs: number;
  /** The longest wait for the permit, in milliseconds. Below 0: the permit leaves tokens in the bucket, as many as come
   *  back in that time. */
  readonly withinMs: number;
}

/** A change that was made, and the row after it. */
export interface Moved {
  readonly change: Change;
  readonly row: Allocation;
}

/** The outcomes of moves that had ended in store-down. */
export interface LateOutcomes {
  readonly moved: readonly Moved[];
  /** The number of transactions whose outcome is still not known. */
  readonly unsettled: number;
}

export interface Tally {
  readonly subnet: SubnetId;
  readonly status: Status;
  readonly count: number;
}

/** What readings of hosts have shown. */
export interface SightingStore {
  /** What the hosts of these ENIs have shown of their addresses. */
  sightings(enis: readonly EniId[]): Promise<Reading<LedgerSighting>>;
  /** The sightings of addresses that are in use and that nobody held, on all ENIs. */
  usedSightings(): Promise<Reading<LedgerSighting>>;
  /** Deletes what a host has shown of an address in use. Returns false when it shows something else by now, which stays. A
   *  reading that is under way may show it again. */
  forgetSighting(seen: LedgerSighting): Promise<boolean>;
  /** What is known of the readings of all hosts. */
  witnesses(): Promise<Reading<LedgerWitness>>;
  /** Notes that a reading of the host begins under this ticket, in place of any other one. Returns what is known of the
   *  readings before. */
  beginReading(host: WitnessedHost, ticket: string): Promise<LedgerWitness>;
  /** Saves what the reading has shown: notes of the witness what it says and that it was read now, inserts or replaces
   *  `save`, and deletes those of `forget` that are still of the same ENI. Returns false when another reading of the host
   *  was begun since. Then nothing was changed, or it was before that one read the sightings. */
  saveReading(
    witness: Pick<LedgerWitness, 'instance' | 'ticket' | 'incomplete' | 'engine' | 'engineSince'>,
    save: readonly LedgerSighting[],
    forget: readonly SightingKey[],
  ): Promise<boolean>;
}

/**
 * The ledger. Each method is one durable transaction and waits for nothing outside the store. A change that does not
 * apply is no error: its row is absent from the result. Errors are `store-down` (nothing was changed, except for what
 * `lateOutcomes` returns later) and `internal`. The memory store is the specification; one contract suite tests all
 * stores.
 */
export interface Store extends Looks, SightingStore {
  /** Brings the schema up to date. Several processes may do it at once. */
  migrate(): Promise<void>;
  /** Returns why the schema cannot be used; null when it can. */
  outdated(): Promise<string | null>;
  close(): Promise<void>;

  /** Makes each change whose row still has the state in the change. Returns the rows that moved, as they are now, in
   *  the order of `changes`. Calls at the same time may share a transaction. After a lost connection it settles the
   *  outcome first: a change whose row is not in the result was not made and never will be, or its row has moved
   *  again since. An id of a request is in one row at most: a change that gives a second row an id that a row has does
   *  not apply. When another session keeps a row locked for LOCKED_MAX_MS, it throws store-down with the address,
   *  and nothing was changed. At most CHANGES_MAX changes.
   *
   *  A change that makes an address count (`startsToCount`) on an ENI of a declared tenant is made only while the tenant
   *  is below its quota: of several as many as fit. The tenant's row is changed and its addresses are counted in the
   *  same transaction, so that no two servers pass the quota together. Where some of the changes do not apply, fewer
   *  may be made than fit. */
  move(changes: readonly Change[]): Promise<Allocation[]>;
  /** Returns who held the address, the newest `limit`, newest first: who holds it now, by its row, and those whose end was
   *  noted, in the same transaction, by a server with the history on. What others change lately is told by `movedWithin`,
   *  from the rows alone: no claim writes a record, and no index has the time of a move, which would cost a claim several
   *  times its work. */
  history(subnet: SubnetId, ip: Ipv4, limit: number): Promise<Reading<Tenure>>;
  /** Notes the result of an EC2 call that settles no row. Nothing, while the history is off. */
  endEc2Call(id: string, result: string): Promise<void>;
  /** Returns the EC2 calls of the last `forMs`, the newest `limit`, newest first. */
  ec2Calls(forMs: number, limit: number): Promise<Reading<Ec2CallRecord>>;
  /** Returns the time of the newest record that is older than `ageMs` or not among the newest `recordsMax`, or a later
   *  time to which no other record belongs. By age, at most AGED_AT_ONCE_MS after the oldest. */
  historyEnd(ageMs: number, recordsMax: number): Promise<number>;
  /** Deletes records up to that time, about TRIMMED_MAX at most, the oldest first, and as many EC2 calls. Returns
   *  whether some may be left. */
  trimHistory(until: number): Promise<boolean>;
  /** Returns the outcomes of moves that ended in store-down because they were not known in time, each once. Asks the
   *  database only when there are any. Throws store-down when none could be learned. */
  lateOutcomes(): Promise<LateOutcomes>;
  /** Inserts the rows whose address is not in the ledger, and returns their number. Many rows take several
   *  transactions: after an error some may be inserted, and a repetition inserts the rest. New rows are rested. */
  add(rows: readonly NewAllocation[]): Promise<number>;

  get(subnet: SubnetId, ips: readonly Ipv4[]): Promise<Reading<Allocation>>;
  /** The row that has the id of the request; none, or one. */
  withRequest(id: string): Promise<Reading<Allocation>>;
  /** All rows that name the ENI, in any status; primaries included. */
  onEni(eni: EniId): Promise<Reading<Allocation>>;
  /** Ready rows on the ENI without its primary: those never released first, then the longest-rested, then by address. */
  readyOn(eni: EniId, range: Cidr | null, limit: number): Promise<Reading<Allocation>>;
  /** Free rows that may be assigned to the ENI, best first: those never released, in the order of `spread` from
   *  hash(ENI) on with wrap-around; then the longest-rested; then those that EC2 refused once. Without those that it
   *  refused within SKIPPED_FOR_MS, and without those that must not return to this ENI yet (`staysAwayMs`). */
  freeFor(query: FreeQuery): Promise<Reading<Allocation>>;
  /** Intents written at least `ageMs` ago, oldest first. */
  intents(ageMs: number, limit: number): Promise<Reading<Allocation>>;
  /** Rows of the subnet that have one of the statuses, in the order of their addresses. */
  withStatus(subnet: SubnetId, statuses: readonly Status[]): Promise<Reading<Allocation>>;
  /** Each row counts once, with the status that it has at some time of the call. */
  tally(): Promise<Tally[]>;

  subnets(): Promise<LedgerSubnet[]>;
  saveSubnet(subnet: LedgerSubnet): Promise<void>;
  eni(id: EniId): Promise<LedgerEni | null>;
  enis(): Promise<LedgerEni[]>;
  /** Inserts or refreshes the ENIs. `ours` and `releasedAt` of an ENI in the ledger are unchanged. */
  saveEnis(enis: readonly LedgerEni[]): Promise<void>;
  /** Notes that a read that began at `readAt` showed these attachments, for ENIs that have them in the ledger. */
  noteAttachments(seen: readonly Pick<LedgerEni, 'id' | 'attachment'>[], readAt: number): Promise<void>;
  /** The ENI belongs to this ledger from now on. */
  adopt(id: EniId): Promise<void>;
  /** Notes that Docker released the ENI's last pool, now unless it is noted already; or that the ENI is in use again. */
  setReleased(id: EniId, released: boolean): Promise<void>;

  /** Notes the ids of containers for the holdings of these rows, where they still have the state in which they were read: a
   *  holding that has ended gets none, nor does the next one. No row moves by it. A release puts the id aside with what else
   *  it does for the history. */
  noteContainers(shown: readonly ShownContainer[]): Promise<void>;

  /** Declares the tenant, or changes its quota and, unless it is null, its instance profile. A quota below what is used
   *  takes no address away. */
  saveTenant(tenant: { name: string; quota: number; profile: string | null }): Promise<void>;
  /** The tenant has no quota any more. */
  removeTenant(name: string): Promise<void>;
  /** The declared tenants and those that ENIs name, by name. What they use is read in parts of the ENIs, and decides
   *  nothing. */
  tenants(): Promise<Tenant[]>;
  /** The declared tenants by their instance profiles. */
  tenantProfiles(): Promise<ReadonlyMap<string, string>>;
  /** The tenant of the ENI; null when it has none, or none that is declared. */
  tenantOf(eni: EniId): Promise<Limited | null>;

  /** Writes a heartbeat of the server, or that it stopped in good order, with its version. The first one of a server deletes
   *  old servers. Returns the store's clock. */
  beat(server: string, stopped: boolean, version?: string | null): Promise<number>;
  servers(): Promise<Reading<LedgerServer>>;
  /** Takes or renews the lease for `forMs`; 0 ends it. Returns false when another server has it. It only saves double work: the
   *  former holder may still be working after its end. A lease that ends later than `forMs` from now was taken before
   *  the store's clock was set back, and counts as ended. */
  lease(name: string, server: string, forMs: number): Promise<boolean>;
  /** Takes the next permit of the bucket and returns the wait until then, in milliseconds; null, without taking one,
   *  when the wait would be too long. Permits are in the order of the calls. They only limit the rate: a permit may
   *  be lost, or its time may be by another clock. */
  takePermit(query: PermitQuery): Promise<number | null>;
  /** Gives a permit back that was not used. */
  giveBackPermit(query: PermitQuery): Promise<void>;
  /** After EC2 throttled a call: empties the bucket and halves its rate, until throttling stops for a while. Returns
   *  how often the rate is halved; null when the bucket was slowed already after the permit of that call. */
  slowBucket(bucket: BucketName): Promise<number | null>;
  /** Returns a fact about the whole ledger; null when it is not noted. */
  fact(name: string): Promise<string | null>;
  noteFact(name: string, value: string): Promise<void>;
  /** Adds to a fact that is a number, 0 until it is noted. Servers that add at the same time all count. A lost answer may
   *  add twice. */
  addToFact(name: string, more: number): Promise<void>;
  /** Notes the fact unless it is noted already, and returns the noted value. */
  noteFactOnce(name: string, value: string): Promise<string>;

  hosts(which?: 'all' | 'revoked'): Promise<Reading<Host>>;
  /** Notes that the host enrols now, with a certificate for so long, unless it is blocked. Returns the host as it is then.
   *  Deletes hosts, and what is known of their readings, that HOST_KEPT_MS has passed over. */
  enrolHost(instance: InstanceId, forMs: number): Promise<Host>;
  /** Notes that the hosts are connected now. */
  noteSeen(instances: readonly InstanceId[]): Promise<void>;
  /** Blocks the host from now on, whether it is noted or not. */
  revokeHost(instance: InstanceId): Promise<void>;
  /** Ends that. Returns false when the host is not blocked. */
  allowHost(instance: InstanceId): Promise<boolean>;
  /** Notes that the nonce was used by the call with this token. Returns false when another call has used it. It is noted
   *  for `forMs`. */
  takeNonce(value: string, token: string, forMs: number): Promise<boolean>;
}

/** Records of the history that are deleted at a time. */
export const TRIMMED_MAX = 1_000;

/** What is old goes a day at a time, in milliseconds: while a clock is set far ahead, all records seem to be old. */
export const AGED_AT_ONCE_MS = 24 * 3_600_000;

/** The most changes of one `move`, so that its statement stays well under 1 MiB. */
export const CHANGES_MAX = 500;

/** How long a server stays noted after its last heartbeat, in milliseconds. A server that died stays noted also while
 *  an address is held whose claim it may not have answered. */
export const SERVER_KEPT_MS = 7 * 24 * 3_600_000;
