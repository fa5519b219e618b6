/** Server processes: the real machine, on simulated time, EC2 and ledger; what they ask of EC2 is counted. */
import type { OpenCloud } from '../../src/cloud/cloud.ts';
import { gate } from '../../src/cloud/gate.ts';
import { memoryCloud } from '../../src/cloud/memory.ts';
import { IpamError, isError } from '../../src/domain/error.ts';
import { type Ipam, openIpam } from '../../src/ipam/ipam.ts';
import type { Machine, Policy } from '../../src/ipam/machine.ts';
import type { Vpc } from '../../src/simulator/vpc.ts';
import type { Store } from '../../src/store/store.ts';
import type { SimulatedClock } from './clock.ts';
import type { Tally } from './tally.ts';

/** What `ec2-ipam serve` does unless told otherwise, for a central server. */
const POLICY: Policy = {
  callDeadlineMs: 20_000,
  graceMs: 930_000,
  cooldownMs: 30_000,
  quarantineMs: 600_000,
  requestTimeoutMs: 120_000,
  strictReuse: false,
  confirmMoves: true,
  warmMin: 2,
  warmMax: 6,
};
/** A fifth as often as by default: each pass costs EC2 one read per thousand ENIs of a subnet, and the study
 *  time. */
const RECONCILE_EVERY_MS = 300_000;
const EC2_SHARE = 0.5;
/** How long the database takes for each call. */
const STORE_MS = 1;

export interface Server extends Ipam {
  /** Begins what it does in the background. */
  run(): void;
}

export interface ServerOptions {
  readonly name: string;
  readonly clock: SimulatedClock;
  readonly vpc: Vpc;
  /** Which all servers share. */
  readonly ledger: Store;
  readonly tally: Tally;
  readonly random: () => number;
  readonly failed: (error: unknown) => void;
}

export function openServer(options: ServerOptions): Server {
  const { name, clock, vpc, tally, random, failed } = options;
  const store = inTime(options.ledger, clock);
  const log: Machine['log'] = (level, message, fields = {}) => {
    tally.logged(level, message, fields);
    const { error } = fields;
    if (error instanceof Error && !(error instanceof IpamError)) failed(error);
  };
  const cloud = counted(memoryCloud(vpc, { wait: clock.wait, deadlineClock: clock.now }), tally);
  const machine: Machine = {
    store,
    cloud: gate(cloud, {
      clock: clock.now,
      wait: clock.wait,
      share: EC2_SHARE,
      budget: store,
      log,
    }),
    policy: POLICY,
    clock: clock.now,
    deadlineClock: clock.now,
    wait: clock.wait,
    random,
    log,
    instance: null,
  };
  const ipam = openIpam(machine, {
    server: name,
    reconcileEveryMs: RECONCILE_EVERY_MS,
  });
  return {
    ...ipam,
    run: () => void ipam.keeper.run().catch(failed),
  };
}

/** The same store, each of whose calls takes its time. */
const inTime = (store: Store, clock: SimulatedClock): Store =>
  Object.fromEntries(
    Object.entries(store).map(([name, call]: [string, (...args: unknown[]) => Promise<unknown>]) => [
      name,
      async (...args: unknown[]) => {
        await clock.wait(STORE_MS);
        return await call(...args);
      },
    ]),
  ) as unknown as Store;

const counted = (cloud: OpenCloud, tally: Tally): OpenCloud => ({
  ...cloud,
  through: door =>
    cloud.through((action, send) =>
      door(action, async () => {
        tally.called(action);
        try {
          return await send();
        } catch (error) {
          if (isError(error, 'ec2-throttled')) tally.throttled();
          throw error;
        }
      }),
    ),
});
