/** Makes X.509 certificates: of the authority, and of hosts. Loaded only where certificates are made, since the library
 *  and its polyfill take 30 ms to start. */
import 'reflect-metadata';
import { randomBytes } from 'node:crypto';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { instanceUri } from '../domain/certificate.ts';
import type { InstanceId } from '../domain/ids.ts';
import { BACKDATED_MS } from './client-certificate.ts';

const EC = { name: 'ECDSA', namedCurve: 'P-256' };
const SIGNING = { name: 'ECDSA', hash: 'SHA-256' };
const YEAR_MS = 365 * 24 * 3_600_000;
const AUTHORITY_YEARS = 20;
const SERIAL_BYTES = 16;

/** A certificate in PEM, and its private key in DER (PKCS #8) as base64. */
export interface KeyedCertificate {
  readonly certificate: string;
  readonly key: string;
}

export async function makeAuthority(now: number): Promise<KeyedCertificate> {
  const keys = await crypto.subtle.generateKey(EC, true, ['sign', 'verify']);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(),
    name: 'CN=ec2-ipam authority of hosts',
    notBefore: new Date(now - BACKDATED_MS),
    notAfter: new Date(now + AUTHORITY_YEARS * YEAR_MS),
    keys,
    signingAlgorithm: SIGNING,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const key = Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  return { certificate: certificate.toString('pem'), key };
}

export interface HostCertificateRequest {
  readonly authority: KeyedCertificate;
  readonly instance: InstanceId;
  /** In DER (SPKI). */
  readonly publicKey: Uint8Array;
  /** From when and until when it is valid, in milliseconds. It also begins BACKDATED_MS earlier. */
  readonly from: number;
  readonly until: number;
}

/** Returns a certificate for the instance, for TLS clients, in PEM. Throws when the key is no point of the curve. */
export async function makeHostCertificate(request: HostCertificateRequest): Promise<string> {
  const { authority, instance, from, until } = request;
  const issuer = new X509Certificate(authority.certificate);
  const signingKey = await crypto.subtle.importKey('pkcs8', Buffer.from(authority.key, 'base64'), EC, false, [
    'sign',
  ]);
  const publicKey = await crypto.subtle.importKey('spki', new Uint8Array(request.publicKey), EC, true, [
    'verify',
  ]);
  const certificate = await X509CertificateGenerator.create({
    serialNumber: newSerial(),
    subject: `CN=${instance}`,
    issuer: issuer.subject,
    notBefore: new Date(from - BACKDATED_MS),
    notAfter: new Date(until),
    publicKey,
    signingKey,
    signingAlgorithm: SIGNING,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.clientAuth]),
      new SubjectAlternativeNameExtension([{ type: 'url', value: instanceUri(instance) }]),
      await AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ],
  });
  return certificate.toString('pem');
}

/** Positive, and never the same twice. */
function newSerial(): string {
  const bytes = randomBytes(SERIAL_BYTES);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
}
