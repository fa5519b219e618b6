/** Faults of servers and of their ledger, and what operators do. */
import { IpamError } from '../../src/domain/error.ts';
import type { SubnetId } from '../../src/domain/ids.ts';
import { TENANT_TAG } from '../../src/domain/tenant.ts';
import type { IpamContext } from '../../src/ipam/context.ts';
import { survey } from '../../src/ipam/ec2/survey.ts';
import { openIpam } from '../../src/ipam/ipam.ts';
import { idle, unassignIdle } from '../../src/ipam/sync/drain.ts';
import { Process } from '../kit/clock.ts';
import { APART_MS_MAX, keyOf, type Port, QUOTA_MAX, SKEW_MS_MAX, TENANT, WRONG_PLACES } from './layout.ts';
import type { Ledger } from './ledger.ts';
import { anyLedger, anyPort, anyServer, type Operation, of, on, spread } from './operation.ts';
import type { Holding } from './oracle.ts';
import { contextOf } from './server.ts';
import type { World } from './world.ts';

/** Long enough for every conclusion that a server draws from repeated reads. */
const MISPLACED_MS_MAX = 2_000_000;
const MISPLACED_PAUSE_MS = 40_000;

/** Longer than a dead server is waited for. */
const AWAY_MS_MAX = 1_200_000;
const FROZEN_MS_MAX = 600_000;
/** Longer than the grace. */
const SLEEP_MS_MAX = 2_000_000;
const DAY_STEP_MS_MAX = 3_600_000;
/** The call deadline. */
const STALL_MS_MIN = 20_000;

/** An operator's open transaction. */
const LOCK_MS_MAX = 60_000;
const LOCKED_ROWS_MAX = 6;

/** Stands still for so long: the process alone, or with its machine. */
function suspend({ clock, oracle }: World, process: Process, what: 'freeze' | 'sleep', forMs: number): void {
  oracle.note(`${process.id}: ${what}`);
  clock[what](process);
  clock.effect(null, () => clock.thaw(process), forMs);
}

/** A command that an operator runs, in a process of its own. */
async function command(
  world: World,
  port: Port,
  work: (context: IpamContext) => Promise<unknown>,
): Promise<void> {
  const ledger = world.ledgers[port.ledger];
  if (ledger === undefined) return;
  const context = contextOf(world, ledger, new Process(`command ${world.clock.steps}`));
  await work(context).catch(error => {
    if (!(error instanceof IpamError) || error.code === 'internal') world.oracle.crash(error);
  });
}

/** An operator takes off what has been idle for so long. */
export const recycle = (world: World, port: Port, idleMs: number, limit: number): Promise<void> =>
  command(world, port, async context =>
    unassignIdle(context, await idle(context, port.subnet, idleMs, limit)),
  );

/** An operator releases the address, if it still has the holder that he saw. */
export const giveUp = (
  world: World,
  port: Port,
  { ip, claim }: Pick<Holding, 'ip' | 'claim'>,
): Promise<void> =>
  command(world, port, async ({ store }) => {
    const [row] = (await store.get(port.subnet, [ip])).rows;
    const mirror = world.ledgers[port.ledger]?.mirror;
    if (mirror === undefined || world.oracle.claimOf(mirror, keyOf(port.subnet, ip)) !== claim) return;
    if (row?.iface === port.eni && row.status === 'allocated' && row.missingSince === null)
      await store.move([{ row, move: 'release' }]);
  });

/** A server with the credentials of another account, or in another Region. */
function startMisplaced(world: World, ledger: Ledger, where: number, forMs: number): void {
  const { clock, oracle, layout } = world;
  const process = new Process(`misplaced ${clock.steps}`);
  const caller = of(WRONG_PLACES, where);
  oracle.note(`${process.id} starts: ${JSON.stringify(caller)}`);
  oracle.misplaced.add(process);
  const context = contextOf(world, ledger, process, caller);
  const { keeper } = openIpam(context, {
    server: process.id,
    reconcileEveryMs: MISPLACED_PAUSE_MS,
    pause: () => clock.waitIn(process, MISPLACED_PAUSE_MS),
  });
  void keeper.run();
  void idle(context, layout.ports[0]?.subnet as SubnetId, 0, 4)
    .then(rows => unassignIdle(context, rows))
    .catch(() => {});
  clock.effect(null, () => clock.kill(process), forMs);
}

export const SERVER_OPERATIONS = {
  'server dies': on(5, anyServer, ({ clock }, server, dice) => {
    server.die();
    clock.effect(null, () => server.restart(), spread(60_000, dice[1]));
  }),
  // For so long that the servers that stay take themselves for the only ones.
  'server leaves': on(2, anyServer, (_world, server, dice) =>
    server.leave(60_000 + spread(AWAY_MS_MAX, dice[1])),
  ),
  'server freezes': on(4, anyServer, (world, { process }, dice) =>
    suspend(world, process, 'freeze', spread(FROZEN_MS_MAX, dice[1])),
  ),
  'server sleeps': on(2, anyServer, (world, { process }, dice) =>
    suspend(world, process, 'sleep', spread(SLEEP_MS_MAX, dice[1])),
  ),
  // As after a stall of the machine, which continues with another time of day.
  'server clock steps': on(2, anyServer, (world, { process }, dice) => {
    suspend(world, process, 'freeze', STALL_MS_MIN + spread(FROZEN_MS_MAX, dice[0]));
    process.dayAheadMs = (dice[2] % 2 === 0 ? 1 : -1) * spread(DAY_STEP_MS_MAX, dice[1]);
    process.unsteadyAt = world.clock.now;
    world.oracle.note(`the time of day of ${process.id} is ${process.dayAheadMs} ms ahead`);
  }),
  'statements fail': on(5, anyServer, (_world, { ledger, process }, dice) =>
    ledger.failing.set(process, { after: dice[1] % 6, left: 1 + (dice[2] % 3) }),
  ),
  'store away': on(2, anyLedger, ({ clock }, ledger, [, long]) => {
    ledger.awayUntil = clock.now + spread(200_000, long);
  }),
  'server at a wrong place': on(2, anyLedger, (world, ledger, [, where, long]) => {
    const forMs = long % 6 === 0 ? MISPLACED_MS_MAX : spread(MISPLACED_MS_MAX, long);
    startMisplaced(world, ledger, where, forMs);
    if (long % 3 > 0) return;
    // The other servers of the ledger are frozen for as long, so that it compares the subnets each time.
    for (const server of world.servers)
      if (server.ledger === ledger && server.process.state === 'running')
        suspend(world, server.process, 'freeze', forMs);
  }),
  'store clock steps': on(2, anyLedger, (_world, ledger, [, to]) => {
    if (ledger.mayStep()) ledger.setSkew((to % (2 * SKEW_MS_MAX + 1)) - SKEW_MS_MAX);
  }),
  // Not forward: intents would look old, which the protocol excludes.
  'store clock steps back': on(1, anyLedger, (_world, ledger, [, to]) => {
    ledger.apartMs = Math.max(ledger.apartMs - (to % (2 * APART_MS_MAX)), -APART_MS_MAX);
    ledger.setSkew(0);
  }),
  'stranger locks rows': on(3, anyLedger, ({ clock }, ledger, [, which, long]) => {
    const keys = [...ledger.mirror.rows.keys()];
    const until = clock.now + spread(LOCK_MS_MAX, long);
    for (let i = 0; i < 1 + (which % LOCKED_ROWS_MAX); i++)
      ledger.lockedUntil.set(keys[(which * (i + 1)) % keys.length] ?? '', until);
  }),
} satisfies Record<string, Operation>;

export const OPERATOR_OPERATIONS = {
  recycle: on(5, anyPort, (world, port, [, idleS, limit]) =>
    recycle(world, port, idleS % 3 === 0 ? 0 : 30_000, 1 + (limit % 8)),
  ),
  // Also below what is used.
  'quota set': on(
    2,
    (world, dice) => (world.layout.quota === null ? undefined : anyLedger(world, dice)),
    ({ oracle }, ledger, [, quota]) => {
      oracle.note(`the tenant's quota becomes ${quota % (QUOTA_MAX + 1)}`);
      ledger.setQuota(quota % (QUOTA_MAX + 1));
    },
  ),
  'eni of another tenant': on(
    2,
    (world, dice) => (world.layout.quota === null ? undefined : anyPort(world, dice)),
    ({ ec2, oracle }, { eni }, [, which]) => {
      oracle.note(`${eni} ${which % 2 === 0 ? 'gets the tenant' : 'gets no tenant'}`);
      ec2.vpc.network.tag(eni, which % 2 === 0 ? { [TENANT_TAG]: TENANT } : {});
    },
  ),
  init: on(2, anyPort, (world, port) => command(world, port, context => survey(context, port.subnet))),
} satisfies Record<string, Operation>;
