/** Reads ENIs from EC2's descriptions. A list leaves out an ENI that can't be read, and logs it once. */
import type { NetworkInterface } from '@aws-sdk/client-ec2';
import { parseCidr, parseIpv4 } from '../domain/address.ts';
import { IpamError } from '../domain/error.ts';
import { type InstanceId, parseEniId, parseSubnetId } from '../domain/ids.ts';
import type { Log } from '../domain/log.ts';
import { parseTenantName, TENANT_TAG } from '../domain/tenant.ts';
import type { CloudEni } from './cloud.ts';
import { withoutIpv4 } from './refusals.ts';

export interface EniReader {
  /** Throws bad-request for an ENI without an IPv4 address, and for one that can't be read. */
  one(eni: NetworkInterface): CloudEni;
  /** Those of them that have an IPv4 address and can be read. */
  all(enis: readonly NetworkInterface[] | undefined): CloudEni[];
}

/** Unreadable ENIs that are remembered, so that each is logged once. */
const LOGGED_MAX = 1000;

/** `now`: EC2's time of day, as the answer that is read has set it. */
export function createEniReader(log: Log, now: () => number | null): EniReader {
  const logged = new Set<string>();

  function logOnce(what: string, eni: NetworkInterface, error: IpamError): void {
    const key = `${eni.NetworkInterfaceId} ${error.message}`;
    if (logged.has(key) || logged.size >= LOGGED_MAX) return;
    logged.add(key);
    log('warn', what, { eni: eni.NetworkInterfaceId ?? null, error: error.line });
  }

  /** The items that can be read. The ledger has no address that can't be read. */
  const readable = <T, R>(eni: NetworkInterface, items: readonly T[], read: (item: T) => R): R[] =>
    items.flatMap(item => {
      try {
        return [read(item)];
      } catch (error) {
        if (!(error instanceof IpamError)) throw error;
        logOnce('address of an ENI left out, not understood', eni, error);
        return [];
      }
    });

  function one(eni: NetworkInterface): CloudEni {
    const id = parseEniId(eni.NetworkInterfaceId ?? '');
    if (hasNoIpv4(eni)) throw withoutIpv4(id);
    const { Attachment: attachment, PrivateIpAddresses = [], Ipv4Prefixes = [] } = eni;
    const secondaries = PrivateIpAddresses.filter(one => one.Primary !== true);
    return {
      id,
      owner: eni.OwnerId ?? null,
      subnet: parseSubnetId(eni.SubnetId ?? ''),
      vpc: eni.VpcId ?? '',
      mac: eni.MacAddress?.toLowerCase() ?? null,
      primary: parseIpv4(eni.PrivateIpAddress ?? '', `primary address of ${id}`),
      secondaries: readable(eni, secondaries, one =>
        parseIpv4(one.PrivateIpAddress ?? '', `address of ${id}`),
      ),
      prefixes: readable(eni, Ipv4Prefixes, one => parseCidr(one.Ipv4Prefix ?? '', `prefix of ${id}`)),
      // An attachment to an AWS service has no instance.
      instance: (attachment?.InstanceId ?? null) as InstanceId | null,
      attachment: attachment?.AttachmentId ?? null,
      attachedAt: attachment?.AttachTime?.getTime() ?? null,
      attachedForMs: ageOf(attachment?.AttachTime?.getTime() ?? null),
      tenant: tenantOf(eni),
    };
  }

  /** Null also where the tag's value is no name of a tenant. */
  function tenantOf(eni: NetworkInterface): string | null {
    const { Value: value = '' } = eni.TagSet?.find(tag => tag.Key === TENANT_TAG) ?? {};
    try {
      return value === '' ? null : parseTenantName(value, `tag ${TENANT_TAG}`);
    } catch (error) {
      if (!(error instanceof IpamError)) throw error;
      logOnce('a tag of an ENI names no tenant, and the ENI has no quota', eni, error);
      return null;
    }
  }

  function ageOf(at: number | null): number | null {
    const ms = now();
    return at === null || ms === null ? null : Math.max(0, ms - at);
  }

  return {
    one,
    all: (enis = []) =>
      enis.flatMap(eni => {
        if (hasNoIpv4(eni)) return [];
        try {
          return [one(eni)];
        } catch (error) {
          if (!(error instanceof IpamError)) throw error;
          logOnce('ENI left out, description not understood', eni, error);
          return [];
        }
      }),
  };
}

/** EC2 shows no primary address for it. An ENI with addresses but without a primary one can't be read. */
const hasNoIpv4 = ({ PrivateIpAddress = '', PrivateIpAddresses = [] }: NetworkInterface): boolean =>
  PrivateIpAddress === '' && PrivateIpAddresses.length === 0;
