/** The records of the simulated VPC as XML of the EC2 Query API. */
import { type Cidr, formatCidr, type Ipv4 } from '../../domain/address.ts';
import type { SubnetId } from '../../domain/ids.ts';
import type { InstanceType } from '../model/instance-types.ts';
import { ACCOUNT_ID, type Eni, type Instance, ipv4sOf, profileArn, type Subnet } from '../model/records.ts';
import type { Reservation } from '../model/subnet-addresses.ts';

/** A value of a response. A list becomes `<item>` elements; a null member is left out. */
export type Xml = string | number | boolean | null | readonly Xml[] | { readonly [name: string]: Xml };

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
// Characters that XML 1.0 cannot contain: https://www.w3.org/TR/xml/#charsets.
const UNWRITABLE = /[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu;

export const escapeXml = (text: string): string =>
  text.replace(UNWRITABLE, '\ufffd').replace(/[&<>"]/g, character => ENTITIES[character] ?? '');

/** Returns the content of an element. */
export function renderXml(value: Xml): string {
  if (value === null) return '';
  if (Array.isArray(value)) return value.map(item => `<item>${renderXml(item)}</item>`).join('');
  if (typeof value !== 'object') return escapeXml(String(value));
  return Object.entries(value as { readonly [name: string]: Xml })
    .filter(([, member]) => member !== null)
    .map(([name, member]) => `<${name}>${renderXml(member)}</${name}>`)
    .join('');
}

const STATE_CODES = { running: 16, terminated: 48, stopped: 80 } as const;

export function eniXml(eni: Eni, region: string): Xml {
  const { attachment } = eni;
  const address = (ip: Ipv4): Xml => ({
    privateIpAddress: ip,
    privateDnsName: dnsName(ip, region),
    primary: ip === eni.primary,
  });
  return {
    networkInterfaceId: eni.id,
    subnetId: eni.subnet,
    vpcId: eni.vpc,
    availabilityZone: eni.zone,
    description: eni.description,
    ownerId: eni.owner,
    requesterManaged: eni.requesterManaged,
    status: attachment === null ? 'available' : 'in-use',
    macAddress: eni.mac,
    privateIpAddress: eni.primary,
    privateDnsName: eni.primary && dnsName(eni.primary, region),
    sourceDestCheck: true,
    groupSet: [],
    attachment: attachment && {
      attachmentId: attachment.id,
      instanceId: attachment.instance,
      instanceOwnerId: eni.owner,
      deviceIndex: attachment.deviceIndex,
      networkCardIndex: 0,
      status: 'attached',
      attachTime: new Date(attachment.attachedAt).toISOString(),
      deleteOnTermination: attachment.deleteOnTermination,
    },
    tagSet: Object.entries(eni.tags).map(([key, value]) => ({ key, value })),
    privateIpAddressesSet: ipv4sOf(eni).map(address),
    ipv4PrefixSet: eni.prefixes.map(prefixXml),
    ipv6AddressesSet: [],
    interfaceType: eni.interfaceType,
  };
}

export const prefixXml = (prefix: Cidr): Xml => ({ ipv4Prefix: formatCidr(prefix) });

export const subnetXml = (subnet: Subnet, available: number): Xml => ({
  subnetId: subnet.id,
  state: 'available',
  vpcId: subnet.vpc,
  cidrBlock: formatCidr(subnet.cidr),
  availableIpAddressCount: available,
  availabilityZone: subnet.zone,
  ownerId: subnet.owner,
  defaultForAz: false,
  mapPublicIpOnLaunch: false,
});

export const reservationXml = (subnet: SubnetId, reservation: Reservation): Xml => ({
  subnetCidrReservationId: reservation.id,
  subnetId: subnet,
  cidr: formatCidr(reservation.cidr),
  reservationType: reservation.type,
  ownerId: ACCOUNT_ID,
});

/** Each instance is a reservation of its own. */
export function instanceXml(instance: Instance, enis: readonly Eni[], region: string): Xml {
  return {
    reservationId: instance.id.replace(/^i-/, 'r-'),
    ownerId: ACCOUNT_ID,
    groupSet: [],
    instancesSet: [
      {
        instanceId: instance.id,
        instanceType: instance.type,
        instanceState: { code: STATE_CODES[instance.state], name: instance.state },
        iamInstanceProfile:
          instance.profile === null
            ? null
            : {
                arn: profileArn(instance.profile),
                id: `AIPA${instance.id.slice(2).toUpperCase()}`,
              },
        placement: { availabilityZone: instance.zone, tenancy: 'default' },
        subnetId: enis[0]?.subnet ?? null,
        vpcId: enis[0]?.vpc ?? null,
        privateIpAddress: enis[0]?.primary ?? null,
        networkInterfaceSet: enis.map(eni => eniXml(eni, region)),
      },
    ],
  };
}

export const instanceTypeXml = (name: string, type: InstanceType): Xml => ({
  instanceType: name,
  networkInfo: { maximumNetworkInterfaces: type.enis, ipv4AddressesPerInterface: type.addressesPerEni },
});

export const dnsName = (ip: Ipv4, region: string): string =>
  `ip-${ip.replaceAll('.', '-')}.${region}.compute.internal`;
