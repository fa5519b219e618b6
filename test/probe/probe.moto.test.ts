// Goal: a probe works on an EC2 that others wrote, ends and leaves nothing, though that EC2 refuses hardly anything.
// Method: moto over HTTP. It takes off a taken, a reserved and a malformed address from nobody, and knows no prefixes.
import process from 'node:process';
import {
  AttachNetworkInterfaceCommand,
  CreateNetworkInterfaceCommand,
  CreateSubnetCommand,
  CreateVpcCommand,
  DescribeImagesCommand,
  DescribeNetworkInterfacesCommand,
  EC2Client,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import { createEc2Client } from '../../src/cloud/ec2.ts';
import { createEc2Time } from '../../src/cloud/ec2-time.ts';
import { metadataDisabled } from '../../src/cloud/imds.ts';
import { createVerbatimEc2 } from '../../src/cloud/verbatim-ec2.ts';
import type { EniId } from '../../src/domain/ids.ts';
import { gather } from '../../src/probe/facts.ts';
import { CALLS_MAX, CHANGES_MAX, createMeter } from '../../src/probe/meter.ts';
import { cleanUp, planOf, type Run, tryOut } from '../../src/probe/probe.ts';
import { parseTranscript, transcriptOf } from '../../src/probe/transcript.ts';
import { startMoto } from '../kit/servers/moto.ts';
import { seeded } from '../kit/simulated.ts';
import { assert, suite } from '../kit/uvu.ts';

const credentials = { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'secret' };
const ec2 = {
  region: 'eu-west-1',
  credentials,
  log: () => {},
  metadata: metadataDisabled,
  time: createEc2Time(
    () => performance.now(),
    Date.now,
    () => {},
  ),
  deadlineClock: () => 0,
};

let stop = async () => {};
let client: EC2Client;
let eni = '' as EniId;

const probing = suite('a probe of moto');
probing.before(async () => {
  const moto = await startMoto();
  stop = moto.stop;
  process.env.AWS_ENDPOINT_URL_EC2 = moto.endpoint;
  client = new EC2Client({ region: 'eu-west-1', credentials });
  const { Vpc } = await client.send(new CreateVpcCommand({ CidrBlock: '10.0.0.0/16' }));
  const { Subnet } = await client.send(
    new CreateSubnetCommand({ VpcId: Vpc?.VpcId ?? '', CidrBlock: '10.0.0.0/20' }),
  );
  for (const PrivateIpAddress of ['10.0.1.10', '10.0.1.11']) {
    const made = await client.send(
      new CreateNetworkInterfaceCommand({ SubnetId: Subnet?.SubnetId ?? '', PrivateIpAddress }),
    );
    eni = made.NetworkInterface?.NetworkInterfaceId as EniId;
  }
  const { Images = [] } = await client.send(new DescribeImagesCommand({}));
  const { Instances = [] } = await client.send(
    new RunInstancesCommand({
      ImageId: Images[0]?.ImageId ?? '',
      MinCount: 1,
      MaxCount: 1,
      InstanceType: 't3.large',
    }),
  );
  const InstanceId = Instances[0]?.InstanceId ?? '';
  await client.send(
    new AttachNetworkInterfaceCommand({ NetworkInterfaceId: eni, InstanceId, DeviceIndex: 1 }),
  );
});
probing.after(() => stop());

/** In a time that passes at once. */
async function start() {
  let now = 0;
  const clock = () => now;
  const wait = async (ms: number) => {
    now += ms;
  };
  const verbatim = createVerbatimEc2(ec2);
  const meter = createMeter({ clock, wait });
  const reads = createEc2Client(ec2);
  const facts = await gather(eni, false, { reads, verbatim, random: seeded(1) }, meter);
  const run: Run = {
    verbatim,
    meter,
    clock,
    journal: { note: () => {} },
    signal: new AbortController().signal,
  };
  return { facts, run, meter };
}
async function secondaries(): Promise<string[]> {
  const shown = await client.send(new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [eni] }));
  const addresses = shown.NetworkInterfaces?.[0]?.PrivateIpAddresses ?? [];
  return addresses.filter(one => one.Primary !== true).map(one => one.PrivateIpAddress ?? '');
}

probing('tries all, shows where moto answers otherwise, and leaves nothing', async () => {
  const { facts, run, meter } = await start();
  assert.is(facts.limit, 12);
  const outcome = await tryOut(facts, planOf(facts, false), run);
  assert.is(outcome.unclean, null);
  assert.equal(outcome.leftOut, []);
  assert.equal(await secondaries(), []);
  assert.ok(meter.calls <= CALLS_MAX && meter.changes <= CHANGES_MAX, `${meter.calls}, ${meter.changes}`);
  const answer = (name: string) => outcome.tried.find(one => one.name === name);
  assert.is(answer('a named address')?.seen, null);
  assert.is(answer('an address that is taken')?.seen, null, 'moto gives it');
  const nobody = answer('on an ENI that is not there');
  assert.is(nobody?.seen?.code, 'InvalidNetworkInterfaceID.NotFound');
  assert.is(nobody?.ours, 'ec2-not-found');
  const about = { on: '2026-11-26', region: 'eu-west-1', calls: meter.calls, changes: meter.changes };
  assert.is(parseTranscript(transcriptOf(facts, outcome, about), 'it').tried.length, 12);
});

probing('is undone after it was left in the middle', async () => {
  const { facts, run } = await start();
  const [first] = planOf(facts, false);
  assert.ok(first !== undefined && typeof first.call !== 'string' && first.call.verb !== 'describe');
  const { call } = first as { call: Parameters<Run['verbatim']['change']>[0] };
  await run.verbatim.change(call);
  assert.equal(await secondaries(), [...call.names]);
  assert.is(await cleanUp(eni, [call], run), null);
  assert.equal(await secondaries(), []);
});
probing.run();
