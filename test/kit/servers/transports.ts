/** TCP, a unix socket and TLS on loopback: how a test listens there, and how its clients connect. */
import { readFileSync } from 'node:fs';
import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import type { Listener } from '../../../src/http/listener/listen.ts';
import { removeFolder, tempFolder } from '../folders.ts';
import { suite } from '../uvu.ts';
import { type Certificates, makeCertificates } from './certificates.ts';

/** The folder of the test that runs, for its sockets. */
export let folder = '';
export let certificates: Certificates;

/** A suite whose tests have a folder each, and certificates if they need them. */
export function suiteWithFolders(
  name: string,
  needs: { certificates?: true } = {},
): ReturnType<typeof suite> {
  const tests = suite(name);
  if (needs.certificates) {
    tests.before(() => {
      certificates = makeCertificates(undefined, 'i-0a');
    });
    tests.after(() => certificates.remove());
  }
  tests.before.each(() => {
    folder = tempFolder();
  });
  tests.after.each(() => removeFolder(folder));
  return tests;
}

export interface Transport {
  readonly name: string;
  readonly listener: () => Listener;
  readonly dial: (address: string) => Socket;
}
export const portOf = (address: string): number => Number(new URL(address).port);
/** What node:net connects to. */
export const toward = (address: string): NetConnectOpts =>
  address.startsWith('unix:')
    ? { path: address.slice('unix:'.length) }
    : { host: '127.0.0.1', port: portOf(address) };
/** Options of a client with a certificate, or with the authority's only. */
export const tlsOptions = (client: Certificates['client'] | null = certificates.client) => ({
  ca: readFileSync(certificates.ca),
  ...(client === null ? {} : { cert: readFileSync(client.cert), key: readFileSync(client.key) }),
});

export const LOCAL: Listener = { kind: 'http', host: '127.0.0.1', port: 0 };
export const unixAt = (path: string): Listener => ({ kind: 'unix', path, mode: 0o600 });
export const socketPath = (): string => join(folder, 'x.sock');
export const serverTls = () => ({ ...certificates.server, clientCa: certificates.ca });

/** Those that show bytes. */
export const PLAIN: readonly Transport[] = [
  { name: 'TCP', listener: () => LOCAL, dial: address => connect(toward(address)) },
  { name: 'a unix socket', listener: () => unixAt(socketPath()), dial: address => connect(toward(address)) },
];
export const TLS: Transport = {
  name: 'TLS',
  listener: () => ({ ...LOCAL, kind: 'https', tls: serverTls() }) as Listener,
  dial: address => connectTls({ ...toward(address), ...tlsOptions() } as object),
};
