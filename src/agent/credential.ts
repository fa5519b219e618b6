/** The key and the certificate of this host, and the file that keeps them over a restart of the agent. */
import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { join } from 'node:path';
import { identityIn } from '../domain/certificate.ts';
import { IpamError } from '../domain/error.ts';
import type { InstanceId } from '../domain/ids.ts';
import type { Log } from '../domain/log.ts';
import { readPrivate } from '../store/private-file.ts';
import { expiryOf, issueTimeOf } from '../trust/client-certificate.ts';

export interface Credential {
  readonly instance: InstanceId;
  /** Both in PEM. */
  readonly certificate: string;
  readonly key: string;
  readonly issuedAt: number;
  readonly expiresAt: number;
  /** Connections that show the certificate. */
  readonly agent: Agent;
}

const FILE = 'agent.pem';
/** Connections to one server. */
const SOCKETS_MAX = 400;

export interface KeyPair {
  /** In PEM (PKCS #8). */
  readonly key: string;
  /** In DER (SPKI). */
  readonly publicKey: Buffer;
}

export const newKeyPair = (): KeyPair => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'der' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  return { key: privateKey, publicKey };
};

/** Null: the certificate names no instance, or is not that of the key. */
export function credentialOf(certificate: string, key: string, serverCa: string | null): Credential | null {
  const shown = parsed(certificate);
  if (shown === null) return null;
  const { instance } = identityIn(shown.raw);
  if (instance === null || !shown.checkPrivateKey(createPrivateKey(key))) return null;
  const agent = new Agent({
    keepAlive: true,
    maxSockets: SOCKETS_MAX,
    cert: certificate,
    key,
    ...(serverCa === null ? {} : { ca: serverCa }),
  });
  return {
    instance,
    certificate,
    key,
    issuedAt: issueTimeOf(shown),
    expiresAt: expiryOf(shown),
    agent,
  };
}

function parsed(certificate: string): X509Certificate | null {
  try {
    return new X509Certificate(certificate);
  } catch {
    return null;
  }
}

export interface CredentialFile {
  /** Null: there is none that can be used. */
  load(serverCa: string | null): Credential | null;
  save(credential: Credential): void;
}

/** In the folder, for its owner only. */
export function createCredentialFile(folder: string, log: Log): CredentialFile {
  const path = join(folder, FILE);
  return {
    load(serverCa) {
      try {
        // The agent writes a file. A pipe would keep its reader waiting.
        if (!statSync(path).isFile()) throw new IpamError('bad-request', 'not a regular file');
        const text = readPrivate(path, 'the key of this host');
        return credentialOf(blockOf(text, 'CERTIFICATE'), blockOf(text, 'PRIVATE KEY'), serverCa);
      } catch (error) {
        const { code } = error as { code?: string };
        const why = error instanceof IpamError ? error.line : (code ?? String(error));
        if (code !== 'ENOENT') log('warn', 'saved certificate not used', { path, error: why });
        return null;
      }
    },
    save({ certificate, key }) {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      const written = `${path}.new`;
      writeFileSync(written, `${key.trim()}\n${certificate.trim()}\n`, { mode: 0o600 });
      renameSync(written, path);
    },
  };
}

const blockOf = (text: string, kind: string): string =>
  text.match(new RegExp(`-----BEGIN ${kind}-----[^-]+-----END ${kind}-----`))?.[0] ?? '';
