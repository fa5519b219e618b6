/** Which hosts this server trusts: its authority, enrolment, and the list of revoked hosts. */
import { randomUUID, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import type { CloudInstance } from '../cloud/cloud.ts';
import { IpamError } from '../domain/error.ts';
import type { InstanceId } from '../domain/ids.ts';
import type { Log } from '../domain/log.ts';
import type { Store } from '../store/store.ts';
import { openAuthority } from './authority.ts';
import { createEnrolment, type EnrolledRole, type Enrolment } from './enrolment.ts';
import { createHostList, type HostList } from './host-list.ts';

export interface TrustDeps {
  readonly store: Store;
  /** Asks EC2. */
  readonly describe: (instance: InstanceId) => Promise<CloudInstance>;
  readonly region: () => Promise<string>;
  /** Empty: hosts cannot enrol at this server. */
  readonly roles: readonly EnrolledRole[];
  /** What the authority's key is encrypted with. */
  readonly passphrase: string | null;
  /** AWS_ENDPOINT_URL_STS. */
  readonly stsOverride: string | undefined;
  /** The time of day, and a monotonic clock, in milliseconds. */
  readonly timeOfDay: () => number;
  readonly clock: () => number;
  readonly wait: (ms: number, signal?: AbortSignal) => Promise<void>;
  readonly log: Log;
}

/** What a host that enrols asks first. */
export interface Challenge {
  readonly nonce: string;
  /** The Region whose STS the proof must be signed for. */
  readonly region: string;
}

export interface Trust {
  readonly hosts: HostList;
  /** Whether hosts can enrol here. */
  readonly enrols: boolean;
  /** Makes or reads the authority, if hosts can enrol here, and the list of hosts. The ledger must be open. */
  open(): Promise<void>;
  /** The authority's certificate in PEM; null: there is none, or it is not open yet. */
  authority(): string | null;
  challenge(): Promise<Challenge>;
  /** `serverCertificate`: in PEM. */
  enrol(serverCertificate: string, ...proof: Parameters<Enrolment['enrol']>): ReturnType<Enrolment['enrol']>;
}

export function createTrust(deps: TrustDeps): Trust {
  const { store, roles, passphrase, timeOfDay, log } = deps;
  const hosts = createHostList(deps);
  const enrols = roles.length > 0 && passphrase !== null;
  let opened: Opened | null = null;

  function ready(): Opened {
    if (!enrols)
      throw new IpamError('denied', 'hosts cannot enrol at this server', {
        hint: 'start it with --enroll-role, or give the host a certificate',
      });
    if (opened === null)
      throw new IpamError('unavailable', 'the ledger is not open yet', { hint: 'try again' });
    return opened;
  }

  async function open(): Promise<void> {
    if (enrols && passphrase !== null) {
      const authority = await openAuthority(store, passphrase, timeOfDay());
      const enrolmentFor = (serverCertificate: string) =>
        createEnrolment({
          authority,
          store,
          roles,
          describe: deps.describe,
          async whoSigned(statement, signed) {
            const { callerIdentity, stsEndpoint } = await import('../cloud/caller-identity.ts');
            const region = await deps.region();
            const endpoint = stsEndpoint(region, deps.stsOverride);
            return await callerIdentity(statement, signed, { region, endpoint });
          },
          isOurName: name => isNameOf(serverCertificate, name),
          timeOfDay,
          newToken: randomUUID,
          log,
        });
      opened = { certificate: authority.certificate, enrolmentFor };
    }
    await hosts.refresh(new Set());
  }

  return {
    hosts,
    enrols,
    open,
    authority: () => opened?.certificate ?? null,
    async challenge() {
      const nonce = ready().enrolmentFor('').nonce();
      return { nonce, region: await deps.region() };
    },
    enrol: async (serverCertificate, proof, address) =>
      await ready().enrolmentFor(serverCertificate).enrol(proof, address),
  };
}

interface Opened {
  readonly certificate: string;
  enrolmentFor(serverCertificate: string): Enrolment;
}

/** Whether a client that connects to the name accepts the certificate. */
function isNameOf(pem: string, name: string): boolean {
  if (!/^[\w.:-]+$/.test(name)) return false; // checkHost throws for some that are no names
  const certificate = new X509Certificate(pem);
  return (isIP(name) === 0 ? certificate.checkHost(name) : certificate.checkIP(name)) !== undefined;
}
