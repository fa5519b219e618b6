/** Server processes: the whole program on simulated time, EC2 and ledger. Their EC2 calls are counted. */
import type { Ec2Client } from '../../src/cloud/cloud.ts';
import { createMemoryClient } from '../../src/cloud/memory.ts';
import { IpamError, isError } from '../../src/domain/error.ts';
import type { Log } from '../../src/domain/log.ts';
import type { WarmTarget } from '../../src/domain/pool-size.ts';
import { survey } from '../../src/ipam/ec2/survey.ts';
import { type Ipam, openIpam } from '../../src/ipam/ipam.ts';
import type { Store } from '../../src/store/store.ts';
import { createContext, POLICY, wrapStore } from '../../test/kit/world.ts';
import type { HostPlace } from './fleet.ts';
import type { Parts } from './site.ts';
import type { Tally } from './table.ts';

/** A fifth as often as by default: each pass costs EC2 one read per thousand ENIs of a subnet, and the study
 *  time. */
const RECONCILE_EVERY_MS = 300_000;
const EC2_SHARE = 0.5;
const EMBEDDED_EC2_SHARE = 0.05;
/** Pause of an embedded keeper: twenty times the default, since there are a thousand of them and nothing is due
 *  so often. */
const EMBEDDED_PAUSE_MS = 20_000;
/** How long the database takes for each call. */
const STORE_MS = 1;

export interface ServerSettings {
  readonly reconcileEveryMs?: number;
  /** Ready addresses that each ENI keeps; absent: the default. */
  readonly warm?: WarmTarget;
}

export interface Server extends Ipam {
  /** Must precede the first network: fills an embedded ledger with its range. */
  init(): Promise<void>;
  /** Starts its keeper. */
  run(): void;
}

interface ServerOptions {
  readonly name: string;
  /** Whose ledger it is; null: servers share it. */
  readonly host: HostPlace | null;
  readonly ledger: Store;
  readonly random: () => number;
}

export function openServer(
  { clock, vpc, tally, failed }: Parts,
  { name, host, ledger, random }: ServerOptions,
  { reconcileEveryMs = RECONCILE_EVERY_MS, warm }: ServerSettings,
): Server {
  const wrapped = wrapStore(ledger, async (_name, call) => {
    await clock.wait(STORE_MS);
    const answer = await call();
    if (host === null) tally.asked(rowsIn(answer));
    return answer;
  });
  // It asks only when something is not settled.
  const store: Store = { ...wrapped, lateOutcomes: ledger.lateOutcomes };
  const log: Log = (level, message, fields = {}) => {
    tally.logged(level, message, fields);
    if (fields.error instanceof Error && !(fields.error instanceof IpamError)) failed(fields.error);
  };
  const client = createMemoryClient(vpc, { wait: clock.wait, deadlineClock: () => clock.now });
  const context = createContext(clock, {
    store,
    client: counted(client, tally),
    limits: host === null ? { share: EC2_SHARE, budget: store } : { share: EMBEDDED_EC2_SHARE, budget: null },
    policy: { ...POLICY, ...warm },
    random,
    log,
    host: { instance: host?.instance ?? null },
  });
  const pause = host === null ? {} : { pause: () => clock.wait(EMBEDDED_PAUSE_MS) };
  const ipam = openIpam(context, { server: name, reconcileEveryMs, ...pause });
  return {
    ...ipam,
    async init() {
      if (host !== null && (await store.subnets()).length === 0)
        await survey(context, host.subnet, host.range);
    },
    run: () => void ipam.keeper.run().catch(failed),
  };
}

function rowsIn(answer: unknown): number {
  if (Array.isArray(answer)) return answer.length;
  return answer !== null && typeof answer === 'object' && 'rows' in answer ? rowsIn(answer.rows) : 1;
}

const counted = (client: Ec2Client, tally: Tally): Ec2Client => ({
  ...client,
  sendingBy: sender =>
    client.sendingBy((action, send) =>
      sender(action, async () => {
        tally.called(action);
        try {
          return await send();
        } catch (error) {
          if (isError(error, 'ec2-throttled')) tally.now.throttles++;
          throw error;
        }
      }),
    ),
});
