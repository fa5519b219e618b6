/** Certificates that clients show, and those that a server gives to an agent. */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { credentialOf } from '../../src/agent/credential.ts';
import { enrolAt } from '../../src/agent/enrol.ts';
import type { Host } from '../../src/agent/host.ts';
import { readHost } from '../../src/agent/host.ts';
import { identityIn } from '../../src/domain/certificate.ts';
import { IpamError } from '../../src/domain/error.ts';
import type { InstanceId } from '../../src/domain/ids.ts';
import { makeCertificates } from '../kit/servers/certificates.ts';
import type { Hostile } from './hostile.ts';
import { checkedLine, type Part, type Scene, type Target } from './part.ts';

const URI = 'URI:ec2-ipam://instance/i-0a';
const NAMES: readonly (string | null)[] = [URI, `DNS:x,${URI},email:a@b.c`, `${URI},${URI}b`, 'DNS:x', null];
const INSTANCE = 'i-0a' as InstanceId;
const SERVER = { host: 'ipam.example.com', port: 8031 };
const CREDENTIALS = {
  accessKeyId: 'ASIAAAAAAAAAAAAAAAAA',
  secretAccessKey: 'hunter2',
  sessionToken: 'token'.repeat(9),
};
const HOST: Host = { instance: INSTANCE, address: '10.0.1.4', credentials: CREDENTIALS };
const decoder = new TextDecoder();

async function openCertificates({ note }: Scene): Promise<Target> {
  const certificates = makeCertificates();
  const made = NAMES.map(san => certificates.sign('i-0b', san));
  const ders: readonly Uint8Array[] = made.map(({ cert }) => new X509Certificate(readFileSync(cert)).raw);
  certificates.remove();
  return {
    input(hostile) {
      const der = hostile.chance(0.95) ? hostile.spoilt(hostile.oneOf(ders)) : hostile.bytes(3000);
      const { instance, why } = identityIn(der);
      note(instance === null ? 'none' : 'an instance');
      if (instance !== null && !/^i-[0-9a-f]{1,24}$/.test(instance))
        throw new Error(`the instance "${instance}"`);
      if (why !== null) checkedLine(why);
    },
    async end() {},
  };
}

/** What a server and the metadata service tell an agent that enrols. */
async function openEnrolling({ note }: Scene): Promise<Target> {
  const certificates = makeCertificates();
  const pem = readFileSync(certificates.sign('host', URI).cert, 'utf8');
  const key = readFileSync(certificates.sign('host', URI).key, 'utf8');
  certificates.remove();
  const fails = async (work: Promise<unknown>) => {
    try {
      await work;
      note('accepted');
    } catch (error) {
      if (!(error instanceof IpamError)) throw error;
      checkedLine(error.line);
      note(error.code);
    }
  };
  const challenge = { nonce: 'A'.repeat(56), region: 'eu-central-1' };
  const answer = (hostile: Hostile, valid: object) => ({
    status: hostile.chance(0.8) ? 200 : hostile.oneOf([403, 500, 0]),
    text: decoder.decode(hostile.body(valid)),
  });
  const metadata = (hostile: Hostile) => async (path: string) => {
    const kind = hostile.below(10);
    if (kind < 1) return { kind: 'absent', why: hostile.text() } as const;
    if (kind < 2) return { kind: 'unreachable', why: hostile.text() } as const;
    if (kind < 4) return { kind: 'value', text: hostile.text() } as const;
    if (path === 'instance-id') return { kind: 'value', text: INSTANCE } as const;
    const credentials = { AccessKeyId: 'A', SecretAccessKey: 'hunter2', Token: 'x' };
    return { kind: 'value', text: decoder.decode(hostile.body(credentials)) } as const;
  };
  return {
    async input(hostile) {
      if (hostile.chance(0.3)) return await fails(readHost(metadata(hostile) as never));
      if (hostile.chance(0.3)) {
        const found = credentialOf(decoder.decode(hostile.spoilt(Buffer.from(pem))), key, null);
        found?.agent.destroy();
        if (found !== null) throw new Error(`a credential for a key that is not its own: ${found.instance}`);
        return note('no credential');
      }
      const { send } = {
        send: async (_: unknown, { path }: { readonly path: string }) =>
          answer(hostile, path === '/enroll' ? { certificate: pem } : challenge),
      };
      await fails(
        enrolAt(SERVER, HOST, {
          send,
          serverCa: null,
          stsOverride: undefined,
          timeOfDay: () => 1_800_000_000_000,
        }),
      );
    },
    async end() {},
  };
}

export const CERTIFICATES: Part = { name: 'certificates', share: 100, lanes: 1, open: openCertificates };
export const ENROLLING: Part = { name: 'enrolling', share: 20, lanes: 1, open: openEnrolling };
