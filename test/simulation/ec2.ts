/** EC2 as a process reaches it: slow on the way there and back, and watched where it changes. */
import { type CloudEni, type Ec2Client, SEND_AT_ONCE, type Sender } from '../../src/cloud/cloud.ts';
import { createMemoryClient } from '../../src/cloud/memory.ts';
import type { Ipv4 } from '../../src/domain/address.ts';
import type { Allocation } from '../../src/domain/allocation.ts';
import { IpamError } from '../../src/domain/error.ts';
import type { EniId } from '../../src/domain/ids.ts';
import { type Caller, OWNER } from '../../src/simulator/model/caller.ts';
import type { Fault } from '../../src/simulator/model/faults.ts';
import type { Outcome, Vpc } from '../../src/simulator/model/vpc.ts';
import type { Clock, Process } from '../kit/clock.ts';
import { CALL_TIMEOUT_MS, keyOf } from './layout.ts';
import { type Mirror, ONLY_POOLED, type Oracle } from './oracle.ts';
import { type Call, watchApplied, watchSending } from './watch-ec2.ts';

const PAGE_SIZE = 5;

export class Ec2 {
  readonly vpc: Vpc;
  /** The delays of calls that were made late. The model applies a late call when it is next read: it is read then. */
  readonly lateMs = new Set<number>();
  readonly #clock: Clock;
  readonly #oracle: Oracle;
  readonly #sent = new Set<string>();

  constructor(clock: Clock, oracle: Oracle, vpc: Vpc) {
    this.#clock = clock;
    this.#oracle = oracle;
    this.vpc = vpc;
  }

  connect(
    process: Process,
    mirror: Mirror,
    deadlineClock: () => number,
    wrote: ReadonlyMap<string, Allocation>,
    caller: Caller = OWNER,
  ): Ec2Client {
    const options = {
      caller: () => caller,
      wait: (ms: number) => this.#clock.waitIn(process, ms),
      deadlineClock,
      dayAheadMs: () => process.dayAheadMs,
      callTimeoutMs: CALL_TIMEOUT_MS,
      pageSize: PAGE_SIZE,
    };
    const way = () => this.#clock.waitIn(process, this.#clock.latencyMs());
    const through = async <T>(call: () => Promise<T>): Promise<T> => {
      await way();
      try {
        return await call();
      } finally {
        await way();
      }
    };
    const writing = <T>(
      sender: Sender,
      kind: Call['kind'],
      eni: EniId,
      ips: readonly Ipv4[],
      work: (client: Ec2Client) => Promise<T>,
    ) =>
      through(async () => {
        const oracle = this.#oracle;
        const port = oracle.layout.ports.find(one => one.eni === eni);
        if (port === undefined) {
          oracle.fail(ONLY_POOLED, `${kind} on ${eni} by ${process.id}`);
          throw new IpamError('ec2-denied', 'not ours');
        }
        const intents = new Map(wrote);
        const call: Call = { oracle, process, mirror, kind, eni, subnet: port.subnet, ips, intents };
        return await work(createMemoryClient(this.#watched(call), options).sendingBy(sender));
      });
    const shown = (eni: CloudEni): CloudEni => {
      for (const ip of eni.secondaries) this.#oracle.shownAt.set(`${eni.id} ${ip}`, this.#clock.now);
      return eni;
    };
    const sendingBy = (sender: Sender): Ec2Client => {
      const reader = createMemoryClient(this.vpc, options).sendingBy(sender);
      return {
        sendingBy,
        region: () => reader.region(),
        someEni: filter => through(() => reader.someEni(filter)),
        eni: id => through(async () => shown(await reader.eni(id))),
        enisById: ids => through(async () => (await reader.enisById(ids)).map(shown)),
        async *enis(subnet) {
          await way();
          for await (const page of reader.enis(subnet)) {
            await way();
            yield page.map(shown);
          }
        },
        carriers: (subnet, ips) => through(() => reader.carriers(subnet, ips)),
        subnet: id => through(() => reader.subnet(id)),
        reservations: subnet => through(() => reader.reservations(subnet)),
        instance: id => through(() => reader.instance(id)),
        profiles: ids => through(() => reader.profiles(ids)),
        instanceType: id => through(() => reader.instanceType(id)),
        addressLimit: type => through(() => reader.addressLimit(type)),
        assign: (eni, ips, before) =>
          writing(sender, 'assign', eni, ips, client => client.assign(eni, ips, before)),
        unassign: (eni, ips, before) =>
          writing(sender, 'unassign', eni, ips, client => client.unassign(eni, ips, before)),
      };
    };
    return sendingBy(SEND_AT_ONCE);
  }

  /** The VPC for one call that changes something. */
  #watched(call: Call): Vpc {
    const { vpc } = this;
    const { oracle, mirror, eni, subnet, ips } = call;
    let isSent = false;
    const write: Vpc['write'] = (action, on, change) => {
      oracle.demand(!isSent, 'a call is sent once');
      isSent = true;
      watchSending(call, this.#sent);
      const outcome = vpc.write(action, on, network => {
        const before = oracle.secondaries(eni);
        const value = change(network);
        watchApplied(call, before, oracle.secondaries(eni));
        return value;
      });
      if (outcome.kind !== 'answer') this.lookLater();
      for (const ip of ips) {
        const key = keyOf(subnet, ip);
        // Some ENI carries it.
        if (outcome.kind === 'refusal' && vpc.network.carrier(subnet, ip) !== null)
          oracle.refusedAsTaken.add(key);
        if (!isAnswered(outcome)) mirror.unansweredCalls.set(key, { eni, at: oracle.now });
      }
      return outcome;
    };
    return Object.assign(Object.create(vpc), { write });
  }

  /** Adds a fault that calls meet from now on. */
  addFault(fault: Fault): void {
    if (fault.kind === 'applyLate') this.lateMs.add(fault.ms);
    this.vpc.faults.add(fault);
  }

  /** The same for a fault that all calls meet; returns what ends it. */
  addFaultFor(fault: Fault): () => void {
    this.addFault(fault);
    return () => {
      const { faults } = this.vpc;
      const others = faults.list.filter(one => one !== fault);
      faults.clear();
      for (const one of others) faults.add(one);
    };
  }

  lookLater(): void {
    for (const ms of this.lateMs) this.#clock.effect(null, () => void this.vpc.lateCalls, ms);
  }
}

/** Whether the sender can know what EC2 did. */
const isAnswered = (outcome: Outcome<unknown>): boolean =>
  outcome.kind === 'answer' || outcome.kind === 'refusal'
    ? outcome.afterMs <= CALL_TIMEOUT_MS &&
      !(outcome.kind === 'refusal' && outcome.error.code === 'InternalError')
    : false;
