/** The actions of the EC2 Query API: parameters in, a call of the simulated VPC, records out. */
import { type Caller, createView } from '../model/caller.ts';
import {
  type DescribeEnis,
  describeEnis,
  type FilterReaders,
  isSweeping,
  matcher,
} from '../model/describe.ts';
import { refuse } from '../model/ec2-error.ts';
import type { AssignRequest, Network, NewEni } from '../model/network.ts';
import type { Instance, Subnet } from '../model/records.ts';
import type { Outcome, Vpc } from '../model/vpc.ts';
import {
  eniXml,
  instanceTypeXml,
  instanceXml,
  prefixXml,
  reservationXml,
  subnetXml,
  type Xml,
} from './ec2-xml.ts';
import { asIp, type Params } from './params.ts';

/** The members of a response, without its request id. */
type Answer = { readonly [name: string]: Xml };
/** Reads its parameters first. The returned function makes the call, once no unknown parameter is left. */
type Action = (params: Params, vpc: Vpc, caller: Caller) => () => Outcome<Answer>;

const SUBNET_FILTERS: FilterReaders<Subnet> = {
  'subnet-id': subnet => [subnet.id],
  'vpc-id': subnet => [subnet.vpc],
  'availability-zone': subnet => [subnet.zone],
};
const INSTANCE_FILTERS: FilterReaders<Instance> = {
  'instance-id': instance => [instance.id],
  'instance-type': instance => [instance.type],
  'instance-state-name': instance => [instance.state],
};

const DONE: Answer = { return: true };

/** The actions of the EC2 Query API that the simulator has.
 *  https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Operations.html */
export const ACTIONS: Readonly<Record<string, Action>> = {
  DescribeNetworkInterfaces(params, vpc, caller) {
    const maxResults = params.integer('MaxResults');
    const nextToken = params.text('NextToken');
    const request: DescribeEnis = {
      ids: params.ids('eni', 'NetworkInterfaceId'),
      filters: params.filters(),
      ...(maxResults === undefined ? {} : { maxResults }),
      ...(nextToken === undefined ? {} : { nextToken }),
    };
    const look = (network: Network, at?: number): Answer => {
      const page = describeEnis(network, request, at, createView(network, vpc.region, caller));
      return {
        networkInterfaceSet: page.enis.map(eni => eniXml(eni, vpc.region)),
        nextToken: page.nextToken,
      };
    };
    return () => vpc.read('DescribeNetworkInterfaces', look, isSweeping(request));
  },

  DescribeSubnets(params, vpc, caller) {
    const ids = params.ids('subnet', 'SubnetId');
    const filters = params.filters();
    return () =>
      vpc.read('DescribeSubnets', (network, at) => {
        const view = createView(network, vpc.region, caller);
        const hidden = ids.find(id => !view.showsSubnet(network.subnet(id, at)));
        if (hidden !== undefined) throw refuse.noSuchSubnet(hidden);
        const subnets =
          ids.length > 0
            ? ids.map(id => network.subnet(id, at))
            : [...network.subnets(at)].filter(view.showsSubnet);
        const wanted = subnets.filter(matcher(filters, SUBNET_FILTERS));
        return { subnetSet: wanted.map(subnet => subnetXml(subnet, network.available(subnet.id))) };
      });
  },

  GetSubnetCidrReservations(params, vpc) {
    const id = params.id('subnet', 'SubnetId');
    return () =>
      vpc.read('GetSubnetCidrReservations', network => ({
        subnetIpv4CidrReservationSet: network.reservations(id).map(one => reservationXml(id, one)),
        subnetIpv6CidrReservationSet: [],
      }));
  },

  DescribeInstances(params, vpc) {
    const ids = params.ids('i', 'InstanceId');
    const filters = params.filters();
    return () =>
      vpc.read('DescribeInstances', (network, at) => {
        const instances =
          ids.length > 0 ? ids.map(id => network.instance(id, at)) : [...network.instances(at)];
        const wanted = instances.filter(matcher(filters, INSTANCE_FILTERS));
        return {
          reservationSet: wanted.map(instance =>
            instanceXml(instance, network.enisOf(instance.id, at), vpc.region),
          ),
        };
      });
  },

  DescribeInstanceTypes(params, vpc) {
    const names = params.list('InstanceType');
    return () =>
      vpc.read('DescribeInstanceTypes', ({ instanceTypes }) => ({
        instanceTypeSet: (names.length > 0 ? names : [...instanceTypes.keys()]).map(name => {
          const type = instanceTypes.get(name);
          if (type === undefined) throw refuse.noSuchInstanceType(name);
          return instanceTypeXml(name, type);
        }),
      }));
  },

  AssignPrivateIpAddresses(params, vpc, caller) {
    const count = params.integer('SecondaryPrivateIpAddressCount');
    const request: AssignRequest = {
      eni: params.id('eni', 'NetworkInterfaceId'),
      ips: params.ips('PrivateIpAddress'),
      allowReassignment: params.flag('AllowReassignment') ?? false,
      ...(count === undefined ? {} : { count }),
    };
    const prefixes = params.prefixes('Ipv4Prefix');
    if (prefixes.length > 0 && (request.ips?.length || count !== undefined))
      throw refuse.addressesAndPrefixes();
    return () =>
      vpc.write('AssignPrivateIpAddresses', request.eni, network => {
        createView(network, vpc.region, caller).checkOwner(request.eni);
        if (prefixes.length > 0) {
          network.assignPrefixes(request.eni, prefixes);
          return {
            networkInterfaceId: request.eni,
            assignedIpv4PrefixSet: prefixes.map(prefixXml),
            return: true,
          };
        }
        return {
          networkInterfaceId: request.eni,
          assignedPrivateIpAddressesSet: network
            .assign(request)
            .map(privateIpAddress => ({ privateIpAddress })),
          return: true,
        };
      });
  },

  UnassignPrivateIpAddresses(params, vpc, caller) {
    const id = params.id('eni', 'NetworkInterfaceId');
    const ips = params.ips('PrivateIpAddress');
    const prefixes = params.prefixes('Ipv4Prefix');
    if (prefixes.length > 0 && ips.length > 0) throw refuse.addressesAndPrefixes();
    return () =>
      vpc.write('UnassignPrivateIpAddresses', id, network => {
        createView(network, vpc.region, caller).checkOwner(id);
        if (prefixes.length > 0) network.unassignPrefixes(id, prefixes);
        else network.unassign(id, ips);
        return DONE;
      });
  },

  CreateNetworkInterface(params, vpc) {
    params.text('ClientToken'); // the SDK sends one; here a repeated call creates another ENI
    const primary = params.text('PrivateIpAddress');
    const request: NewEni = {
      subnet: params.id('subnet', 'SubnetId'),
      description: params.text('Description') ?? '',
      ...(primary === undefined ? {} : { primary: asIp(primary) }),
    };
    return () =>
      vpc.write('CreateNetworkInterface', null, network => ({
        networkInterface: eniXml(network.createEni(request), vpc.region),
      }));
  },

  DeleteNetworkInterface(params, vpc) {
    const id = params.id('eni', 'NetworkInterfaceId');
    return () =>
      vpc.write('DeleteNetworkInterface', id, network => {
        network.deleteEni(id);
        return DONE;
      });
  },

  AttachNetworkInterface(params, vpc) {
    const id = params.id('eni', 'NetworkInterfaceId');
    const instance = params.id('i', 'InstanceId');
    const deviceIndex = params.integer('DeviceIndex') ?? -1;
    if (deviceIndex < 0) throw refuse.missing('deviceIndex');
    return () =>
      vpc.write('AttachNetworkInterface', id, network => ({
        attachmentId: network.attach(id, instance, deviceIndex).id,
      }));
  },

  DetachNetworkInterface(params, vpc) {
    const attachmentId = params.needed('AttachmentId');
    params.flag('Force');
    return () =>
      vpc.write('DetachNetworkInterface', null, network => {
        network.detach(attachmentId);
        return DONE;
      });
  },
};
