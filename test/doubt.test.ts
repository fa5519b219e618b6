// Goal: a call of which nobody knows what became keeps no container from its start. Method: the whole machine on a
// simulated VPC whose assign takes 250 ms; one assign goes wrong, and 46 containers start on that ENI.
import type { Fault } from '../src/simulator/faults.ts';
import type { World as VpcDescription } from '../src/simulator/world.ts';
import { assert, suite } from './uvu.ts';
import { callsOf, ENI_A, ROOMY, request, secondariesOf, type World, world } from './world.ts';

const ASSIGN = 'AssignPrivateIpAddresses';
const ASSIGN_MS = 250;
const STARTS = 46;
/** The longest that a start may take. */
const START_MS_MAX = 4_000;
/** ENIs that hold 49 beside their primary. */
const LARGE: VpcDescription = {
  ...ROOMY,
  instances: [
    { id: 'i-0a', type: 'm5.24xlarge' },
    { id: 'i-0b', type: 'm5.24xlarge' },
  ],
};

async function scene(fault: Fault, options: Parameters<typeof world>[0] = {}): Promise<World> {
  const w = world({ vpc: LARGE, ...options });
  await w.enis.adopt(ENI_A);
  w.vpc.faults.add({ action: ASSIGN, times: 1, ...fault });
  w.vpc.faults.add({ kind: 'latency', ms: ASSIGN_MS, action: ASSIGN });
  return w;
}

/** How long each start took, the longest first. */
async function start(w: World, count: number, how: 'at once' | 'one after another'): Promise<number[]> {
  const took: number[] = [];
  const ips: string[] = [];
  const one = async () => {
    const before = w.time.now;
    ips.push((await request(w, ENI_A)).ip);
    took.push(w.time.now - before);
  };
  if (how === 'at once') await Promise.all(Array.from({ length: count }, one));
  else for (let i = 0; i < count; i++) await one();
  assert.is(new Set(ips).size, count, 'no address is given twice');
  for (const ip of ips) assert.ok(secondariesOf(w, ENI_A).includes(ip), `${ip} is not on the ENI`);
  return took.sort((a, b) => b - a);
}

const INTERNAL = { code: 'InternalError', message: 'An internal error has occurred' };
const FAULTS: [why: string, fault: Fault][] = [
  ['hung, and never applied', { kind: 'hang' }],
  ['hung, and applied', { kind: 'latency', ms: 60_000 }],
  ['hung, and applied five minutes later', { kind: 'applyLate', ms: 300_000 }],
  ['answered 500, and not applied', { kind: 'error', ...INTERNAL }],
  ['answered 500, and applied', { kind: 'lostReply', ...INTERNAL }],
  ['cut, and applied', { kind: 'lostReply' }],
];

const starting = suite('starts after a call without an answer');
for (const [why, fault] of FAULTS)
  for (const how of ['at once', 'one after another'] as const)
    starting(`one assign ${why}: 46 ${how}, none refused, none slower than 4 s`, async () => {
      const w = await scene(fault);
      const first = start(w, 1, 'at once');
      if (how === 'one after another') await first;
      const took = await start(w, STARTS, how);
      await first;
      console.log(`  ${why}, ${how}: longest ${took[0]} ms, ${callsOf(w, ASSIGN)} calls`);
      assert.ok((took[0] ?? 0) <= START_MS_MAX, `${took[0]} ms`);
    });
starting.run();
