// Goal: a client that is loaded at the first call does what it does otherwise, each request by the sender. Method: the
// client in memory, with each of its methods asked both ways.
import { createLaterEc2 } from '../../src/cloud/later-ec2.ts';
import { createMemoryClient } from '../../src/cloud/memory.ts';
import { parseIpv4 } from '../../src/domain/address.ts';
import { assert, suite } from '../kit/uvu.ts';
import { ENI_A, SUBNET } from '../kit/vpcs.ts';
import { failure, world } from '../kit/world.ts';

const made = () => {
  const { vpc } = world();
  return createMemoryClient(vpc, { wait: async () => {}, deadlineClock: () => 0 });
};

async function pagesOf<T>(pages: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const page of pages) all.push(page);
  return all;
}

const later = suite('an EC2 client that is loaded later');
later('each method has its answer and its arguments', async () => {
  const [own, loaded] = [made(), createLaterEc2(async () => made())];
  const ip = parseIpv4('10.0.1.9');
  const { instance } = await own.eni(ENI_A);
  assert.ok(instance);
  const answers = async (client: typeof own) => ({
    region: await client.region(),
    someEni: await client.someEni({ but: ENI_A }),
    eni: await client.eni(ENI_A),
    enisById: await client.enisById([ENI_A]),
    enis: await pagesOf(client.enis(SUBNET)),
    subnet: await client.subnet(SUBNET),
    reservations: await client.reservations(SUBNET),
    instance: await client.instance(instance),
    profiles: await client.profiles([instance]),
    instanceType: await client.instanceType(instance),
    addressLimit: await client.addressLimit((await client.instanceType(instance)) ?? ''),
    assigned: [await client.assign(ENI_A, [ip], 1), await client.carriers(SUBNET, [ip])],
    unassigned: [await client.unassign(ENI_A, [ip], 1), await client.carriers(SUBNET, [ip])],
  });
  const expected = await answers(own);
  // All but sendingBy; carriers is asked twice.
  assert.is(Object.keys(expected).length, Object.keys(own).length - 2);
  assert.equal(await answers(loaded), expected);
});

later('is loaded once, when it is first asked, and each sender sends its own requests', async () => {
  let loads = 0;
  const client = createLaterEc2(async () => {
    loads++;
    return made();
  });
  const sent: string[] = [];
  const sending = (name: string) =>
    client.sendingBy((action, send) => {
      sent.push(`${name} ${action}`);
      return send();
    });
  const [a, b] = [sending('a'), sending('b')];
  assert.is(loads, 0);
  await Promise.all([a.eni(ENI_A), b.subnet(SUBNET)]);
  assert.is(loads, 1);
  assert.equal(sent.sort(), ['a DescribeNetworkInterfaces', 'b DescribeSubnets']);
});

later('that fails to load is loaded anew by the next call', async () => {
  let loads = 0;
  const client = createLaterEc2(async () => {
    if (++loads === 1) throw new Error('no memory');
    return made();
  });
  const why = await client.eni(ENI_A).then(String, error => error.message);
  assert.is(why, 'no memory');
  assert.is((await client.eni(ENI_A)).id, ENI_A);
});

later('an error is that of the client', async () => {
  const client = createLaterEc2(async () => made());
  const late = await failure(client.assign(ENI_A, [parseIpv4('10.0.1.9')], 0));
  assert.is(late.code, 'ec2-unreachable');
});
later.run();
