/** EC2's answers word for word, by the AWS SDK. */
import {
  AssignIpv6AddressesCommand,
  AssignPrivateIpAddressesCommand,
  DescribeNetworkInterfacesCommand,
  DescribeSubnetsCommand,
  UnassignIpv6AddressesCommand,
  UnassignPrivateIpAddressesCommand,
} from '@aws-sdk/client-ec2';
import { createEc2Call, type Ec2Call, type Ec2Options, isFormed } from './ec2-call.ts';
import { type Answer, actionOf, type Change, type VerbatimEc2 } from './verbatim.ts';

/** EC2 itself, or what AWS_ENDPOINT_URL_EC2 puts in its place. */
export function createVerbatimEc2(options: Ec2Options): VerbatimEc2 {
  const call = createEc2Call(options);
  const ask = <T>(action: string, send: Parameters<typeof call<T>>[1]): Promise<Answer<T>> =>
    call<Answer<T>>(action, async (client, limits) => {
      try {
        return { code: null, value: await send(client, limits) };
      } catch (error) {
        // With 503 EC2 throttles; then the call throws.
        if (isFormed(error) && (error.$metadata.httpStatusCode ?? 500) < 500)
          return { code: error.name, text: error.message };
        throw error;
      }
    });
  return {
    eni: id =>
      ask('DescribeNetworkInterfaces', async (client, limits) => {
        const command = new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [id] });
        const { NetworkInterfaces = [] } = await client.send(command, limits);
        const [eni = {}] = NetworkInterfaces;
        const { PrivateIpAddresses = [], Ipv4Prefixes = [], Ipv6Prefixes = [] } = eni;
        return {
          subnet: eni.SubnetId ?? '',
          primary: eni.PrivateIpAddress ?? null,
          instance: eni.Attachment?.InstanceId ?? null,
          requesterManaged: eni.RequesterManaged ?? false,
          carried: {
            addresses: PrivateIpAddresses.filter(one => one.Primary !== true).map(
              one => one.PrivateIpAddress ?? '',
            ),
            prefixes: Ipv4Prefixes.map(one => one.Ipv4Prefix ?? ''),
            'ipv6-prefixes': Ipv6Prefixes.map(one => one.Ipv6Prefix ?? ''),
          },
        };
      }),
    ipv6Cidr: id =>
      ask('DescribeSubnets', async (client, limits) => {
        const { Subnets = [] } = await client.send(new DescribeSubnetsCommand({ SubnetIds: [id] }), limits);
        return Subnets[0]?.Ipv6CidrBlockAssociationSet?.[0]?.Ipv6CidrBlock ?? null;
      }),
    change: change => ask(actionOf(change), sending(change)),
  };
}

type Send = Parameters<Ec2Call>[1];

function sending({
  verb,
  kind,
  eni: NetworkInterfaceId,
  names,
}: Change): (...of: Parameters<Send>) => Promise<null> {
  return async (client, limits) => {
    if (kind === 'ipv6-prefixes') {
      const input = { NetworkInterfaceId, Ipv6Prefixes: [...names] };
      if (verb === 'assign') await client.send(new AssignIpv6AddressesCommand(input), limits);
      else await client.send(new UnassignIpv6AddressesCommand(input), limits);
      return null;
    }
    const list = kind === 'addresses' ? { PrivateIpAddresses: [...names] } : { Ipv4Prefixes: [...names] };
    const input = { NetworkInterfaceId, ...list };
    if (verb === 'assign') await client.send(new AssignPrivateIpAddressesCommand(input), limits);
    else await client.send(new UnassignPrivateIpAddressesCommand(input), limits);
    return null;
  };
}
