/** The Cloud over the AWS SDK, and the strict simulator that it calls over HTTP on loopback. */
import process from 'node:process';
import { setTimeout as wait } from 'node:timers/promises';
import type { Ec2Client } from '../../src/cloud/cloud.ts';
import { createEc2Client } from '../../src/cloud/ec2.ts';
import type { Ec2Options } from '../../src/cloud/ec2-call.ts';
import { createEc2Time, type Ec2Time } from '../../src/cloud/ec2-time.ts';
import { metadataDisabled } from '../../src/cloud/imds.ts';
import type { Ipv4 } from '../../src/domain/address.ts';
import type { InstanceId } from '../../src/domain/ids.ts';
import type { Log } from '../../src/domain/log.ts';
import type { Vpc } from '../../src/simulator/model/vpc.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { type Served, serve, simulated } from '../kit/simulated.ts';
import { suite } from '../kit/uvu.ts';
import { ENI_A, ENI_B, SUBNET } from '../kit/vpcs.ts';

export const INSTANCE = 'i-0a' as InstanceId;
export const LATER = Number.POSITIVE_INFINITY;
export const TIMEOUT_MS = 300;
const KEYS = [
  'AWS_ENDPOINT_URL_EC2',
  'AWS_REGION',
  'AWS_CONFIG_FILE',
  'AWS_SHARED_CREDENTIALS_FILE',
] as const;

const reservations = [
  { cidr: '10.0.1.64/28', type: 'prefix' },
  { cidr: '10.0.1.128/28', type: 'explicit' },
];
const attachment = { instance: INSTANCE, deviceIndex: 1 };
const VPC = {
  subnets: [{ id: SUBNET, cidr: '10.0.1.0/24', reservations }],
  instances: [{ id: INSTANCE, type: 'm5.large' }],
  enis: [
    { id: ENI_A, subnet: SUBNET, primary: '10.0.1.4', prefixes: ['10.0.1.64/28'], attachment },
    { id: ENI_B, subnet: SUBNET, primary: '10.0.1.5', secondaries: ['10.0.1.6'] },
  ],
};

export let vpc: Vpc;
export let server: Served;
/** Answers instead of the simulator. */
export const byHand: { answer: ((request: Request) => Response | Promise<Response> | null) | null } = {
  answer: null,
};
const environment = Object.fromEntries(KEYS.map(key => [key, process.env[key]]));

export const ips = (...last: number[]): Ipv4[] => last.map(number => `10.0.1.${number}` as Ipv4);
/** More than one filter takes. */
export const MANY = ips(...Array.from({ length: 250 }, (_, i) => i + 4));
export const freshTime = (log: Log = () => {}): Ec2Time =>
  createEc2Time(() => performance.now(), Date.now, log);
export function cloud(options: Partial<Ec2Options> = {}): Ec2Client {
  const time = freshTime();
  time.heard({ date: new Date().toUTCString() }); // as if an answer of EC2 has come just now
  return createEc2Client({
    region: 'eu-central-1',
    credentials: { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'secret' },
    deadlineClock: () => 0,
    log: () => {},
    metadata: metadataDisabled,
    time,
    requestTimeoutMs: TIMEOUT_MS,
    ...options,
  });
}
/** EC2 refuses the next call with this code. */
export const refuseOnce = (code: string, message = 'no'): void =>
  vpc.faults.add({ kind: 'error', code, message, times: 1 });

export const xml = (body: string, status = 200): Response =>
  new Response(body, { status, headers: { 'content-type': 'text/xml' } });

/** A suite each of whose tests has a simulator of its own. */
export function ec2Suite(name: string): ReturnType<typeof suite> {
  const tests = suite(name);
  tests.before.each(async () => {
    vpc = simulated({ now: () => Date.now(), random: () => 0.5, bucketScale: null }, VPC);
    const app = createSimulator(vpc, {
      wait: ms => wait(ms),
      wallClock: () => Date.now(),
      instance: INSTANCE,
    });
    const fetch: typeof app.fetch = async (request, ...rest) =>
      (await byHand.answer?.(request)) ?? app.fetch(request, ...rest);
    server = await serve({ fetch });
    process.env.AWS_ENDPOINT_URL_EC2 = server.url;
    byHand.answer = null;
  });
  tests.after.each(() => {
    server.close();
    for (const key of KEYS) {
      if (environment[key] === undefined) delete process.env[key];
      else process.env[key] = environment[key];
    }
  });
  return tests;
}
