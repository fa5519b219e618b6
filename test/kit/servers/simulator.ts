/** A simulated VPC whose faces are served in this process, with clients for them. */
import { Agent } from 'node:http';
import { EC2 } from '@aws-sdk/client-ec2';
import type { Vpc } from '../../../src/simulator/model/vpc.ts';
import { createSimulator } from '../../../src/simulator/simulator.ts';
import { INSTANCE, serve, simulated } from '../simulated.ts';
import { suite } from '../uvu.ts';

const CALL_TIMEOUT_MS = 10_000;

export interface Simulation {
  readonly vpc: Vpc;
  readonly url: string;
  readonly ec2: EC2;
  /** A call of the administrator's face. */
  readonly json: <T = unknown>(method: string, path: string, body?: unknown) => Promise<T>;
  readonly close: () => void;
}

async function openSimulation(): Promise<Simulation> {
  const vpc = simulated();
  const served = await serve(createSimulator(vpc, { instance: INSTANCE }));
  const ec2 = clientOf(served.url);
  return {
    vpc,
    url: served.url,
    ec2,
    async json<T>(method: string, path: string, sent?: unknown) {
      const init = { method, ...(sent === undefined ? {} : { body: JSON.stringify(sent) }) };
      return (await (await fetch(`${served.url}/simulator${path}`, init)).json()) as T;
    },
    close() {
      ec2.destroy();
      served.close();
    },
  };
}

export const clientOf = (endpoint: string, requestTimeout = CALL_TIMEOUT_MS): EC2 =>
  new EC2({
    endpoint,
    region: 'eu-central-1',
    credentials: { accessKeyId: 'AKIA', secretAccessKey: 'secret' },
    maxAttempts: 1,
    // Deno sends a request again by itself when a connection that was kept alive drops.
    requestHandler: {
      requestTimeout,
      throwOnRequestTimeout: true,
      httpAgent: new Agent({ keepAlive: false }),
    },
  });

/** Each test has a simulation of its own. */
export function simulatorSuite(name: string) {
  const test = suite<Simulation>(name);
  test.before.each(async context => void Object.assign(context, await openSimulation()));
  test.after.each(({ close }) => close());
  return test;
}

interface Failure {
  readonly name: string;
  readonly message: string;
  readonly status: number | undefined;
}
export const failureOf = (call: Promise<unknown>): Promise<Failure> =>
  call.then(
    () => ({ name: 'none', message: '', status: 200 }),
    error => ({ name: error.name, message: error.message, status: error.$metadata?.httpStatusCode }),
  );

export const assign = (ec2: EC2, eni: string, ...addresses: string[]) =>
  ec2.assignPrivateIpAddresses({ NetworkInterfaceId: eni, PrivateIpAddresses: addresses });
