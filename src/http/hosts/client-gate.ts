/** Decides which clients of an https listener are obeyed, since hosts can enrol there and can be revoked. */
import { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { identityIn } from '../../domain/certificate.ts';
import type { InstanceId } from '../../domain/ids.ts';
import type { Log } from '../../domain/log.ts';
import { expiryOf, issueTimeOf } from '../../trust/client-certificate.ts';
import type { Trust } from '../../trust/trust.ts';
import { createSeldom } from '../seldom.ts';

/** Why a client is refused. `status` is HTTP's. */
export interface Refusal {
  readonly status: 403 | 503;
  readonly line: string;
}

export interface ClientGate {
  /** Whether clients without a certificate may connect, in order to enrol. */
  readonly enrols: boolean;
  /** The handshake of a client has ended. `hasClientCa`: there is an authority of the operator too. */
  came(socket: TLSSocket, hasClientCa: boolean): void;
  /** Calls `known` with the authority's certificate in PEM, now or once it is known. */
  onAuthority(known: (pem: string) => void): void;
  /** Takes note of the authority, and ends the connections of clients that are not obeyed any more. */
  refresh(): void;
  /** Returns why the request is refused; null when it may be handled. A connection that did not come through the gate is
   *  not refused. */
  refusalOf(socket: object, method: string, path: string): Refusal | null;
  /** The hosts that are connected and obeyed. */
  connected(): ReadonlySet<InstanceId>;
}

/** The only requests that need no certificate. */
const ENROL_PATHS = ['/enroll/nonce', '/enroll'];
export const isEnrolment = (path: string): boolean => ENROL_PATHS.includes(path);

/** At this size the oldest entry is dropped. */
const ACCEPTED_MAX = 10_000;

/** What a client showed when it connected. */
interface Client {
  readonly certificate: X509Certificate;
  readonly instance: InstanceId | null;
  readonly expiresAt: number;
  /** When the authority made the certificate; null: it was made by hand. */
  readonly issuedAt: number | null;
  /** Why the certificate is of no authority; null: it is of one. */
  readonly reason: string | null;
}

export function createClientGate(trust: Trust, timeOfDay: () => number, log: Log): ClientGate {
  /** Null: it showed no certificate. */
  const clients = new Map<TLSSocket | object, Client | null>();
  const listeners: ((pem: string) => void)[] = [];
  /** Certificates of the operator's authority, by their fingerprints. */
  const accepted = new Set<string>();
  const seldom = createSeldom(log);
  let authority: X509Certificate | null = null;

  function clientOf(socket: TLSSocket, hasClientCa: boolean): Client | null {
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) return null;
    // The TLS library has its own list of authorities where none is configured.
    const isOurs =
      authority !== null && certificate.checkIssued(authority) && certificate.verify(authority.publicKey);
    const isAuthorized = socket.authorized && (isOurs || (hasClientCa && isAccepted(socket, certificate)));
    return {
      certificate,
      instance: identityIn(certificate.raw).instance,
      expiresAt: expiryOf(certificate),
      issuedAt: isOurs ? issueTimeOf(certificate) : null,
      reason: isAuthorized
        ? null
        : String(socket.authorizationError ?? 'no authority of this server signed it'),
    };
  }

  /** Whether an authority of the operator has signed the certificate. Deno calls each session that is resumed authorized,
   *  also one that was refused: then it counts that the certificate was good when the session began. */
  function isAccepted(socket: TLSSocket, { fingerprint256: name }: X509Certificate): boolean {
    if (socket.isSessionReused()) return accepted.has(name);
    if (!socket.authorized) return false;
    const [oldest] = accepted.size >= ACCEPTED_MAX ? accepted : [];
    if (oldest !== undefined) accepted.delete(oldest);
    accepted.add(name);
    return true;
  }

  /** Null: it is obeyed. */
  function complaintAbout({ certificate, instance, expiresAt, issuedAt, reason }: Client): string | null {
    const of = instance === null ? '' : ` of ${instance}`;
    if (expiresAt <= timeOfDay())
      return `the certificate${of} expired on ${certificate.validTo}; the host must enrol again`;
    if (reason !== null) return `the certificate${of} is not accepted: ${reason}`;
    return instance === null ? null : trust.hosts.refusalOf(instance, issuedAt);
  }

  function complaintOf(client: Client | null): string | null {
    return client === null
      ? 'a client certificate is needed; enrol by ec2-ipam agent, or give the host a certificate'
      : complaintAbout(client);
  }

  return {
    enrols: trust.enrols,
    came(socket, hasClientCa) {
      clients.set(socket, clientOf(socket, hasClientCa));
      socket.once('close', () => clients.delete(socket));
    },
    onAuthority(known) {
      listeners.push(known);
      const pem = trust.authority();
      if (pem !== null) known(pem);
    },
    refresh() {
      const pem = trust.authority();
      if (authority === null && pem !== null) {
        authority = new X509Certificate(pem);
        for (const known of listeners) known(pem);
      }
      for (const [socket, client] of clients) {
        const complaint = client === null ? null : complaintAbout(client);
        if (complaint === null) continue;
        seldom('warn', 'client disconnected', { instance: client?.instance ?? null, reason: complaint });
        (socket as TLSSocket).destroy();
      }
    },
    refusalOf(socket, method, path) {
      const client = clients.get(socket);
      if (client === undefined) return null;
      if (trust.enrols && method === 'POST' && isEnrolment(path)) return null;
      const line = complaintOf(client);
      if (line === null) return null;
      // Its certificate may be of the authority.
      if (trust.enrols && authority === null)
        return { status: 503, line: 'the ledger is not open yet; try again' };
      seldom('warn', 'client refused', { instance: client?.instance ?? null, reason: line });
      return { status: 403, line };
    },
    connected() {
      const obeyed = [...clients.values()].filter(client => complaintOf(client) === null);
      return new Set(obeyed.flatMap(client => client?.instance ?? []));
    },
  };
}
