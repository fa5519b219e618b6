/** What a client certificate says of the instance that shows it. */
import type { X509Certificate } from 'node:crypto';
import type { InstanceId } from '../domain/ids.ts';

export const INSTANCE_URI = 'ec2-ipam://instance/';

/** A certificate of the authority begins so much before it was made, for clocks that are behind. */
export const BACKDATED_MS = 5 * 60_000;

const ID = 'i-[0-9a-f]{1,24}';
const URI = new RegExp(`^URI:${INSTANCE_URI}(${ID})$`);
const CN = new RegExp(`^CN=(${ID})$`);

/** The instance that the certificate names: by the one URI of its alternative names, or by its CN where it has no
 *  alternative names. Null: it names none, or more than one. */
export function instanceOf({ subject, subjectAltName }: X509Certificate): InstanceId | null {
  const isNamed = subjectAltName !== undefined && subjectAltName !== '';
  const names = isNamed ? subjectAltName.split(', ') : (subject ?? '').split('\n');
  const found = names.flatMap(name => (isNamed ? URI : CN).exec(name)?.[1] ?? []);
  return found.length === 1 ? (found[0] as InstanceId) : null;
}

export const expiryOf = ({ validTo }: X509Certificate): number => Date.parse(validTo);

/** When a certificate of the authority was made, by the store's clock. */
export const issueTimeOf = ({ validFrom }: X509Certificate): number => Date.parse(validFrom) + BACKDATED_MS;
