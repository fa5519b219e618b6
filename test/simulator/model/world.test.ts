// Goal: a VPC is built as it is described, or all that is wrong is told. Method: the pure model.
import { ETH0, ec2Refuses, INSTANCE, SUBNET, seeded, simulated } from '../../kit/simulated.ts';
import { assert, suite } from '../../kit/uvu.ts';

const worlds = suite('description of a VPC');
const complaint = (description: unknown): string => {
  try {
    simulated({}, description);
  } catch (error) {
    return (error as { line?: string }).line ?? String(error);
  }
  return 'built';
};
worlds('complaints: all come in one go, each with its place', () => {
  const text = complaint({
    subnets: [{ cidr: '10.0.1.3/24' }],
    enis: [{ subnet: 'net-1', primary: '10.0.1.256' }],
    colour: 'red',
  });
  for (const place of ['subnets.0.cidr', 'enis.0.subnet', 'enis.0.primary', 'colour'])
    assert.match(text, new RegExp(place.replaceAll('.', '\\.')));
});
worlds('what EC2 refuses: is a complaint too', () => {
  const description = {
    subnets: [{ id: SUBNET, cidr: '10.0.1.0/24' }],
    enis: [{ subnet: SUBNET, primary: '10.0.1.1' }],
  };
  assert.match(complaint(description), /enis\.0: Address 10\.0\.1\.1 is in subnet's reserved/);
});
worlds('subnets of one VPC: do not overlap', () => {
  const subnets = [{ cidr: '10.0.0.0/16' }, { cidr: '10.0.1.0/24' }];
  assert.match(complaint({ subnets }), /subnets\.1: .*conflicts.*InvalidSubnet\.Conflict/);
});
worlds('what is left out: is made up as EC2 would, the same for the same seed', () => {
  const description = { subnets: [{ id: SUBNET, cidr: '10.0.1.0/24' }], enis: [{ subnet: SUBNET }] };
  const made = [1, 1, 2].map(seed => {
    const { network } = simulated({ random: seeded(seed) }, description);
    return [...network.enis()][0];
  });
  assert.match(made[0]?.id ?? '', /^eni-0[0-9a-f]{16}$/);
  assert.match(made[0]?.mac ?? '', /^02(:[0-9a-f]{2}){5}$/);
  assert.equal(made[0], made[1]);
  assert.is.not(made[0]?.id, made[2]?.id);
});
worlds('an instance type of its own: has its own limits', () => {
  const { network } = simulated(
    {},
    {
      instanceTypes: { 'tiny.one': { enis: 1, addressesPerEni: 2 } },
      subnets: [{ id: SUBNET, cidr: '10.0.1.0/24' }],
      instances: [{ id: INSTANCE, type: 'tiny.one' }],
      enis: [{ id: ETH0, subnet: SUBNET, attachment: { instance: INSTANCE, deviceIndex: 0 } }],
    },
  );
  network.assign({ eni: ETH0, count: 1 });
  ec2Refuses(() => network.assign({ eni: ETH0, count: 1 }), /^PrivateIpAddressLimitExceeded/);
});
worlds.run();
