// Goal: ENIs are described in pages and by filters as EC2 does it. Method: the pure model.
import type { EniId } from '../../../src/domain/ids.ts';
import { describeEnis } from '../../../src/simulator/model/describe.ts';
import type { Network } from '../../../src/simulator/model/network.ts';
import { ETH1, ec2Refuses, INSTANCE, ip, ips, SUBNET, simulated, times } from '../../kit/simulated.ts';
import { assert, suite } from '../../kit/uvu.ts';

const describing = suite('describe ENIs');
/** `count` ENIs with a secondary each. */
function busy(count: number): Network {
  const { network } = simulated({}, { subnets: [{ id: SUBNET, cidr: '10.0.0.0/16' }] });
  for (let i = 0; i < count; i++)
    network.createEni({
      subnet: SUBNET,
      primary: ip(`10.0.${1 + (i >> 7)}.${2 * (i & 127)}`),
      secondaries: ips(`10.0.${1 + (i >> 7)}.${2 * (i & 127) + 1}`),
      tags: { Name: `host ${i}` },
    });
  return network;
}

describing('pages: follow on each other, though ENIs come and go between them', () => {
  const network = busy(23);
  const filters = [{ name: 'subnet-id', values: [SUBNET] }];
  const first = describeEnis(network, { filters, maxResults: 10 });
  const shown = first.enis.map(eni => eni.id);
  network.deleteEni(shown[3] as EniId);
  const second = describeEnis(network, { filters, maxResults: 10, nextToken: first.nextToken ?? '' });
  const third = describeEnis(network, { filters, maxResults: 10, nextToken: second.nextToken ?? '' });
  assert.is(third.nextToken, null);
  const all = [first, second, third].flatMap(page => page.enis.map(eni => eni.id));
  assert.is(new Set(all).size, 23);
  assert.equal(all, [...all].sort());
});

describing('a token: serves only the filters it was given out for', () => {
  const network = busy(7);
  const { nextToken } = describeEnis(network, { maxResults: 5 });
  const again = (token: string, values: string[]) => () =>
    describeEnis(network, {
      filters: values.length > 0 ? [{ name: 'vpc-id', values }] : [],
      maxResults: 5,
      nextToken: token,
    });
  assert.is(again(nextToken ?? '', [])().enis.length, 2);
  ec2Refuses(again(nextToken ?? '', ['vpc-1']), /^InvalidParameterValue.*nextToken/);
  ec2Refuses(again('nonsense!', []), /^InvalidParameterValue.*nextToken/);
});

describing('what is too much for one answer: must be paginated, 5 to 1000 a page', () => {
  const network = busy(1001);
  ec2Refuses(() => describeEnis(network, {}), /^OperationNotPermitted/);
  assert.is(describeEnis(network, { maxResults: 1000 }).enis.length, 1000);
  for (const maxResults of [4, 1001])
    ec2Refuses(() => describeEnis(network, { maxResults }), /maxResults is invalid/);
});

describing('filters: narrow, values widen, and unknown ones are refused', () => {
  const network = busy(9);
  const count = (...filters: [name: string, ...values: string[]][]) =>
    describeEnis(network, { filters: filters.map(([name, ...values]) => ({ name, values })) }).enis.length;
  assert.is(count(['addresses.private-ip-address', '10.0.1.3', '10.0.1.4', '10.0.1.200']), 2);
  assert.is(count(['addresses.private-ip-address', '10.0.1.3'], ['subnet-id', 'subnet-0bad']), 0);
  assert.is(count(['tag:Name', 'host 3', 'host 4']), 2);
  assert.is(count(['tag:Name', 'host ?']), 9);
  assert.is(count(['private-ip-address', '10.0.1.*']), 9);
  assert.is(count(['private-ip-address', '10x0x1x4']), 0);
  assert.is(count(['attachment.instance-id', INSTANCE]), 0);
  ec2Refuses(() => count(['colour', 'red']), /^InvalidParameterValue: The filter 'colour' is invalid$/);
  const many = times(201, () => '10.0.1.1');
  ec2Refuses(() => count(['private-ip-address', ...many]), /^FilterLimitExceeded/);
});

describing('ids: one that is not there fails the whole call, and they have no pages', () => {
  const { network } = simulated();
  const ids = [ETH1, 'eni-0bad' as EniId];
  ec2Refuses(() => describeEnis(network, { ids }), /^InvalidNetworkInterfaceID\.NotFound/);
  ec2Refuses(() => describeEnis(network, { ids: [ETH1], maxResults: 5 }), /Combination/);
});
describing.run();
