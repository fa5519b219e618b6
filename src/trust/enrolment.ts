/** Enrolment of hosts: checks a host's proof of which instance it is, and signs a certificate for it. */
import { createHash, createPublicKey } from 'node:crypto';
import type { CallerIdentity, SignedStatement, Statement } from '../cloud/caller-identity.ts';
import type { CloudInstance } from '../cloud/cloud.ts';
import { IpamError, isError } from '../domain/error.ts';
import { isBlocked } from '../domain/host.ts';
import type { InstanceId } from '../domain/ids.ts';
import type { Log } from '../domain/log.ts';
import type { Store } from '../store/store.ts';
import type { Authority } from './authority.ts';
import { checkNonce, makeNonce, NONCE_LIFE_MS } from './nonce.ts';

const CERTIFICATE_LIFE_MS = 24 * 3_600_000;
/** How long a used nonce is noted: its life, and what the clocks of servers may differ. */
const NONCE_KEPT_MS = NONCE_LIFE_MS + 10 * 60_000;

/** A role whose instances may enrol. `profile` is the name of the instance profile that carries it. */
export interface EnrolledRole {
  readonly account: string;
  readonly role: string;
  readonly profile: string;
}

/** What a host sends. */
export interface Proof {
  /** The server's name, as the host knows it. */
  readonly server: string;
  readonly nonce: string;
  /** In DER (SPKI), as base64. */
  readonly publicKey: string;
  readonly signed: SignedStatement;
}

/** A certificate in PEM. Times are in milliseconds. */
export interface Enrolled {
  readonly instance: InstanceId;
  readonly certificate: string;
  readonly expiresAt: number;
}

export interface EnrolmentDeps {
  readonly authority: Authority;
  readonly store: Pick<Store, 'takeNonce' | 'enrolHost'>;
  readonly roles: readonly EnrolledRole[];
  /** Asks EC2. Throws ec2-not-found. */
  readonly describe: (instance: InstanceId) => Promise<CloudInstance>;
  /** Asks STS. */
  readonly whoSigned: (statement: Statement, signed: SignedStatement) => Promise<CallerIdentity>;
  /** Whether it is a name of this server, by the server's own certificate. */
  readonly isOurName: (name: string) => boolean;
  /** The time of day, in milliseconds. */
  readonly timeOfDay: () => number;
  readonly newToken: () => string;
  readonly log: Log;
}

export interface Enrolment {
  nonce(): string;
  /** Returns a certificate for the instance that sent the proof from `address`. Throws denied, with the reason. */
  enrol(proof: Proof, address: string): Promise<Enrolled>;
}

const denied = (why: string, hint = ''): IpamError =>
  new IpamError('denied', `not enrolled: ${why}`, { hint });

export function createEnrolment(deps: EnrolmentDeps): Enrolment {
  const { authority, store, timeOfDay } = deps;

  async function takeNonce(nonce: string): Promise<void> {
    const found = checkNonce(authority.nonceKey, nonce, timeOfDay());
    if (found === 'unknown') throw denied('the nonce is not one of these servers');
    if (found === 'expired') throw denied('the nonce has expired', 'ask for a new one');
    if (!(await store.takeNonce(nonce, deps.newToken(), NONCE_KEPT_MS)))
      throw denied('the nonce was used before', 'ask for a new one');
  }

  /** The instance runs with the role's profile, and the request came from its primary address. A container with an address
   *  of its own reaches the metadata of its host too, and can sign what its host can. */
  async function checkInstance(id: InstanceId, role: EnrolledRole, address: string): Promise<void> {
    const instance = await describe(id);
    if (!instance.isRunning) throw denied(`${id} does not run`);
    const profile = `arn:[a-z-]+:iam::${role.account}:instance-profile/(.*/)?${escaped(role.profile)}`;
    if (!new RegExp(`^${profile}$`).test(instance.profile ?? ''))
      throw denied(
        `${id} has ${instance.profile ?? 'no instance profile'}, and not that of the role ${role.role}`,
        'name the profile in --enroll-role ROLE=PROFILE',
      );
    if (instance.primary !== address)
      throw denied(
        `the request came from ${address}, and the primary address of ${id} is ${instance.primary}`,
        'a container, a proxy or NAT cannot enrol; where a load balancer hides addresses, make certificates by hand',
      );
  }

  async function describe(id: InstanceId): Promise<CloudInstance> {
    try {
      return await deps.describe(id);
    } catch (error) {
      if (isError(error, 'ec2-not-found')) throw denied(`EC2 shows no instance ${id}`);
      throw error;
    }
  }

  return {
    nonce: () => makeNonce(authority.nonceKey, timeOfDay()),
    async enrol({ server, nonce, publicKey, signed }, address) {
      const key = parseKey(publicKey);
      if (!deps.isOurName(server))
        throw denied(
          `the proof is for the server ${server.slice(0, 255)}`,
          "use a name of this server's certificate",
        );
      await takeNonce(nonce);
      const keyHash = createHash('sha256').update(key).digest('hex');
      const identity = await deps.whoSigned({ server, nonce, keyHash }, signed);
      const { instance, role } = sessionOf(identity, deps.roles);
      await checkInstance(instance, role, address);
      const host = await store.enrolHost(instance, CERTIFICATE_LIFE_MS);
      if (isBlocked(host))
        throw denied(`${instance} is revoked`, `ec2-ipam hosts allow ${instance} ends that`);
      const { enrolledAt, expiresAt } = host;
      if (enrolledAt === null || expiresAt === null)
        throw new IpamError('internal', `${instance} was not noted`);
      const certificate = await authority.issue(instance, key, enrolledAt, expiresAt);
      deps.log('info', 'host enrolled', { instance, address, role: role.role });
      return { instance, certificate, expiresAt };
    },
  };
}

/** The start of a P-256 key in DER; its point, uncompressed, follows. */
const P256_PREFIX = '3059301306072a8648ce3d020106082a8648ce3d03010703420004';
const P256_BYTES = 91;

function parseKey(text: string): Uint8Array {
  const key = Buffer.from(text, 'base64');
  if (key.length !== P256_BYTES || !key.toString('hex').startsWith(P256_PREFIX) || !isOnCurve(key))
    throw denied('the public key is not one of P-256');
  return new Uint8Array(key);
}

function isOnCurve(key: Buffer): boolean {
  try {
    createPublicKey({ key, format: 'der', type: 'spki' });
    return true;
  } catch {
    return false;
  }
}

const ARN = /^arn:[a-z-]+:sts::(\d{12}):assumed-role\/([\w+=,.@-]{1,64})\/([\w+=,.@-]{1,64})$/;

/** EC2 names the session of an instance's role for the instance. */
function sessionOf(
  { account, arn }: CallerIdentity,
  roles: readonly EnrolledRole[],
): { instance: InstanceId; role: EnrolledRole } {
  const [, owner, name, session = ''] = ARN.exec(arn) ?? [];
  const role = roles.find(one => one.account === owner && one.account === account && one.role === name);
  if (role === undefined)
    throw denied(`the proof is signed by ${arn.slice(0, 200)}`, 'no --enroll-role names its role');
  if (!/^i-[0-9a-f]{1,24}$/.test(session))
    throw denied(`the session ${session} of the role ${role.role} is not that of an instance`);
  return { instance: session as InstanceId, role };
}

const escaped = (text: string): string => text.replace(/[.+]/g, '\\$&');
