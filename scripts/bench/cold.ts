/** Cold rows: requests on ENIs that have no address ready, with the latencies of EC2. */
import { setTimeout as pause } from 'node:timers/promises';
import { AssignPrivateIpAddressesCommand, EC2Client } from '@aws-sdk/client-ec2';
import type { Runtime } from '../tiers.ts';
import { CONTAINERS_PER_ENI, eniName, type Fixture, openFixture } from './programs.ts';
import { type Bench, CIDRS, type ColdRow, median } from './rows.ts';
import type { StoreKind } from './stores.ts';

const LATENCIES_MS = {
  AssignPrivateIpAddresses: 250,
  UnassignPrivateIpAddresses: 250,
  DescribeNetworkInterfaces: 80,
};
const ASSIGN = 'AssignPrivateIpAddresses';
const MANY_ENIS = 50;
const EACH_OF_MANY = 8;
/** One each for the first two shapes, the many, and one for the direct calls. */
const ENIS = MANY_ENIS + 3;
const DIRECT_CALLS = 3;
/** A request that took longer than this part of an EC2 call has waited for one. */
const WAITED = 0.1;

export async function cold(bench: Bench): Promise<void> {
  const [runtime = 'node'] = bench.plan.runtimes;
  for (const kind of bench.plan.stores) {
    bench.progress(`cold, ${kind} on ${runtime}`);
    const { program } = bench;
    const store = await bench.stores(kind);
    const fixture = await openFixture({ program, runtime, store, cidr: CIDRS['4k'], enis: ENIS });
    try {
      for (const [action, ms] of Object.entries(LATENCIES_MS))
        await fixture.ec2.tell('POST', 'faults', { kind: 'latency', action, ms });
      for (const row of await shapes(bench, fixture, runtime, kind)) bench.found(row);
    } finally {
      await fixture.close();
    }
  }
}

async function shapes(
  { driver }: Bench,
  { url, ec2, enis: allEnis, quiet }: Fixture,
  runtime: Runtime,
  store: StoreKind,
): Promise<ColdRow[]> {
  const assignMs = await directAssignMs(ec2.url, eniName(ENIS - 1));
  const [first = '', second = '', ...many] = allEnis.slice(0, -1);
  const measure = async (shape: ColdRow['shape'], enis: string[], each: number): Promise<ColdRow> => {
    await quiet();
    const callsBefore = await ec2.calls(ASSIGN);
    const asked = { url, enis, each, atOnce: shape !== 'one by one' };
    const { latenciesMs, duplicates, errors } = await driver.ask('burst', asked);
    await pause(assignMs); // includes a refill that has begun
    return {
      what: 'cold',
      store,
      runtime,
      shape,
      enis: enis.length,
      requests: enis.length * each,
      p50Ms: median(latenciesMs),
      maxMs: Math.max(...latenciesMs),
      waited: latenciesMs.filter(ms => ms > WAITED * assignMs).length,
      assignMs,
      assignCalls: (await ec2.calls(ASSIGN)) - callsBefore,
      duplicates,
      errors,
    };
  };
  return [
    await measure('at once', [first], CONTAINERS_PER_ENI),
    await measure('one by one', [second], CONTAINERS_PER_ENI),
    await measure('many ENIs', many, EACH_OF_MANY),
  ];
}

/** Returns the median time of an assign that is sent to the simulator directly. */
async function directAssignMs(endpoint: string, eni: string): Promise<number> {
  const credentials = { accessKeyId: 'AKIAEXAMPLE', secretAccessKey: 'example' };
  const ec2 = new EC2Client({ endpoint, credentials, region: 'eu-central-1', maxAttempts: 1 });
  const taken: number[] = [];
  for (let call = 0; call < DIRECT_CALLS; call++) {
    const startedAt = performance.now();
    await ec2.send(
      new AssignPrivateIpAddressesCommand({ NetworkInterfaceId: eni, SecondaryPrivateIpAddressCount: 1 }),
    );
    taken.push(performance.now() - startedAt);
  }
  ec2.destroy();
  return median(taken);
}
