/** One history: from a seed to what came of it. */

import type { Process } from '../kit/clock.ts';
import { Random } from '../kit/random.ts';
import { drawLayout, drawPace } from './layout.ts';
import type { Violation } from './oracle.ts';
import { act, drawPlan, type Op, type OperationName } from './plan.ts';
import { mustServe, watchRest } from './rest.ts';
import { TRIED, tryDoubt } from './trial.ts';
import { REST_MS, World } from './world.ts';

/** Events of one history; more mean that something never comes to rest. */
const STEPS_MAX = 60_000;

/** When clocks are set right at rest. */
const CLOCK_RIGHT_AFTER_MS = 5_000;
/** A rest is more than three hours. */
const RESTS_MAX = 4;

export interface History {
  readonly seed: number;
  readonly steps: number;
  readonly ops: number;
  /** How often each operation was carried out. */
  readonly counts: ReadonlyMap<string, number>;
  readonly violation: Violation | null;
  /** What happened, line by line, when that was asked for. */
  readonly lines: readonly string[];
}

/** `kept`: only these of the plan's operations, by number. `focus`: operations that are drawn more often. */
export async function simulate(
  seed: number,
  kept: readonly number[] | null = null,
  tracing = false,
  focus: readonly OperationName[] = [],
): Promise<History> {
  const random = new Random(seed);
  const layout = drawPace(drawLayout(random), new Random(seed ^ 0xb0c3e7));
  const plan = drawPlan(random, focus);
  const ops = kept === null ? plan : kept.flatMap(index => plan[index] ?? []);
  const world = new World(layout, seed, tracing);
  await new Run(world).carryOut(ops);
  return {
    seed,
    steps: world.clock.steps,
    ops: ops.length,
    counts: world.counts,
    violation: world.oracle.violation,
    lines: world.oracle.lines ?? [],
  };
}

/** How many operations the plan of this seed has. */
export function planLength(seed: number): number {
  const random = new Random(seed);
  drawLayout(random);
  return drawPlan(random).length;
}

const setRight = (process: Process): void => {
  process.dayAheadMs = 0;
};

class Run {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  async carryOut(ops: readonly Op[]): Promise<void> {
    for (const op of ops) {
      await this.#passGap(op.gap);
      if (this.#isOver()) return;
      act(this.#world, op);
    }
    await this.#comeToRest();
    await this.#settle();
    if (!this.#isOver()) await this.#probe();
    if (!this.#isOver() && this.#world.random.chance(TRIED)) await this.#try();
  }

  /** One call goes wrong, and nothing else; then it has to come to rest again. */
  async #try(): Promise<void> {
    const { clock } = this.#world;
    await tryDoubt(this.#world, ms => this.#passUntil(clock.now + ms));
    for (const server of this.#world.servers) server.die(); // their keepers sleep
    await this.#comeToRest();
    await this.#settle();
  }

  /** What must be so at rest is so at last: where EC2 lets few calls through, after some rests more. */
  async #settle(): Promise<void> {
    const { oracle, clock } = this.#world;
    for (let rests = 1; !this.#isOver(); rests++) {
      const broken: [rule: string, detail: string][] = [];
      await watchRest(this.#world, (holds, rule, detail) => {
        if (!holds) broken.push([rule, detail()]);
      });
      if (broken.length === 0) return;
      if (rests === RESTS_MAX) for (const [rule, detail] of broken) oracle.fail(rule, detail);
      else await this.#passUntil(clock.now + REST_MS);
    }
  }

  #isOver(): boolean {
    const { clock, oracle } = this.#world;
    if (clock.steps > STEPS_MAX) oracle.fail('it comes to rest', `not within ${STEPS_MAX} events`);
    return oracle.violation !== null;
  }

  async #passGap(gap: Op['gap']): Promise<void> {
    const { clock } = this.#world;
    if ('ms' in gap) return await this.#passUntil(clock.now + gap.ms);
    const until = clock.steps + gap.steps;
    await clock.run(() => this.#isOver() || clock.steps >= until);
  }

  async #passUntil(at: number): Promise<void> {
    const { clock } = this.#world;
    await clock.run(() => this.#isOver() || clock.nextAt > at);
    clock.now = Math.max(clock.now, at);
  }

  /** No fault any more, every server runs, and time passes. */
  async #comeToRest(): Promise<void> {
    const { clock, servers, ledgers, ec2, oracle } = this.#world;
    oracle.note('> rest');
    ec2.vpc.faults.clear();
    for (const ledger of ledgers) {
      ledger.awayUntil = 0;
      ledger.failing.clear();
      ledger.lockedUntil.clear();
    }
    this.#world.restingSince = clock.now;
    for (const process of oracle.misplaced) clock.kill(process);
    for (const server of servers) {
      const { process } = server;
      clock.thaw(process);
      // Not in the moment in which it wakes: who is set back then by as long as it slept can't know that it slept.
      clock.effect(null, () => setRight(process), CLOCK_RIGHT_AFTER_MS);
      server.restart();
    }
    await this.#passUntil(clock.now + REST_MS);
  }

  /** At rest a request succeeds where an address is there. */
  async #probe(): Promise<void> {
    const { engines, oracle, clock } = this.#world;
    for (const engine of engines) {
      if (engine.isLost) continue;
      for (const network of engine.networks) {
        if (!network.poolId.includes(';') && mustServe(this.#world, network.port)) {
          const before = engine.containers.length;
          const { eni } = network.port;
          void engine.run(network, null);
          await this.#passUntil(clock.now + 60_000);
          oracle.demand(
            engine.containers.length > before || this.#isOver(),
            'at rest a request succeeds where an address is there',
            () => `none for ${eni}`,
          );
        }
      }
    }
  }
}
