/** A server of the bundle with a ledger of its own and a simulated VPC of its own, ready to be asked. */
import { freePort, type Simulator, startSimulator } from '../../test/kit/servers/bundle.ts';
import type { Runtime } from '../tiers.ts';
import { errorIn, exchangeOnce, post } from './connection.ts';
import { type Program, pause, start } from './program.ts';
import type { EmptyStore } from './stores.ts';

export const SUBNET = 'subnet-0a1b2c3d4e5f60001';
/** As on the largest instances: the primary, and 49 for containers. */
export const CONTAINERS_PER_ENI = 49;
const INSTANCE_TYPE = 'bench.large';
/** More than any has: an embedded server serves one instance only. */
const ENIS_PER_INSTANCE = 64;
const CALLS_QUIET_FOR_MS = 500;
const CALLS_QUIET_LIMIT_MS = 30_000;

/** What every server has: all of EC2's tokens, since that is not what is measured, and nothing in the background. */
const SETTINGS = {
  EC2_IPAM_EC2_SHARE: '100%',
  EC2_IPAM_RECONCILE_EVERY: '24h',
  EC2_IPAM_LOG_FORMAT: 'json',
};

export interface Stand {
  readonly url: string;
  readonly server: Program;
  readonly ec2: Simulator;
  readonly enis: readonly string[];
  readonly store: EmptyStore;
  /** EC2 calls so far, of all actions or of one. */
  ec2Calls(action?: string): Promise<number>;
  /** Resolves when for a while nothing has been asked of EC2. */
  quiet(): Promise<void>;
  close(): Promise<void>;
}
export interface StandOptions {
  /** The bundle. */
  readonly program: string;
  readonly runtime: Runtime;
  readonly store: EmptyStore;
  readonly cidr: string;
  readonly enis: number;
  readonly settings?: Readonly<Record<string, string>>;
}

export const eniName = (index: number): string =>
  `eni-${(0xbe0c0000 + index).toString(16).padStart(17, '0')}`;

/** A subnet with so many ENIs, each the primary address alone. */
export function worldOf(cidr: string, enis: number): object {
  const instances = Array.from({ length: Math.ceil(enis / ENIS_PER_INSTANCE) }, (_, i) => ({
    id: `i-${(0xbe0c0000 + i).toString(16).padStart(17, '0')}`,
    type: INSTANCE_TYPE,
  }));
  return {
    subnets: [{ id: SUBNET, cidr }],
    instanceTypes: { [INSTANCE_TYPE]: { enis: ENIS_PER_INSTANCE, addressesPerEni: CONTAINERS_PER_ENI + 1 } },
    instances,
    enis: Array.from({ length: enis }, (_, i) => ({
      id: eniName(i),
      subnet: SUBNET,
      attachment: {
        instance: instances[Math.floor(i / ENIS_PER_INSTANCE)]?.id,
        deviceIndex: i % ENIS_PER_INSTANCE,
      },
    })),
  };
}

/** Resolves when the server knows each of the ENIs by a RequestPool, and so has filled its ledger. It is started anew
 *  then: a server compares a subnet that it finds in its ledger at once, and one that is new some time later. */
export async function openStand(options: StandOptions): Promise<Stand> {
  const { program, runtime, store, cidr, settings = {} } = options;
  const ec2 = await startSimulator(worldOf(cidr, options.enis));
  const url = `http://127.0.0.1:${await freePort()}`;
  const env = { ...ec2.env, ...store.env, ...SETTINGS, ...settings };
  const serve = () => start(runtime, program, ['serve', '--listen', url], env);
  const enis = Array.from({ length: options.enis }, (_, i) => eniName(i));
  let server = serve();
  const close = async () => {
    await server.stop();
    await ec2.stop();
  };
  try {
    await server.says('the ledger is open');
    for (const eni of enis) await requestPool(url, eni, cidr);
    await server.stop();
    server = serve();
    await server.says('the ledger is open');
  } catch (error) {
    await close();
    throw error;
  }

  async function ec2Calls(action?: string): Promise<number> {
    const calls = (await (await fetch(`${ec2.url}/simulator/calls`)).json()) as Record<string, number>;
    if (action !== undefined) return calls[action] ?? 0;
    return Object.values(calls).reduce((sum, count) => sum + count, 0);
  }
  return {
    url,
    server,
    ec2,
    enis,
    store,
    ec2Calls,
    async quiet() {
      const limit = performance.now() + CALLS_QUIET_LIMIT_MS;
      for (let calls = -1, now = await ec2Calls(); calls !== now; now = await ec2Calls()) {
        if (performance.now() > limit) throw new Error('the server asks EC2 again and again');
        calls = now;
        await pause(CALLS_QUIET_FOR_MS);
      }
    },
    close,
  };
}

async function requestPool(url: string, eni: string, cidr: string): Promise<void> {
  const body = JSON.stringify({ Pool: cidr, Options: { 'eni-id': eni } });
  const error = errorIn(await exchangeOnce(url, post('/IpamDriver.RequestPool', body)));
  if (error !== null) throw new Error(`RequestPool for ${eni}: ${error}`);
}
