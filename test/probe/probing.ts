/** A probe of a simulated VPC, in a time that passes only while it pauses. */

import { createMemoryClient } from '../../src/cloud/memory.ts';
import type { Change, VerbatimEc2 } from '../../src/cloud/verbatim.ts';
import { createVerbatimMemory } from '../../src/cloud/verbatim-memory.ts';
import type { EniId } from '../../src/domain/ids.ts';
import { type Facts, gather } from '../../src/probe/facts.ts';
import { createMeter, type Meter } from '../../src/probe/meter.ts';
import { cleanUp, type Outcome, planOf, type Run, tryOut } from '../../src/probe/probe.ts';
import type { Vpc } from '../../src/simulator/model/vpc.ts';
import { seeded, simulated } from '../kit/simulated.ts';
import { ENI_A, ROOMY } from '../kit/vpcs.ts';

export interface Site {
  readonly vpc: Vpc;
  readonly time: { now: number };
  /** When each call was sent. */
  readonly sentAt: number[];
  /** What a file would have. */
  readonly journal: Change[];
  /** Of the subnet; and what is on the ENI. The simulator has no IPv6. */
  ipv6Cidr: string | null;
  ipv6Prefixes: readonly string[];
  /** Called with each change, before it is carried out and after. */
  onChange: (change: Change, when: 'before' | 'after') => Promise<void> | void;
  gather(withPrefixes?: boolean, eni?: EniId): Promise<{ facts: Facts; meter: Meter }>;
  tryOut(
    facts: Facts,
    meter: Meter,
    more?: { withPrefixes?: boolean; signal?: AbortSignal },
  ): Promise<Outcome>;
  undo(): Promise<string | null>;
}

export function site(world: unknown = ROOMY): Site {
  const time = { now: 1_000_000 };
  const vpc = simulated({ now: () => time.now }, world);
  const pacing = {
    clock: () => time.now,
    async wait(ms: number) {
      time.now += ms;
    },
  };
  const sentAt: number[] = [];
  const journal: Change[] = [];
  // Every call passes one of the two.
  const { read, write } = vpc;
  vpc.read = (...call) => {
    sentAt.push(time.now);
    return read(...call);
  };
  vpc.write = (...call) => {
    sentAt.push(time.now);
    return write(...call);
  };
  const inMemory = createVerbatimMemory(vpc);
  const verbatim: VerbatimEc2 = {
    async eni(id) {
      const answer = await inMemory.eni(id);
      if (answer.code !== null) return answer;
      const carried = { ...answer.value.carried, 'ipv6-prefixes': it.ipv6Prefixes };
      return { code: null, value: { ...answer.value, carried } };
    },
    ipv6Cidr: async subnet => ({ ...(await inMemory.ipv6Cidr(subnet)), code: null, value: it.ipv6Cidr }),
    async change(change) {
      await it.onChange(change, 'before');
      const answer = await (change.kind === 'ipv6-prefixes' ? changeIpv6(change) : inMemory.change(change));
      await it.onChange(change, 'after');
      return answer;
    },
  };
  async function changeIpv6({ verb, names, eni }: Change): Promise<{ code: null; value: null }> {
    vpc.write(verb, eni, () => {
      const others = it.ipv6Prefixes.filter(one => !names.includes(one));
      it.ipv6Prefixes = verb === 'assign' ? [...others, ...names] : others;
    });
    return { code: null, value: null };
  }
  const reads = createMemoryClient(vpc, { wait: pacing.wait, deadlineClock: () => 0 });
  const runOf = (meter: Meter, signal: AbortSignal): Run => ({
    verbatim,
    meter,
    clock: pacing.clock,
    signal,
    journal: { note: change => void journal.push(change) },
  });
  const it: Site = {
    vpc,
    time,
    sentAt,
    journal,
    ipv6Cidr: null,
    ipv6Prefixes: [],
    onChange: () => {},
    async gather(withPrefixes = false, eni = ENI_A) {
      const meter = createMeter(pacing);
      return { meter, facts: await gather(eni, withPrefixes, { reads, verbatim, random: seeded(1) }, meter) };
    },
    tryOut: (facts, meter, { withPrefixes = false, signal = new AbortController().signal } = {}) =>
      tryOut(facts, planOf(facts, withPrefixes), runOf(meter, signal)),
    undo: () => cleanUp(ENI_A, [...journal], runOf(createMeter(pacing), new AbortController().signal)),
  };
  return it;
}

/** Everything that the ENI carries beside its primary. */
export const carriedOn = ({ vpc, ipv6Prefixes }: Site, eni: EniId = ENI_A): number => {
  const { secondaries, prefixes } = vpc.network.eni(eni);
  return secondaries.length + prefixes.length + (eni === ENI_A ? ipv6Prefixes.length : 0);
};
