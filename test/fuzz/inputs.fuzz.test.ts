// Goal: whatever comes, from Docker, hosts, servers, AWS and the kernel, is answered or refused in one clean line; nothing
// crashes or grows, no address is lost and none is given twice. Method: inputs from a seed, which know the protocol, to
// the parts in this process; the ledger is held against the answers. The rules are in part.ts and model.ts.
import process from 'node:process';
import { byLength } from '../kit/length.ts';
import { assert, suite } from '../kit/uvu.ts';
import { attack, PARTS } from './attack.ts';
import type { Outcome } from './part.ts';

const SEED = Number(process.env.FUZZ_SEED ?? 1);
const isNode = !('Deno' in globalThis) && process.versions.bun === undefined;
const INPUTS = byLength({
  full: isNode ? 1_000_000 : 100_000,
  short: 20_000,
  leftOut: 'most of a million hostile inputs',
});

const fuzz = suite('hostile inputs');
fuzz(`${INPUTS} of them, seed ${SEED} (FUZZ_SEED=N takes another)`, async () => {
  const outcomes: Outcome[] = [];
  const told = (outcome: Outcome) => void outcomes.push(outcome);
  await attack({ seed: SEED, inputs: INPUTS, only: null, jobs: isNode && INPUTS > 100_000 ? 2 : 0, told });
  for (const { part, seed, planned, failure } of outcomes)
    assert.is(
      failure,
      null,
      `npm run fuzz -- --part '${part}' --seed ${seed} --inputs ${planned} --jobs 0\n${failure}`,
    );
  assert.equal(new Set(outcomes.map(({ part }) => part)).size, PARTS.length);
  const [sum, grown] = [
    outcomes.reduce((total, { inputs }) => total + inputs, 0),
    Math.max(...outcomes.map(({ grownMb }) => grownMb ?? 0)),
  ];
  console.log(`  ${sum} inputs, the heap of no part grew by more than ${grown.toFixed(1)} MB`);
});
fuzz.run();
