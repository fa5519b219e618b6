/** A simulated VPC whose clock and luck are the test's, and a server for its faces. */
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import type { Ipv4 } from '../../src/domain/address.ts';
import type { EniId, InstanceId, SubnetId } from '../../src/domain/ids.ts';
import type { Vpc, VpcOptions } from '../../src/simulator/model/vpc.ts';
import { buildVpc, DEFAULT_WORLD } from '../../src/simulator/model/world.ts';

export const SUBNET = 'subnet-0a1b2c3d4e5f60001' as SubnetId;
export const INSTANCE = 'i-0a1b2c3d4e5f60001' as InstanceId;
/** Device 0 of the instance; its device 1, in the same subnet; its device 2, in the other. */
export const ETH0 = 'eni-0a1b2c3d4e5f60000' as EniId;
export const ETH1 = 'eni-0a1b2c3d4e5f60001' as EniId;
export const ETH2 = 'eni-0a1b2c3d4e5f60002' as EniId;

export const ip = (text: string): Ipv4 => text as Ipv4;
export const ips = (...texts: string[]): Ipv4[] => texts as Ipv4[];

/** mulberry32: 0 to 1, exclusive, the same for the same seed. */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The default world, or another, at a standstill: only `advance` moves its clock. */
export const simulated = (options: Partial<VpcOptions> = {}, world: unknown = DEFAULT_WORLD): Vpc =>
  buildVpc(world, { now: () => 1_000_000, random: seeded(1), ...options });

export interface Served {
  readonly url: string;
  close(): void;
}

/** The app on a port of loopback. */
export async function serve(app: { fetch: (request: Request, env: never) => unknown }): Promise<Served> {
  const server = createAdaptorServer({ fetch: app.fetch as never, overrideGlobalObjects: false }) as Server;
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}
