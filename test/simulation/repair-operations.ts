/** Repairs whose calls have no answer and are applied late, and the end of the holding meanwhile. */
import type { Container } from './engine.ts';
import { LATE_CALL_MS_MAX } from './layout.ts';
import { anyContainer, type Dice, isRunning, type Operation, on, robbedPort, spread } from './operation.ts';
import { recycle } from './server-operations.ts';
import { takeOff } from './vpc-operations.ts';
import type { World } from './world.ts';

/** How long a repair is waited for: longer than an absence takes to count. */
const REPAIR_WITHIN_MS = 420_000;
const LOOK_MS = 1_000;
/** How long the calls have no answer after the first of them, and how long the container runs after that. */
const NO_ANSWER_MS_MAX = 120_000;
const RUNS_ON_MS_MAX = 90_000;
const RECYCLED_MAX = 8;
/** Between its end and the command `recycle`. */
const RECYCLED_AFTER_MS_MAX = 10_000;
const ALL_MS_MAX = REPAIR_WITHIN_MS + NO_ANSWER_MS_MAX + RUNS_ON_MS_MAX + RECYCLED_AFTER_MS_MAX;
/** Later than all this after the first repair. */
const LATE_MS_MIN = 250_000;

/** One on an ENI that others may rob. */
function robbedContainer(world: World, dice: Dice): Container | undefined {
  const container = robbedPort(world, dice) === undefined ? undefined : anyContainer(world, dice);
  const isThere =
    container !== undefined && world.oracle.secondaries(container.network.port.eni).includes(container.ip);
  return isThere ? container : undefined;
}

export const REPAIR_OPERATIONS = {
  'repairs have no answer': on(2, robbedContainer, (world, container, dice) => {
    world.faultsUntil = Math.max(world.faultsUntil, world.clock.now + ALL_MS_MAX);
    void loseRepairs(world, container, dice);
  }),
} satisfies Record<string, Operation>;

async function loseRepairs(world: World, container: Container, [silent, runs, late]: Dice): Promise<void> {
  const { clock, ec2, oracle } = world;
  const { engine, ip } = container;
  const { port } = container.network;
  const { eni, subnet, ledger } = port;
  const ms = LATE_MS_MIN + (late % (LATE_CALL_MS_MAX - LATE_MS_MIN));
  takeOff(world, port, ip);
  const end = ec2.addFaultFor({ kind: 'applyLate', action: 'AssignPrivateIpAddresses', eni, ms });
  const isRepaired = () => oracle.rowIn(ledger, subnet, ip)?.repairUnsureAt != null;
  for (let waitedMs = 0; waitedMs < REPAIR_WITHIN_MS && !isRepaired(); waitedMs += LOOK_MS)
    await clock.wait(LOOK_MS);
  await clock.wait(spread(NO_ANSWER_MS_MAX, silent));
  end();
  await clock.wait(spread(RUNS_ON_MS_MAX, runs));
  if (isRunning(engine)) await engine.stop(container);
  await clock.wait(spread(RECYCLED_AFTER_MS_MAX, late));
  await recycle(world, port, 0, RECYCLED_MAX);
}
