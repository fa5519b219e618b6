/** Runs the history of one seed. */
import { Random } from '../kit/random.ts';
import { drawAgents, drawLayout, drawPace, drawTenants } from './layout.ts';
import { act, drawPlan, type Op, type OperationName } from './plan.ts';
import { mustServe, watchRest } from './rest.ts';
import { REFUSED, TRIED, tryDoubt, tryRefusals } from './trial.ts';
import { REST_MS, World } from './world.ts';

/** How it is counted that the id of a container was noted. */
export const ID_NOTED = 'id of a container noted';
/** Clocks are set right this long after the faults end. */
const CLOCK_RIGHT_AFTER_MS = 5_000;
/** Rests of more than three hours each. */
const RESTS_MAX = 4;

export type History = Awaited<ReturnType<typeof simulate>>;
/** `kept`: only these of the plan's operations, by number. `focus`: operations that are drawn more often. */
export async function simulate(
  seed: number,
  kept: readonly number[] | null = null,
  tracing = false,
  focus: readonly OperationName[] = [],
) {
  const random = new Random(seed);
  const paced = drawPace(drawLayout(random), new Random(seed ^ 0xb0c3e7));
  const limited = drawTenants(paced, new Random(seed ^ 0x7e4a47));
  const layout = drawAgents(limited, new Random(seed ^ 0xa6e27));
  const plan = drawPlan(random, focus);
  const ops = kept === null ? plan : kept.flatMap(index => plan[index] ?? []);
  const world = new World(layout, seed, tracing);
  await carryOut(world, ops);
  for (let i = 0; i < world.oracle.idsNoted; i++) world.count(ID_NOTED);
  return {
    seed,
    steps: world.clock.steps,
    ops: ops.length,
    /** How often each operation was carried out. */
    counts: world.counts,
    violation: world.oracle.violation,
    /** What happened, line by line, when that was asked for. */
    lines: world.oracle.lines ?? [],
  };
}

/** How many operations the plan of this seed has. */
export function planLength(seed: number): number {
  const random = new Random(seed);
  drawLayout(random);
  return drawPlan(random).length;
}

async function carryOut(world: World, ops: readonly Op[]): Promise<void> {
  for (const op of ops) {
    await passGap(world, op.gap);
    if (world.isOver()) return;
    act(world, op);
  }
  await world.pass(Math.max(world.faultsUntil - world.clock.now, 0));
  await comeToRest(world);
  if (!world.isOver()) await probe(world);
  if (world.isOver()) return;
  if (!world.random.chance(TRIED)) {
    if (world.random.chance(REFUSED)) await tryRefusals(world);
    return;
  }
  // One call goes wrong, and nothing else; then it has to come to rest again.
  await tryDoubt(world);
  for (const server of world.servers) server.die(); // their keepers sleep
  await comeToRest(world);
}

async function passGap(world: World, gap: Op['gap']): Promise<void> {
  if ('ms' in gap) return await world.pass(gap.ms);
  const until = world.clock.steps + gap.steps;
  await world.clock.run(() => world.isOver() || world.clock.steps >= until);
}

/** Ends all faults, starts all servers and lets time pass until the rules of rest hold. Where EC2 allows few
 *  calls that takes several rests. */
async function comeToRest(world: World): Promise<void> {
  const { clock, servers, ledgers, ec2, oracle } = world;
  oracle.note('> rest');
  ec2.vpc.faults.clear();
  for (const ledger of ledgers) {
    ledger.awayUntil = 0;
    ledger.failing.clear();
    for (const key of ledger.lockedUntil.keys()) ledger.lockedUntil.set(key, 0); // it was locked all the same
  }
  world.restingSince = clock.now;
  for (const { faults } of world.engines) {
    faults.blindUntil = 0;
    faults.boastingUntil = 0;
    faults.beforeAnswer = null;
    faults.hidden.clear();
    faults.runningOn.clear();
  }
  for (const process of oracle.misplaced) clock.kill(process);
  for (const server of servers) {
    const { process } = server;
    const setRight = () => {
      process.dayAheadMs = 0;
    };
    clock.thaw(process);
    // Later than it wakes: a clock that is set back by the length of the sleep hides the sleep from its process.
    clock.effect(null, setRight, CLOCK_RIGHT_AFTER_MS);
    server.restart();
  }
  for (let rests = 1; rests <= RESTS_MAX; rests++) {
    await world.pass(REST_MS);
    if (world.isOver()) return;
    const broken: [rule: string, detail: string][] = [];
    await watchRest(world, (holds, rule, detail) => {
      if (!holds) broken.push([rule, detail()]);
    });
    if (broken.length === 0) return;
    if (rests === RESTS_MAX) for (const [rule, detail] of broken) oracle.fail(rule, detail);
  }
}

/** At rest a request succeeds where an address is there. */
async function probe(world: World): Promise<void> {
  for (const { engine, network } of world.places()) {
    if (network.subPool !== '' || !mustServe(world, network.port)) continue;
    const before = engine.containers.length;
    void engine.run(network, null);
    await world.pass(60_000);
    world.oracle.demand(
      engine.containers.length > before || world.isOver(),
      'at rest a request succeeds where an address is there',
      () => `none for ${network.port.eni}`,
    );
  }
}
