/** A host with an agent: its certificate, and the servers. */
import { X509Certificate } from 'node:crypto';
import type { InstanceId } from '../../domain/ids.ts';
import { broken, notChecked, ok, type Verdict, warning } from '../finding.ts';

/** Times are in milliseconds since 1970. */
export interface Certificate {
  readonly instance: InstanceId;
  readonly issuedAt: number;
  readonly expiresAt: number;
}
export interface AgentParts {
  /** The saved certificate; null: there is none that can be used. */
  certificate(): Certificate | null;
  readonly servers: readonly ServerParts[];
}
export interface ServerParts {
  readonly name: string;
  /** Returns why it does not answer; null when it does. Never throws. */
  reach(): Promise<string | null>;
}

/** An agent asks for a new one at half of the life of its certificate, by chance a little later. */
const LATE = 0.75;

/** `instance`: this one; null: not known. */
export function judgeCertificate(
  shown: Certificate | null,
  instance: InstanceId | null,
  now: number,
): Verdict {
  const see = 'see `journalctl -u ec2-ipam-agent`, --server-ca, and --enroll-role of the servers';
  if (shown === null) return broken('this host has no certificate: it has not enrolled', see);
  const until = new Date(shown.expiresAt).toISOString();
  if (shown.expiresAt <= now) return broken(`the certificate of this host ended at ${until}`, see);
  if (instance !== null && shown.instance !== instance)
    return warning(
      `the certificate is that of ${shown.instance}, of whose image this host was made`,
      'start the agent: it enrols as this instance',
    );
  const isLate = now > shown.issuedAt + (shown.expiresAt - shown.issuedAt) * LATE;
  return isLate
    ? warning(
        `the certificate of ${shown.instance} is valid until ${until}, and was not renewed in time`,
        see,
      )
    : ok(`the certificate of ${shown.instance} is valid until ${until}`);
}

/** Before the end of a certificate that was made by hand, in milliseconds. */
const SOON_MS = 14 * 86_400_000;

/** The certificate in the file that a plugin spec names. */
export function judgeMadeByHand(path: string, pem: string | null, now: number): Verdict {
  const fix = `make a new certificate for this host, put it into ${path}, and restart Docker`;
  const until = pem === null ? Number.NaN : endOf(pem);
  if (Number.isNaN(until)) return broken(`${path} is no certificate that can be read`, fix);
  const day = new Date(until).toISOString();
  if (until <= now) return broken(`the certificate in ${path} ended at ${day}`, fix);
  return until - now < SOON_MS
    ? warning(`the certificate in ${path} is valid until ${day} only`, fix)
    : ok(`the certificate in ${path} is valid until ${day}`);
}

function endOf(pem: string): number {
  try {
    return Date.parse(new X509Certificate(pem).validTo);
  } catch {
    return Number.NaN;
  }
}

/** One of several servers is enough. `reasons`: why each does not answer; null: it does. */
export function judgeServers(servers: readonly { name: string; why: string | null }[]): Verdict[] {
  if (servers.length === 0)
    return [notChecked('which servers the agent has is not known', 'give its --server https://…')];
  const isAway = servers.every(({ why }) => why !== null);
  const judge = isAway ? broken : warning;
  const fix =
    'see that the server runs, its port is open to this host, and --server-ca is the authority of its certificate';
  return servers.map(({ name, why }) =>
    why === null ? ok(`${name} answers`) : judge(`${name} does not answer: ${why}`, fix),
  );
}
