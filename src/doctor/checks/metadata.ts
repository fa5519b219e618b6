/** Instance metadata: whether it answers, and which ENIs it shows. */
import type { Metadata, ReadMetadata } from '../../cloud/imds.ts';
import type { EniId, InstanceId } from '../../domain/ids.ts';
import { parseEniId, parseInstanceId } from '../../domain/ids.ts';
import { broken, MKNET, ok, type Verdict, warning } from '../finding.ts';
import type { Link } from './links.ts';

export interface HostEni {
  readonly id: EniId;
  readonly mac: string;
  /** 0: the primary ENI, which the host uses. */
  readonly device: number;
  /** Its primary private address; null: it has no IPv4 address. */
  readonly primary: string | null;
}
export interface InstanceFacts {
  readonly instance: InstanceId;
  readonly enis: readonly HostEni[];
}

const MACS_MAX = 32;

/** Returns why the service does not answer; null when it does. `answersWithoutToken`: whether a request of version 1 is
 *  answered, by whatever status. */
export async function judgeMetadata(
  id: Metadata,
  answersWithoutToken: () => Promise<boolean>,
): Promise<Verdict | null> {
  if (id.kind === 'value') return null;
  const modify = 'aws ec2 modify-instance-metadata-options --instance-id i-…';
  if (id.got === 403)
    return broken(
      'instance metadata is turned off (HTTP status 403)',
      `${modify} --http-endpoint enabled --http-tokens required`,
    );
  // The hop limit drops the answer that brings the token: an answer with an error has another cause.
  if (id.got === 'timeout' && (await answersWithoutToken()))
    return broken(
      `instance metadata answers, but gives no token of version 2 (${id.why}): the hop limit is too small`,
      `run this on the host itself, not in a container, or ${modify} --http-put-response-hop-limit 2`,
    );
  return broken(
    `instance metadata cannot be read: ${id.why}`,
    'see that this is an EC2 instance, and that no firewall, proxy or route keeps 169.254.169.254 from this host',
  );
}

/** Reads the instance and its ENIs. Throws an Error that says why it cannot. */
export async function readInstance(metadata: ReadMetadata): Promise<InstanceFacts> {
  const valueIfAny = async (path: string): Promise<string | null> => {
    const answer = await metadata(path);
    if (answer.kind === 'late') throw new Error(`instance metadata gives no ${path}: ${answer.why}`);
    return answer.kind === 'value' ? answer.text : null;
  };
  const value = async (path: string): Promise<string> => {
    const text = await valueIfAny(path);
    if (text !== null) return text;
    throw new Error(`instance metadata has no ${path}`);
  };
  const instance = parseInstanceId(await value('instance-id'), 'the instance id of the metadata');
  const folder = 'network/interfaces/macs/';
  const macs = (await value(folder)).split(/\s+/).map(mac => mac.replace(/\/$/, ''));
  const enis = await Promise.all(
    macs
      .filter(mac => /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac))
      .slice(0, MACS_MAX)
      .map(async mac => ({
        id: parseEniId(await value(`${folder}${mac}/interface-id`), 'the ENI of the metadata'),
        mac,
        device: Number(await value(`${folder}${mac}/device-number`)),
        primary: primaryIn(await valueIfAny(`${folder}${mac}/local-ipv4s`)),
      })),
  );
  return { instance, enis: enis.sort((a, b) => a.device - b.device) };
}

/** The first of the addresses. */
const primaryIn = (addresses: string | null): string | null => addresses?.split(/\s+/)[0] ?? null;

/** The ENIs that are meant, and what is to be said of the choice. */
export interface Choice {
  readonly enis: readonly HostEni[];
  readonly verdict: Verdict;
}

/** `given`: by --eni. `ofNetworks`: those that Docker's networks of this driver name. Else it is the only one besides the
 *  primary, as for mknet.sh. */
export function chooseEnis(
  { instance, enis }: InstanceFacts,
  given: EniId | null,
  ofNetworks: readonly string[],
  links: readonly Link[] | null,
): Choice {
  const shown = (one: HostEni): string => {
    const link = links?.find(({ mac }) => mac === one.mac);
    return link === undefined ? one.id : `${one.id} (${link.name})`;
  };
  const all = enis.map(shown).join(', ');
  if (given !== null) {
    const found = enis.filter(({ id }) => id === given);
    const verdict =
      found.length > 0
        ? ok(`${found.map(shown).join(', ')} is attached to ${instance}`)
        : broken(
            `${given} is not attached to ${instance}, which has ${all}`,
            `attach ${given}, or name another ENI`,
          );
    return { enis: found, verdict };
  }
  const used = enis.filter(({ id }) => ofNetworks.includes(id));
  if (used.length > 0)
    return {
      enis: used,
      verdict: ok(`${used.map(shown).join(', ')} of ${instance}, by its Docker networks`),
    };
  const spare = enis.filter(({ device, primary }) => device !== 0 && primary !== null);
  if (spare.length === 0)
    return {
      enis: [],
      verdict: broken(
        `${instance} has no ENI with an IPv4 address besides the primary`,
        'attach a second ENI in the subnet of the containers: aws ec2 attach-network-interface',
      ),
    };
  if (spare.length === 1)
    return { enis: spare, verdict: ok(`${shown(spare[0] as HostEni)}, the only ENI besides the primary`) };
  return {
    enis: [],
    verdict: warning(
      `${instance} has several ENIs besides the primary, and no network says which are for containers: ${all}`,
      `name one by --eni, or make their networks: ${MKNET} INTERFACE…`,
    ),
  };
}
