/** The answers of a simulated VPC in this process, word for word. */
import { formatCidr, type Ipv4 } from '../domain/address.ts';
import { IpamError } from '../domain/error.ts';
import { asPrefix } from '../simulator/ec2/params.ts';
import { createView } from '../simulator/model/caller.ts';
import type { Outcome, Vpc } from '../simulator/model/vpc.ts';
import { type Answer, actionOf, type VerbatimEc2 } from './verbatim.ts';

/** The simulator has no IPv6: a change of IPv6 prefixes throws bad-request. */
export function createVerbatimMemory(vpc: Vpc): VerbatimEc2 {
  return {
    eni: async id =>
      answerOf(
        vpc.read('DescribeNetworkInterfaces', (network, at) => {
          const eni = network.eni(id, at);
          return {
            subnet: eni.subnet,
            primary: eni.primary,
            instance: eni.attachment?.instance ?? null,
            requesterManaged: eni.requesterManaged,
            carried: {
              addresses: eni.secondaries,
              prefixes: eni.prefixes.map(formatCidr),
              'ipv6-prefixes': [],
            },
          };
        }),
      ),
    ipv6Cidr: async () => answerOf(vpc.read('DescribeSubnets', () => null)),
    async change(change) {
      const { verb, kind, eni, names } = change;
      if (kind === 'ipv6-prefixes') throw new IpamError('bad-request', 'the simulator has no IPv6');
      return answerOf(
        vpc.write(actionOf(change), eni, network => {
          createView(network, vpc.region).checkOwner(eni);
          if (kind === 'prefixes') network[`${verb}Prefixes`](eni, names.map(asPrefix));
          else if (verb === 'assign') network.assign({ eni, ips: names as readonly Ipv4[] });
          else network.unassign(eni, names as readonly Ipv4[]);
          return null;
        }),
      );
    },
  };
}

function answerOf<T>(outcome: Outcome<T>): Answer<T> {
  if (outcome.kind === 'answer') return { code: null, value: outcome.value };
  if (outcome.kind !== 'refusal') throw new IpamError('ec2-unknown', 'EC2 gave no answer');
  return { code: outcome.error.code, text: outcome.error.message };
}
