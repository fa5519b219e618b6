/** The authority that signs the certificates of hosts. It is made once for a ledger and kept in the store, its private key
 *  encrypted, so that all servers of the ledger have the same one. */
import { hkdfSync } from 'node:crypto';
import * as v from 'valibot';
import { IpamError } from '../domain/error.ts';
import type { InstanceId } from '../domain/ids.ts';
import type { Store } from '../store/store.ts';
import type { KeyedCertificate } from './certificates.ts';
import { seal, unseal } from './sealing.ts';

export interface Authority {
  /** In PEM. */
  readonly certificate: string;
  /** A secret that all servers of the ledger share, for nonces. */
  readonly nonceKey: Uint8Array;
  /** Returns a certificate for the instance and the public key (SPKI in DER), in PEM. Times are in milliseconds. */
  issue(instance: InstanceId, publicKey: Uint8Array, from: number, until: number): Promise<string>;
}

const FACT = 'authority';
const NONCE_KEY_BYTES = 32;

const base64 = v.pipe(v.string(), v.base64());
/** What the store keeps: the certificate is bound to its key by the encryption, so that nobody who can only write to the
 *  store can put another authority there. */
const Kept = v.object({
  certificate: v.string(),
  key: v.object({ salt: base64, iv: base64, tag: base64, data: base64 }),
});

/** Reads the authority, and makes it when there is none. Throws conflict when its key can't be decrypted. */
export async function openAuthority(
  store: Pick<Store, 'fact' | 'noteFactOnce'>,
  passphrase: string,
  now: number,
): Promise<Authority> {
  const certificates = await import('./certificates.ts');
  const kept =
    (await store.fact(FACT)) ??
    (await store.noteFactOnce(FACT, await keepable(await certificates.makeAuthority(now), passphrase)));
  const authority = await opened(kept, passphrase);
  return {
    certificate: authority.certificate,
    nonceKey: new Uint8Array(hkdfSync('sha256', authority.key, '', 'ec2-ipam nonce', NONCE_KEY_BYTES)),
    issue: (instance, publicKey, from, until) =>
      certificates.makeHostCertificate({ authority, instance, publicKey, from, until }),
  };
}

async function keepable({ certificate, key }: KeyedCertificate, passphrase: string): Promise<string> {
  return JSON.stringify({ certificate, key: await seal(key, passphrase, certificate) });
}

async function opened(kept: string, passphrase: string): Promise<KeyedCertificate> {
  const { certificate, key: sealed } = v.parse(Kept, JSON.parse(kept));
  const key = await unseal(sealed, passphrase, certificate);
  if (key === null)
    throw new IpamError('conflict', "the key of the ledger's authority can't be decrypted", {
      hint: 'set EC2_IPAM_AUTHORITY_KEY, or the file of EC2_IPAM_AUTHORITY_KEY_FILE, to what it was encrypted with',
    });
  return { certificate, key };
}
