/** Cold rows: with the latencies of EC2, requests on ENIs that have no address ready. */
import { AssignPrivateIpAddressesCommand, EC2Client } from '@aws-sdk/client-ec2';
import type { Runtime } from '../tiers.ts';
import type { BurstResult } from './messages.ts';
import { pause } from './program.ts';
import { type Bench, CIDRS, type ColdRow } from './rows.ts';
import { CONTAINERS_PER_ENI, eniName, openStand, type Stand } from './stand.ts';
import type { StoreKind } from './stores.ts';

const LATENCIES_MS = {
  AssignPrivateIpAddresses: 250,
  UnassignPrivateIpAddresses: 250,
  DescribeNetworkInterfaces: 80,
};
const ASSIGN = 'AssignPrivateIpAddresses';
const MANY_ENIS = 50;
const EACH_OF_MANY = 8;
/** One of each for the first two shapes, the many, and one for the direct calls. */
const ENIS = MANY_ENIS + 3;
const DIRECT_CALLS = 3;
/** Slower than this part of an EC2 call, an answer has waited for one. */
const WAITED = 0.1;

export async function cold(bench: Bench): Promise<void> {
  const [runtime = 'node'] = bench.plan.runtimes;
  for (const kind of bench.plan.stores) {
    bench.progress(`cold, ${kind} on ${runtime}`);
    const { program } = bench;
    const store = await bench.stores(kind);
    const stand = await openStand({ program, runtime, store, cidr: CIDRS['4k'], enis: ENIS });
    try {
      for (const [action, ms] of Object.entries(LATENCIES_MS))
        await stand.ec2.tell('POST', 'faults', { kind: 'latency', action, ms });
      for (const row of await shapes(bench, stand, runtime, kind)) bench.found(row);
    } finally {
      await stand.close();
    }
  }
}

async function shapes(
  { driver }: Bench,
  stand: Stand,
  runtime: Runtime,
  store: StoreKind,
): Promise<ColdRow[]> {
  const assignMs = await directAssignMs(stand.ec2.url, eniName(ENIS - 1));
  const [first = '', second = '', ...many] = stand.enis.slice(0, -1);
  const measured = async (
    shape: ColdRow['shape'],
    enis: readonly string[],
    each: number,
    atOnce: boolean,
  ): Promise<ColdRow> => {
    await stand.quiet();
    const callsBefore = await stand.ec2Calls(ASSIGN);
    const result = await driver.ask({ kind: 'burst', url: stand.url, enis, each, atOnce });
    await pause(assignMs); // a refill that has been begun is counted
    const assignCalls = (await stand.ec2Calls(ASSIGN)) - callsBefore;
    const { duplicates, errors } = result;
    const requests = enis.length * each;
    const figures = { ...figuresOf(result, assignMs), assignMs, assignCalls, duplicates, errors };
    return { what: 'cold', store, runtime, shape, enis: enis.length, requests, ...figures };
  };
  return [
    await measured('at once', [first], CONTAINERS_PER_ENI, true),
    await measured('one by one', [second], CONTAINERS_PER_ENI, false),
    await measured('many ENIs', many, EACH_OF_MANY, true),
  ];
}

function figuresOf({ latenciesMs }: BurstResult, assignMs: number) {
  const sorted = latenciesMs.toSorted((a, b) => a - b);
  return {
    p50Ms: sorted[Math.floor(sorted.length / 2)] ?? Number.NaN,
    maxMs: sorted.at(-1) ?? Number.NaN,
    waited: sorted.filter(ms => ms > WAITED * assignMs).length,
  };
}

/** What one assign takes when nobody stands between: the median of a few. */
async function directAssignMs(endpoint: string, eni: string): Promise<number> {
  const credentials = { accessKeyId: 'AKIAEXAMPLE', secretAccessKey: 'example' };
  const ec2 = new EC2Client({ endpoint, credentials, region: 'eu-central-1', maxAttempts: 1 });
  const asked = { NetworkInterfaceId: eni, SecondaryPrivateIpAddressCount: 1 };
  const taken: number[] = [];
  for (let call = 0; call < DIRECT_CALLS; call++) {
    const startedAt = performance.now();
    await ec2.send(new AssignPrivateIpAddressesCommand(asked));
    taken.push(performance.now() - startedAt);
  }
  ec2.destroy();
  return taken.toSorted((a, b) => a - b)[Math.floor(DIRECT_CALLS / 2)] ?? Number.NaN;
}
