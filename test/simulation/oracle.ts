/** What is really so, kept beside the driver and hidden from it: the rules are checked against it. */
import type { Ipv4 } from '../../src/domain/address.ts';
import type { Allocation } from '../../src/domain/allocation.ts';
import type { EniId, InstanceId, SubnetId } from '../../src/domain/ids.ts';
import type { Network } from '../../src/simulator/model/network.ts';
import { type Eni, ipv4sOf } from '../../src/simulator/model/records.ts';
import type { Clock, Process } from '../kit/clock.ts';
import { keyOf, type Layout, type Port, STRANGER } from './layout.ts';

/** A rule that was broken. */
export interface Violation {
  /** Short, and the same for the same rule: by it histories are compared when they are shrunk. */
  readonly rule: string;
  readonly detail: string;
  readonly step: number;
  readonly atMs: number;
}

/** Somebody who was promised an address and has not given it up. */
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
}

/** The rows of one ledger as they were after its last event. */
export interface Mirror {
  readonly index: number;
  readonly rows: Map<string, Allocation>;
  /** True time at which a row came to its present generation. */
  readonly since: Map<string, number>;
  /** When, by the store's clock, and on which ENI it was last given up, or turned free from occupied. */
  readonly gaveUp: Map<string, { at: number; eni: EniId | null }>;
  readonly left: Map<string, { at: number; eni: EniId | null; unsure: boolean }>;
  /** Addresses that an intent names for whose call EC2 gave no answer, and on which ENI. */
  readonly silent: Map<string, EniId>;
  /** How far its clock has been off. */
  readonly clock: { leastMs: number; mostMs: number };
  /** How often it was claimed. */
  readonly claims: Map<string, number>;
}

export const ONLY_POOLED = 'an ENI that nobody has pooled is left alone';

export class Oracle {
  violation: Violation | null = null;
  readonly layout: Layout;
  readonly network: Network;
  readonly mirrors: Mirror[];
  readonly held = new Map<string, Holding>();
  /** Whose releases are under way. */
  readonly releasing = new Set<Holding>();
  /** Claims that nobody holds, through a loss that was injected and that nobody could see. */
  readonly #lost = new Set<string>();
  /** Addresses that others put on some ENI, and on which. */
  readonly strangers = new Map<string, EniId>();
  /** Addresses that others put on an ENI just before a call of ours for all of them, and for no other, had no answer:
   *  nobody can tell them from ours. By their keys, and on which ENI. */
  readonly presumed = new Map<string, EniId>();
  /** `eni ip` of such addresses: the call of ours may come to them yet. */
  readonly mistaken = new Set<string>();
  /** `eni ip` of such a call that came late: nobody can tell it from the stranger's that was there. */
  readonly untold = new Set<string>();
  /** `eni ip`: all such places of the batch in which it was last to be assigned there. */
  readonly batchOf = new Map<string, Set<string>>();
  /** Addresses that somebody had when EC2 refused a call for them. */
  readonly taken = new Set<string>();
  /** `eni ip`: when others put it there. */
  readonly put = new Map<string, number>();
  /** `eni ip`: when others took theirs off there; a read that is late shows it still. */
  readonly ghosts = new Map<string, number>();
  /** `eni ip`: the ledger whose call put it there last. */
  readonly placedBy = new Map<string, number>();
  /** `eni ip`: when EC2 put it there for us, and when it last began to answer with it. */
  readonly applied = new Map<string, number>();
  readonly shown = new Map<string, number>();
  /** Servers whose client is of another account or Region. */
  readonly misplaced = new Set<Process>();
  /** ENIs for which Docker has asked for a pool. */
  readonly pooled = new Set<EniId>();
  /** `eni ip` of releases under way of what nobody had there when they were sent. */
  readonly strays = new Set<string>();
  /** Holders that were given up on proof, though their containers run on. */
  readonly proven = new Set<Holding>();
  /** When each ENI was detached, deleted, or attached again after a while, the last time last. */
  readonly cuts = new Map<EniId, number[]>();
  /** Ours, taken off their ENI by others. */
  readonly stolen = new Map<string, EniId>();
  /** Claimed by a server for a caller that has no answer yet. */
  readonly unanswered = new Map<Process, Set<string>>();
  /** `eni ip` that we meant to assign since others put it there: whether we did may have been lost. */
  readonly blurred = new Set<string>();
  /** Claimed before they had rested, of which no log line has told yet. */
  readonly unlogged = new Set<string>();
  /** Named requests under way: `process eni ip`. */
  readonly named = new Map<string, number>();
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
      rows: new Map(),
      since: new Map(),
      gaveUp: new Map(),
      left: new Map(),
      silent: new Map(),
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

  /** `detail` is what was noted last, unless it is said. */
  demand(holds: boolean, rule: string, detail = () => this.#noted): void {
    if (!holds) this.fail(rule, detail());
  }

  /** The program threw what is none of its errors. */
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

  /** Who holds the address there; null: nobody there. */
  holdingOn({ subnet, eni, ledger }: Port, ip: Ipv4): Holding | null {
    const holding = this.held.get(keyOf(subnet, ip));
    return holding?.eni === eni && holding.ledger === ledger ? holding : null;
  }

  /** A container has ended; its address is about to be released. */
  ended(holding: Holding | null): void {
    if (holding === null) return;
    const key = keyOf(holding.subnet, holding.ip);
    this.note(`engine ${holding.engine}: the container with ${holding.ip} on ${holding.eni} ends`);
    if (this.held.get(key) === holding) this.held.delete(key);
    this.releasing.add(holding);
  }
  /** Its release was answered; or it has reached nobody, or nobody knows. */
  released(holding: Holding | null, isAnswered: boolean): void {
    if (holding === null) return;
    this.releasing.delete(holding);
    const key = keyOf(holding.subnet, holding.ip);
    if (!isAnswered) this.lose(this.mirrorOf(holding), key, 'its release was not answered', holding.claim);
  }

  /** The row of the ledger, which says who holds the address. */
  rowIn(ledger: number, subnet: SubnetId, ip: Ipv4): Allocation | undefined {
    return this.mirrors[ledger]?.rows.get(keyOf(subnet, ip));
  }

  /** The ENI is detached, attached or deleted now. */
  cut(eni: EniId): void {
    this.cuts.set(eni, [...(this.cuts.get(eni) ?? []), this.now]);
  }

  /** Others have taken the address off the ENI. */
  takenOff(subnet: SubnetId, eni: EniId, ip: Ipv4): void {
    const key = keyOf(subnet, ip);
    if (this.strangers.get(key) !== eni) this.stolen.set(key, eni);
    else {
      this.strangers.delete(key);
      this.ghosts.set(`${eni} ${ip}`, this.now);
    }
  }

  /** The ENI in EC2; undefined: it is gone. */
  eni = (id: EniId): Eni | undefined => [...this.network.enis()].find(one => one.id === id);
  secondaries = (id: EniId): readonly Ipv4[] => this.eni(id)?.secondaries ?? [];
  /** The instance that the ENI is attached to; null: to none, or there is no such ENI. */
  instanceOf = (id: EniId): InstanceId | null => this.eni(id)?.attachment?.instance ?? null;

  /** Whether the ENI is where this ledger serves it: anywhere, or on the ledger's own instance. */
  isHere(ledger: number, eni: EniId): boolean {
    const owner = this.layout.owners[ledger] ?? null;
    return owner === null || this.instanceOf(eni) === owner;
  }

  /** Whether what the container holds is of no use to it any more: its ENI has left the instance whose ledger it is in,
   *  or is gone. Another ledger may give the address in good faith. */
  hasLeft = ({ ledger, eni }: Pick<Holding, 'ledger' | 'eni'>): boolean =>
    this.layout.owners[ledger] !== null && !this.isHere(ledger, eni);

  /** Whether the ledger may use the ENI. Embedded, any contact with one that is attached to the instance will do. */
  mayUse = ({ index }: Mirror, id: EniId): boolean =>
    this.pooled.has(id) ||
    (this.layout.owners[index] !== null && this.layout.ports.some(({ eni }) => eni === id));

  /** How many requests wait there for an address of the ENI. */
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

  /** Nobody knows any more that this address is held; whoever could have said so was made to fail. */
  lose(mirror: Mirror, key: string, why: string, claim = this.claimOf(mirror, key)): void {
    this.note(`lost: ${key}, ${why}`);
    this.#lost.add(`${mirror.index} ${key} ${claim}`);
  }

  /** Whether the last claim of the address was lost. */
  isLost = (mirror: Mirror, key: string): boolean =>
    this.#lost.has(`${mirror.index} ${key} ${this.claimOf(mirror, key)}`);

  /** Which claim of the address is the last. */
  claimOf = (mirror: Mirror, key: string): number => mirror.claims.get(key) ?? 0;
}
