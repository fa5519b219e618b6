/** Server processes: the real machine, on simulated time, EC2 and ledger; what they ask of EC2 is counted. */
import type { OpenCloud } from '../../src/cloud/cloud.ts';
import { createGate } from '../../src/cloud/gate.ts';
import { createMemoryCloud } from '../../src/cloud/memory.ts';
import { IpamError, isError } from '../../src/domain/error.ts';
import type { WarmTarget } from '../../src/domain/warmth.ts';
import type { IpamContext, Policy } from '../../src/ipam/context.ts';
import { survey } from '../../src/ipam/ec2/survey.ts';
import { type Ipam, openIpam } from '../../src/ipam/ipam.ts';
import type { Vpc } from '../../src/simulator/model/vpc.ts';
import type { Store } from '../../src/store/store.ts';
import type { SimulatedClock } from './clock.ts';
import type { HostPlace } from './fleet.ts';
import type { Tally } from './tally.ts';

/** What `ec2-ipam serve` does unless told otherwise. */
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
const EMBEDDED_EC2_SHARE = 0.05;
/** Between two looks at what is due, twenty times the default: a thousand look, and nothing here is due so often. */
const EMBEDDED_PAUSE_MS = 20_000;
/** How long the database takes for each call. */
const STORE_MS = 1;

export interface ServerSettings {
  readonly reconcileEveryMs?: number;
  /** Ready addresses that each ENI keeps; absent: the default. */
  readonly warm?: WarmTarget;
}

export interface Server extends Ipam {
  /** What goes before the first network: an embedded ledger takes its range. */
  init(): Promise<void>;
  /** Begins what it does in the background. */
  run(): void;
}

export interface ServerOptions {
  readonly name: string;
  readonly clock: SimulatedClock;
  readonly vpc: Vpc;
  /** Whose ledger it is; null: servers share it. */
  readonly host: HostPlace | null;
  readonly ledger: Store;
  readonly tally: Tally;
  readonly random: () => number;
  readonly failed: (error: unknown) => void;
}

export function openServer(options: ServerOptions, settings: ServerSettings): Server {
  const { name, host, clock, vpc, tally, random, failed } = options;
  const store = inTime(options.ledger, clock, rows => {
    if (host === null) tally.asked(rows);
  });
  const log: IpamContext['log'] = (level, message, fields = {}) => {
    tally.logged(level, message, fields);
    const { error } = fields;
    if (error instanceof Error && !(error instanceof IpamError)) failed(error);
  };
  const cloud = counted(createMemoryCloud(vpc, { wait: clock.wait, deadlineClock: clock.now }), tally);
  const context: IpamContext = {
    store,
    cloud: createGate(cloud, {
      clock: clock.now,
      wait: clock.wait,
      share: host === null ? EC2_SHARE : EMBEDDED_EC2_SHARE,
      budget: host === null ? store : null,
      log,
    }),
    policy: { ...POLICY, ...settings.warm },
    clock: clock.now,
    deadlineClock: clock.now,
    wait: clock.wait,
    random,
    log,
    instance: host?.instance ?? null,
  };
  const ipam = openIpam(context, {
    server: name,
    reconcileEveryMs: settings.reconcileEveryMs ?? RECONCILE_EVERY_MS,
    ...(host === null ? {} : { pause: () => clock.wait(EMBEDDED_PAUSE_MS) }),
  });
  return {
    ...ipam,
    async init() {
      if (host !== null && (await store.subnets()).length === 0)
        await survey(context, host.subnet, host.range);
    },
    run: () => void ipam.keeper.run().catch(failed),
  };
}

/** The same store, each of whose calls takes its time, and says how many rows it answered. */
const inTime = (store: Store, clock: SimulatedClock, asked: (rows: number) => void): Store => ({
  ...(Object.fromEntries(
    Object.entries(store).map(([name, call]: [string, (...args: unknown[]) => Promise<unknown>]) => [
      name,
      async (...args: unknown[]) => {
        await clock.wait(STORE_MS);
        const answer = await call(...args);
        asked(rowsIn(answer));
        return answer;
      },
    ]),
  ) as unknown as Store),
  lateOutcomes: store.lateOutcomes, // asks only when something is not settled
});

function rowsIn(answer: unknown): number {
  if (Array.isArray(answer)) return answer.length;
  return answer !== null && typeof answer === 'object' && 'rows' in answer ? rowsIn(answer.rows) : 1;
}

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
