/** What befalls servers and their ledger, and what operators do. */
import { IpamError } from '../../src/domain/error.ts';
import type { SubnetId } from '../../src/domain/ids.ts';
import type { IpamContext } from '../../src/ipam/context.ts';
import { survey } from '../../src/ipam/ec2/survey.ts';
import { openIpam } from '../../src/ipam/ipam.ts';
import { idle, recycle } from '../../src/ipam/sync/drain.ts';
import type { Caller } from '../../src/simulator/model/caller.ts';
import { ACCOUNT_ID } from '../../src/simulator/model/records.ts';
import { Process } from '../kit/clock.ts';
import { type Dice, type Operation, of, spread } from './dice.ts';
import { APART_MS_MAX, keyOf, OTHER_ACCOUNT, type Port, SKEW_MS_MAX, STEPS_APART_MS } from './layout.ts';
import type { Holding } from './oracle.ts';
import { contextOf, type Server } from './server.ts';
import type { World } from './world.ts';

/** Long enough for all that a server concludes from what it sees again. */
const MISPLACED_MS_MAX = 2_000_000;
const MISPLACED_PAUSE_MS = 40_000;
const WRONG_PLACES: readonly Caller[] = [
  { account: ACCOUNT_ID, region: 'us-east-1' },
  { account: OTHER_ACCOUNT, region: null },
];

/** Longer than a server that has died may still come back. */
const AWAY_MS_MAX = 1_200_000;
/** Longer than the grace. */
const SLEEP_MS_MAX = 2_000_000;
const DAY_STEP_MS_MAX = 3_600_000;
/** The call deadline. */
const STALL_MS_MIN = 20_000;

/** An operator's open transaction. */
const LOCK_MS_MAX = 60_000;
const LOCKED_ROWS_MAX = 6;

function withServer(operation: (world: World, server: Server, dice: Dice) => void): Operation {
  return (world, dice) => {
    const server = of(
      world.servers.filter(one => one.process.state === 'running'),
      dice[0],
    );
    if (server === undefined) return;
    operation(world, server, dice);
  };
}

/** A command that an operator runs, in a process of its own. */
async function command(
  world: World,
  port: Port | undefined,
  work: (context: IpamContext) => Promise<unknown>,
): Promise<void> {
  const ledger = world.ledgers[port?.ledger ?? 0];
  if (ledger === undefined) return;
  const context = contextOf(world, ledger, new Process(`command ${world.clock.steps}`));
  await work(context).catch(error => {
    if (!(error instanceof IpamError) || error.code === 'internal') world.oracle.crash(error);
  });
}

/** An operator's order: the holder gives the address up, if nobody has it since. */
export function giveUp(
  world: World,
  port: Port,
  { ip, claim }: Pick<Holding, 'ip' | 'claim'>,
): Promise<void> {
  return command(world, port, async ({ store }) => {
    const [row] = (await store.get(port.subnet, [ip])).rows;
    const mirror = world.ledgers[port.ledger]?.mirror;
    if (mirror === undefined || world.oracle.claimOf(mirror, keyOf(port.subnet, ip)) !== claim) return;
    if (row?.iface === port.eni && row.status === 'allocated' && row.missingSince === null)
      await store.move([{ row, move: 'release' }]);
  });
}

export const SERVER_DEEDS = {
  'server dies': withServer((world, server, dice) => {
    world.strike('server died');
    server.die();
    world.clock.effect(null, () => server.restart(), spread(60_000, dice[1]));
  }),
  // For long, so that those that stay believe that they are the only ones.
  'server leaves': withServer((world, server, dice) => {
    world.strike('server left');
    void server.leave(60_000 + spread(AWAY_MS_MAX, dice[1]));
  }),
  'server freezes': withServer((world, server, dice) => {
    const { process } = server;
    world.strike('server frozen');
    world.oracle.note(`${process.id} freezes`);
    world.clock.freeze(process);
    world.clock.effect(null, () => world.clock.thaw(process), spread(600_000, dice[1]));
  }),
  'server sleeps': withServer((world, server, dice) => {
    const { process } = server;
    world.strike('server slept');
    world.oracle.note(`${process.id} sleeps`);
    world.clock.sleep(process);
    world.clock.effect(null, () => world.clock.thaw(process), spread(SLEEP_MS_MAX, dice[1]));
  }),
  // As after a stall: the machine goes on with another time of day.
  'server clock steps': withServer((world, server, dice) => {
    world.strike('server clock stepped');
    world.clock.freeze(server.process);
    world.clock.effect(null, () => world.clock.thaw(server.process), STALL_MS_MIN + spread(600_000, dice[0]));
    server.process.dayAheadMs = (dice[2] % 2 === 0 ? 1 : -1) * spread(DAY_STEP_MS_MAX, dice[1]);
    server.process.unsteadyAt = world.clock.now;
    world.oracle.note(`the time of day of ${server.process.id} is ${server.process.dayAheadMs} ms ahead`);
  }),
  'statements fail': withServer((world, server, dice) => {
    world.strike('statement failed');
    server.ledger.failing.set(server.process, { after: dice[1] % 6, left: 1 + (dice[2] % 3) });
  }),
  'server at a wrong place': (world, [die, where, long]) => {
    const ledger = of(world.ledgers, die);
    if (ledger === undefined) return;
    const { clock, oracle } = world;
    const process = new Process(`misplaced ${clock.steps}`);
    const caller = of(WRONG_PLACES, where);
    oracle.note(`${process.id} starts: ${JSON.stringify(caller)}`);
    oracle.misplaced.add(process);
    world.strike('misplaced server');
    const context = contextOf(world, ledger, process, caller);
    const { keeper } = openIpam(context, {
      server: process.id,
      reconcileEveryMs: MISPLACED_PAUSE_MS,
      pause: () => clock.waitIn(process, MISPLACED_PAUSE_MS),
    });
    void keeper.run();
    void idle(context, world.layout.ports[0]?.subnet as SubnetId, 0, 4)
      .then(rows => recycle(context, rows))
      .catch(() => {});
    const forMs = spread(MISPLACED_MS_MAX, long);
    clock.effect(null, () => clock.kill(process), forMs);
    if (long % 3 > 0) return;
    // It is alone for as long.
    for (const server of world.servers)
      if (server.ledger === ledger && server.process.state === 'running') {
        clock.freeze(server.process);
        clock.effect(null, () => clock.thaw(server.process), forMs);
      }
  },
  'store away': (world, [die, long]) => {
    const ledger = of(world.ledgers, die);
    if (ledger === undefined) return;
    world.strike('store away');
    ledger.awayUntil = world.clock.now + spread(200_000, long);
  },
  // Forward it would make intents look old: that is a bound of the protocol, not a fault that it outlives.
  'store clock steps back': (world, [die, to]) => {
    const ledger = of(world.ledgers, die);
    if (ledger === undefined) return;
    world.strike('store clock stepped back');
    ledger.apartMs = Math.max(ledger.apartMs - (to % (2 * APART_MS_MAX)), -APART_MS_MAX);
    ledger.setSkew(0);
  },
  'store clock steps': (world, [die, to]) => {
    const ledger = of(world.ledgers, die);
    if (ledger === undefined) return;
    // Of two steps while a release waits, forth and back, nothing is left to tell.
    if (world.clock.now - ledger.steppedAt < STEPS_APART_MS) return;
    world.strike('store clock stepped');
    ledger.setSkew((to % (2 * SKEW_MS_MAX + 1)) - SKEW_MS_MAX);
  },
  'stranger locks rows': (world, [die, which, long]) => {
    const ledger = of(world.ledgers, die);
    if (ledger === undefined) return;
    world.strike('rows locked');
    const keys = [...ledger.mirror.rows.keys()];
    const until = world.clock.now + spread(LOCK_MS_MAX, long);
    for (let i = 0; i < 1 + (which % LOCKED_ROWS_MAX); i++)
      ledger.lockedUntil.set(keys[(which * (i + 1)) % keys.length] ?? '', until);
  },

  recycle: (world, [where, idleS, limit]) => {
    const port = of(world.layout.ports, where);
    if (port === undefined) return;
    void command(world, port, async context =>
      recycle(context, await idle(context, port.subnet, idleS % 3 === 0 ? 0 : 30_000, 1 + (limit % 8))),
    );
  },
  init: (world, [where]) => {
    const port = of(world.layout.ports, where);
    if (port !== undefined) void command(world, port, context => survey(context, port.subnet));
  },
} satisfies Record<string, Operation>;
