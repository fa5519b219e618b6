/** The true state, which the program cannot see, and the check of rules against it. */
import type { Ipv4 } from '../../src/domain/address.ts';
import type { Allocation } from '../../src/domain/allocation.ts';
import type { EniId, InstanceId, SubnetId } from '../../src/domain/ids.ts';
import type { Network } from '../../src/simulator/model/network.ts';
import { type Eni, ipv4sOf } from '../../src/simulator/model/records.ts';
import type { Clock, Process } from '../kit/clock.ts';
import { keyOf, LATE_READ_MS_MAX, type Layout, type Port, STRANGER } from './layout.ts';

/** A rule that was broken. */
export interface Violation {
  /** The same text each time: shrinking looks for a shorter history with the same rule. */
  readonly rule: string;
  readonly detail: string;
  readonly step: number;
  readonly atMs: number;
}

/** A container that was promised an address and has not given it up. */
export interface Holding {
  readonly subnet: SubnetId;
  readonly ip: Ipv4;
  readonly eni: EniId;
  readonly engine: string;
  /** In which ledger. */
  readonly ledger: number;
  /** Which claim of the address it is. */
  readonly claim: number;
  /** True time of the answer. */
  readonly since: number;
  /** The call of an agent that was given it. */
  readonly call: AgentCall | null;
}

/** One call of an agent, which it sends to one server after the other until it is answered. */
export interface AgentCall {
  readonly id: string;
  readonly instance: InstanceId;
  /** When it was sent first; true time. */
  readonly startedAt: number;
  readonly givenTo: string | null;
  /** The address in an answer that the agent has read. */
  readIp: Ipv4 | null;
  /** Answers that were not lost, by address and claim. */
  readonly written: Map<string, number>;
}

/** The rows of one ledger as they were after its last event. */
export interface Mirror {
  readonly index: number;
  /** How often it was begun anew. */
  lives: number;
  readonly rows: Map<string, Allocation>;
  /** True time at which a row came to its present generation. */
  readonly since: Map<string, number>;
  /** When, by the store's clock, and on which ENI it was last given up, or turned free from occupied. */
  readonly gaveUp: Map<string, { at: number; eni: EniId | null }>;
  readonly left: Map<string, { at: number; eni: EniId | null; unsure: boolean }>;
  /** Addresses named by a call to which EC2 gave no answer, on which ENI, and the true time of the last such call. */
  readonly unansweredCalls: Map<string, { readonly eni: EniId; readonly at: number }>;
  /** The least and the most that its clock has been ahead. */
  readonly clock: { leastMs: number; mostMs: number };
  /** How often it was claimed. */
  readonly claims: Map<string, number>;
}

/** What EC2 has shown counts for a minute, and may be old when it is read; then comes the claim. */
const BELIEVED_MS = 60_000 + LATE_READ_MS_MAX + 5_000;

export const CHANGES_NOTHING = 'a dry run or a command that is refused changes nothing';
export const ONLY_POOLED = 'an ENI that nobody has pooled is left alone';

export class Oracle {
  violation: Violation | null = null;
  readonly layout: Layout;
  readonly network: Network;
  readonly mirrors: Mirror[];
  readonly held = new Map<string, Holding>();
  /** Whose releases are under way. */
  readonly releasing = new Set<Holding>();
  /** Claims whose holder is unknown because of an injected fault that the program could not see. */
  readonly #lost = new Set<string>();
  /** Addresses that others put on some ENI, and on which. */
  readonly strangers = new Map<string, EniId>();
  /** Addresses that others put on an ENI just before a call of ours for exactly these had no answer: they cannot
   *  be told from ours. With the ENI. */
  readonly presumedOurs = new Map<string, EniId>();
  /** `eni ip` of such addresses, to which our call may still be applied. */
  readonly takenForOurs = new Set<string>();
  /** `eni ip` of such addresses, to which our call was applied late. */
  readonly indistinguishable = new Set<string>();
  /** By `eni ip`: all of them in the last batch that was to assign it. */
  readonly batchOf = new Map<string, Set<string>>();
  /** Addresses that somebody had when EC2 refused a call for them. */
  readonly refusedAsTaken = new Set<string>();
  /** `eni ip`: when others put it there. */
  readonly putByOthers = new Map<string, number>();
  /** `eni ip`: when others took theirs off there; a read that is late shows it still. */
  readonly removedByOthers = new Map<string, number>();
  /** `eni ip`: the ledger whose call put it there last. */
  readonly placedBy = new Map<string, number>();
  /** `eni ip`: when EC2 put it there for us, and when it last began to answer with it. */
  readonly appliedAt = new Map<string, number>();
  readonly shownAt = new Map<string, number>();
  /** Servers whose client is of another account or Region. */
  readonly misplaced = new Set<Process>();
  /** Commands that must change nothing: dry runs, and those that must be refused. */
  readonly harmless = new Set<Process>();
  /** ENIs for which Docker has asked for a pool. */
  readonly pooled = new Set<EniId>();
  /** `eni ip` of releases under way for addresses that had no holder there when they were sent. */
  readonly strayReleases = new Set<string>();
  /** `host eni ip` of releases by a host on an ENI that was not its own, which may be sent again when it is. */
  readonly trespasses = new Set<string>();
  /** `ledger key claim` of what one of them has ended: it came when the address had just been given there. */
  readonly endedAstray = new Set<string>();
  /** How many ids of containers were noted. */
  idsNoted = 0;
  /** By the id of a container: what it was promised; null: nothing that anybody holds. */
  readonly holdingOf = new Map<string, Holding | null>();
  /** Containers that ended, and that Docker forgot without a release. */
  readonly leaks = new Set<Holding>();
  /** Holders that were given up on proof, though their containers run on. */
  readonly provenOver = new Set<Holding>();
  /** `eni instance`: when the ENI left that instance last. */
  readonly leftInstance = new Map<string, number>();
  /** When each ENI was detached, deleted, or attached again after a while, the last time last. */
  readonly detachedAt = new Map<EniId, number[]>();
  /** `eni ip` of what a ledger that was rebuilt had on its ENIs: it stays occupied until Docker releases it. */
  readonly inherited = new Set<string>();
  /** Its holders. */
  readonly inheritors = new Set<Holding>();
  /** `ledger eni` of ENIs that are the ledger's. */
  readonly adopted = new Set<string>();
  /** Addresses of ours that others took off their ENI. */
  readonly takenByOthers = new Map<string, EniId>();
  /** Claims of each server whose callers have no answer yet. */
  readonly unanswered = new Map<Process, Set<string>>();
  /** `ledger eni ip` that others put there and that this ledger has tried to assign since: the outcome may be
   *  unknown. */
  readonly maybeOurs = new Set<string>();
  /** Claimed before they had rested, and not logged yet. */
  readonly unloggedReuses = new Set<string>();
  /** Named requests under way: `process eni ip`. */
  readonly named = new Map<string, number>();
  /** What a request for each ENI was answered last. */
  readonly answers = new Map<EniId, string>();
  /** Requests under way, by connection. */
  readonly requests = new Map<object, { process: Process; eni: EniId; ranged: boolean }>();
  readonly lines: string[] | null;
  readonly #clock: Clock;
  /** What was noted last. */
  #noted = '';

  constructor(layout: Layout, clock: Clock, network: Network, tracing: boolean) {
    this.layout = layout;
    this.network = network;
    this.#clock = clock;
    this.lines = tracing ? [] : null;
    this.mirrors = layout.servers.map((_, index) => ({
      index,
      lives: 0,
      rows: new Map(),
      since: new Map(),
      gaveUp: new Map(),
      left: new Map(),
      unansweredCalls: new Map(),
      clock: { leastMs: Number.POSITIVE_INFINITY, mostMs: Number.NEGATIVE_INFINITY },
      claims: new Map(),
    }));
    for (const eni of network.enis())
      for (const ip of eni.id === STRANGER ? ipv4sOf(eni) : eni.secondaries)
        this.strangers.set(keyOf(eni.subnet, ip), eni.id);
  }

  /** True time. */
  get now(): number {
    return this.#clock.now;
  }

  /** Notes the first rule that was broken. */
  fail(rule: string, detail: string): void {
    this.note(`*** ${rule}: ${detail}`);
    this.violation ??= { rule, detail, step: this.#clock.steps, atMs: this.now };
  }

  /** Fails unless it holds. `detail`: by default what was noted last. */
  demand(holds: boolean, rule: string, detail = () => this.#noted): void {
    if (!holds) this.fail(rule, detail());
  }

  /** The program threw an error that is not an IpamError. */
  crash(error: unknown): void {
    this.fail('crash', error instanceof Error ? (error.stack ?? error.message) : String(error));
  }

  note(text: string): void {
    this.#noted = text;
    if (this.lines === null) return;
    const seconds = (this.now / 1000).toFixed(3).padStart(10);
    this.lines.push(`${String(this.#clock.steps).padStart(6)} ${seconds} s  ${text}`);
  }

  mirrorOf = ({ ledger }: Pick<Port, 'ledger'>): Mirror => this.mirrors[ledger] as Mirror;

  /** The holder of the address on this ENI; null: there is none. */
  holdingOn({ subnet, eni, ledger }: Port, ip: Ipv4): Holding | null {
    const holding = this.held.get(keyOf(subnet, ip));
    return holding?.eni === eni && holding.ledger === ledger ? holding : null;
  }

  /** Returns the id of a container with that holding. */
  newContainer(holding: Holding | null): string {
    const id = this.holdingOf.size.toString(16).padStart(64, '0');
    this.holdingOf.set(id, holding);
    return id;
  }

  /** A container has ended; its address is about to be released. */
  ended(holding: Holding | null): void {
    if (holding === null) return;
    const key = keyOf(holding.subnet, holding.ip);
    this.note(`engine ${holding.engine}: the container with ${holding.ip} on ${holding.eni} ends`);
    if (this.held.get(key) === holding) this.held.delete(key);
    // A release on an ENI that is not the ledger's is ignored.
    if (!this.adopted.has(`${holding.ledger} ${holding.eni}`)) this.inheritors.delete(holding);
    this.releasing.add(holding);
  }
  /** Its release has ended. Without an answer it is unknown whether it was made. */
  released(holding: Holding | null, isAnswered: boolean): void {
    if (holding === null) return;
    this.releasing.delete(holding);
    const key = keyOf(holding.subnet, holding.ip);
    // Where a tenant is at its quota, an operator has to release it.
    if (this.inheritors.delete(holding) && isAnswered && this.layout.quota === null)
      this.inherited.delete(`${holding.eni} ${holding.ip}`);
    if (!isAnswered) this.lose(this.mirrorOf(holding), key, 'its release was not answered', holding.claim);
  }

  /** The ledger is lost, and one without rows takes its place: what it had is known to Docker only. */
  begunAnew(mirror: Mirror): void {
    const { index } = mirror;
    mirror.lives++;
    for (const { eni, ledger } of this.layout.ports) {
      if (ledger !== index) continue;
      this.pooled.delete(eni);
      this.adopted.delete(`${index} ${eni}`);
      for (const ip of this.secondaries(eni)) this.inherited.add(`${eni} ${ip}`);
    }
    for (const holding of this.held.values()) if (holding.ledger === index) this.inheritors.add(holding);
    for (const tried of this.maybeOurs) if (tried.startsWith(`${index} `)) this.maybeOurs.delete(tried);
    this.unloggedReuses.clear();
  }

  /** The row of the ledger, which says who holds the address. */
  rowIn(ledger: number, subnet: SubnetId, ip: Ipv4): Allocation | undefined {
    return this.mirrors[ledger]?.rows.get(keyOf(subnet, ip));
  }

  /** The ENI is detached, attached or deleted now. */
  noteDetached(eni: EniId, from = this.instanceOf(eni)): void {
    if (from !== null) this.leftInstance.set(`${eni} ${from}`, this.now);
    this.detachedAt.set(eni, [...(this.detachedAt.get(eni) ?? []), this.now]);
  }

  /** Others have taken the address off the ENI. */
  takenOff(subnet: SubnetId, eni: EniId, ip: Ipv4): void {
    const key = keyOf(subnet, ip);
    if (this.strangers.get(key) !== eni) this.takenByOthers.set(key, eni);
    else {
      this.strangers.delete(key);
      this.removedByOthers.set(`${eni} ${ip}`, this.now);
    }
  }

  /** The ENI in EC2; undefined: it is gone. */
  eni = (id: EniId): Eni | undefined => [...this.network.enis()].find(one => one.id === id);
  secondaries = (id: EniId): readonly Ipv4[] => this.eni(id)?.secondaries ?? [];
  /** The instance that the ENI is attached to; null: to none, or there is no such ENI. */
  instanceOf = (id: EniId): InstanceId | null => this.eni(id)?.attachment?.instance ?? null;

  /** Whether a server may still believe that the ENI is attached to the instance. */
  mayBelieve = (eni: EniId, instance: InstanceId): boolean =>
    this.instanceOf(eni) === instance ||
    this.now - (this.leftInstance.get(`${eni} ${instance}`) ?? Number.NEGATIVE_INFINITY) < BELIEVED_MS;

  /** Whether the ENI is where this ledger serves it: anywhere, or on the ledger's own instance. */
  isHere(ledger: number, eni: EniId): boolean {
    const owner = this.layout.owners[ledger] ?? null;
    return owner === null || this.instanceOf(eni) === owner;
  }

  /** Whether the ENI has left the instance of its embedded ledger, or is gone: the address is of no use to its
   *  holder, and another ledger may give it in good faith. */
  hasLeft = ({ ledger, eni }: Pick<Holding, 'ledger' | 'eni'>): boolean =>
    this.layout.owners[ledger] !== null && !this.isHere(ledger, eni);

  /** Whether the ledger may use the ENI. Embedded, any contact with one that is attached to the instance will do, and so
   *  it will with a certificate. */
  mayUse = ({ index }: Mirror, id: EniId): boolean =>
    this.pooled.has(id) ||
    ((this.layout.hasAgents || this.layout.owners[index] !== null) &&
      this.layout.ports.some(({ eni }) => eni === id));

  /** How many requests of the process wait for an address of the ENI. */
  waiting = (process: Process, eni: EniId | null): number =>
    [...this.requests.values()].filter(one => one.process === process && one.eni === eni).length;

  /** Whether a request under way for the ENI is for a part of the subnet only. */
  ranged = (process: Process, eni: EniId): boolean =>
    [...this.requests.values()].some(one => one.process === process && one.eni === eni && one.ranged);

  /** The ledger that serves the ENI now; null: none of them. */
  servedBy(eni: EniId): Mirror | null {
    const port = this.layout.ports.find(one => one.eni === eni);
    if (port === undefined) return null;
    if (this.layout.owners[port.ledger] === null) return this.mirrors[port.ledger] ?? null;
    const instance = this.instanceOf(eni);
    return (instance !== null && this.mirrors[this.layout.owners.indexOf(instance)]) || null;
  }

  /** It is unknown from now on whether the address is held: a fault was injected into those that know. */
  lose(mirror: Mirror, key: string, why: string, claim = this.claimOf(mirror, key)): void {
    this.note(`lost: ${key}, ${why}`);
    this.#lost.add(`${mirror.index} ${key} ${claim}`);
  }

  /** Whether the last claim of the address was lost. */
  isLost = (mirror: Mirror, key: string): boolean => this.#lost.has(this.lastClaim(mirror, key));

  /** The last claim of the address, by its name in the sets of claims. */
  lastClaim = (mirror: Mirror, key: string): string => `${mirror.index} ${key} ${this.claimOf(mirror, key)}`;

  /** Which claim of the address is the last. */
  claimOf = (mirror: Mirror, key: string): number => mirror.claims.get(key) ?? 0;
}
