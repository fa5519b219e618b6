// Goal: moto, which does not know DryRun of assign and unassign and carries them out, is never asked to assign, and its
// ENI stays as it is. Method: an ENI of moto, read before and after.
import process from 'node:process';
import {
  CreateNetworkInterfaceCommand,
  CreateSubnetCommand,
  CreateVpcCommand,
  EC2Client,
} from '@aws-sdk/client-ec2';
import { createAskRights } from '../../src/cloud/dry-run.ts';
import { createEc2Client } from '../../src/cloud/ec2.ts';
import { createEc2Time } from '../../src/cloud/ec2-time.ts';
import { metadataDisabled } from '../../src/cloud/imds.ts';
import type { Ipv4 } from '../../src/domain/address.ts';
import type { EniId } from '../../src/domain/ids.ts';
import { startMoto } from '../kit/servers/moto.ts';
import { assert, suite } from '../kit/uvu.ts';

const region = 'eu-west-1';
const credentials = { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'secret' };
const clock = () => performance.now();
const log = () => {};
const options = {
  ...{ region, credentials, log, metadata: metadataDisabled, deadlineClock: clock },
  time: createEc2Time(clock, Date.now, log),
};

const moto = suite('rights, asked of moto');
let stop = async () => {};
moto.after(() => stop());

moto('is told by its answer to unassign, and nothing changes', async () => {
  const started = await startMoto();
  stop = started.stop;
  process.env.AWS_ENDPOINT_URL_EC2 = started.endpoint;
  const client = new EC2Client({ region, credentials });
  const { Vpc } = await client.send(new CreateVpcCommand({ CidrBlock: '10.0.0.0/16' }));
  const { Subnet } = await client.send(
    new CreateSubnetCommand({ VpcId: Vpc?.VpcId, CidrBlock: '10.0.1.0/24' }),
  );
  const { NetworkInterface } = await client.send(
    new CreateNetworkInterfaceCommand({ SubnetId: Subnet?.SubnetId, PrivateIpAddress: '10.0.1.10' }),
  );
  const eni = NetworkInterface?.NetworkInterfaceId as EniId;
  const { eni: read } = createEc2Client(options);
  const had = await read(eni);
  const what = { eni, primary: '10.0.1.10' as Ipv4, router: '10.0.1.1' as Ipv4 };
  assert.equal(await createAskRights(options)(what), { unassign: { kind: 'ignored' }, assign: null });
  assert.equal(await read(eni), had);
});
moto.run();
