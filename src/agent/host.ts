/** What the metadata service says of the host that the agent runs on. */
import * as v from 'valibot';
import type { RoleCredentials } from '../cloud/caller-identity.ts';
import type { ReadMetadata } from '../cloud/imds.ts';
import { IpamError } from '../domain/error.ts';
import { type InstanceId, parseInstanceId } from '../domain/ids.ts';

export interface Host {
  readonly instance: InstanceId;
  /** Its primary private address. A proof must come from it. */
  readonly address: string;
  readonly credentials: RoleCredentials;
}

// https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html
const ROLE_NAME = /^[\w+=,.@-]{1,64}$/;
const HINT = 'see that the instance metadata service answers here';

async function value(metadata: ReadMetadata, path: string, absent: string): Promise<string> {
  const answer = await metadata(path);
  if (answer.kind === 'value') return answer.text;
  if (answer.kind === 'absent') throw new IpamError('denied', absent, { hint: HINT });
  throw new IpamError('unavailable', `instance metadata can't be read: ${answer.why}`, { hint: HINT });
}

/** Throws denied where this is no instance, and unavailable while the service does not answer. */
export const readInstance = async (metadata: ReadMetadata): Promise<InstanceId> =>
  parseInstanceId(
    await value(metadata, 'instance-id', 'this is no EC2 instance'),
    'the instance id of the metadata',
  );

/** Throws denied where the instance has no role, too. */
export async function readHost(metadata: ReadMetadata): Promise<Host> {
  const instance = await readInstance(metadata);
  const address = await value(metadata, 'local-ipv4', 'the instance has no private IPv4 address');
  const [role = ''] = (
    await value(
      metadata,
      'iam/security-credentials/',
      'the instance has no role: give it an instance profile',
    )
  ).split('\n');
  const name = role.trim();
  if (!ROLE_NAME.test(name)) throw new IpamError('unavailable', 'the instance metadata names no role');
  const text = await value(
    metadata,
    `iam/security-credentials/${name}`,
    'the instance metadata has no credentials of the role',
  );
  return { instance, address, credentials: credentialsIn(text) };
}

const Credentials = v.object({
  AccessKeyId: v.string(),
  SecretAccessKey: v.string(),
  Token: v.string(),
});

function credentialsIn(text: string): RoleCredentials {
  try {
    const { AccessKeyId, SecretAccessKey, Token } = v.parse(Credentials, JSON.parse(text));
    return { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, sessionToken: Token };
  } catch (error) {
    throw new IpamError('unavailable', 'the instance metadata has no credentials of the role yet', {
      cause: error,
    });
  }
}
