/** A simulated VPC with the test's clock and random numbers, and an HTTP server for the simulator's apps. */
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import type { Ipv4 } from '../../src/domain/address.ts';
import { IpamError } from '../../src/domain/error.ts';
import type { EniId, InstanceId, SubnetId } from '../../src/domain/ids.ts';
import { Ec2Error } from '../../src/simulator/model/ec2-error.ts';
import type { Network } from '../../src/simulator/model/network.ts';
import type { Vpc, VpcOptions } from '../../src/simulator/model/vpc.ts';
import { buildVpc, DEFAULT_WORLD } from '../../src/simulator/model/world.ts';
import { Random } from './random.ts';
import { assert } from './uvu.ts';

export const SUBNET = 'subnet-0a1b2c3d4e5f60001' as SubnetId;
export const INSTANCE = 'i-0a1b2c3d4e5f60001' as InstanceId;
/** Device 0 of the instance; its device 1, in the same subnet; its device 2, in the other. */
export const ETH0 = 'eni-0a1b2c3d4e5f60000' as EniId;
export const ETH1 = 'eni-0a1b2c3d4e5f60001' as EniId;
export const ETH2 = 'eni-0a1b2c3d4e5f60002' as EniId;

export const ip = (text: string): Ipv4 => text as Ipv4;
export const ips = (...texts: string[]): Ipv4[] => texts as Ipv4[];
export const times = <T>(count: number, act: () => T): T[] => Array.from({ length: count }, act);

export const addressesOf = (network: Network, eni: EniId): string => network.eni(eni).secondaries.join(' ');

/** EC2's refusal. */
export function refusalOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof Ec2Error) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'not refused';
}
export const ec2Refuses = (act: () => unknown, says: RegExp): void => assert.match(refusalOf(act), says);

/** 0 to 1, exclusive, the same for the same seed. */
export const seeded = (seed: number): (() => number) => new Random(seed).next;

/** The default world, or another, at a standstill: only `advance` moves its clock. */
export const simulated = (options: Partial<VpcOptions> = {}, world: unknown = DEFAULT_WORLD): Vpc =>
  buildVpc(world, { now: () => 1_000_000, random: seeded(1), ...options });

export interface Served {
  readonly url: string;
  close(): void;
}

type AppOptions = Parameters<typeof createAdaptorServer>[0];

/** The app on a port of loopback. */
export async function serve({ fetch }: Pick<AppOptions, 'fetch'>): Promise<Served> {
  const server = createAdaptorServer({ fetch, overrideGlobalObjects: false }) as Server;
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Asks so many times at once; counts the answers and keeps the errors. */
export function crowd(size: number, ask: (index: number) => Promise<unknown>) {
  const told = { done: 0, errors: [] as IpamError[] };
  for (let i = 0; i < size; i++)
    ask(i).then(
      () => told.done++,
      (error: IpamError) => told.errors.push(error),
    );
  return told;
}

export const codeOf = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => 'done',
    error => (error instanceof IpamError ? error.code : String(error)),
  );
