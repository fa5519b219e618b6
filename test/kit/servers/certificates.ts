// Certificates for tests, made by the openssl command: an authority and what it signed, and a rogue one.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Certificates {
  readonly ca: string;
  readonly server: Pair;
  readonly client: Pair;
  /** Signed by an authority that nobody knows. */
  readonly rogue: Pair;
  remove(): void;
}
/** Paths of PEM files. */
interface Pair {
  readonly cert: string;
  readonly key: string;
}

/** Valid for a day, the server's for these names. */
export function makeCertificates(serverNames = ['DNS:localhost', 'IP:127.0.0.1']): Certificates {
  const folder = mkdtempSync(join(tmpdir(), 'ec2-ipam-certificates-'));
  const file = (name: string) => join(folder, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe', cwd: folder });
  const make = (name: string, signer: string | null): Pair => {
    const pair = { cert: file(`${name}.pem`), key: file(`${name}.key`) };
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-noenc', '-keyout', pair.key];
    const signed =
      signer === null
        ? ['-addext', 'basicConstraints=critical,CA:TRUE']
        : ['-CA', file(`${signer}.pem`), '-CAkey', file(`${signer}.key`)];
    const names =
      signer === null
        ? []
        : ['-addext', `subjectAltName=${serverNames}`, '-addext', 'basicConstraints=CA:FALSE'];
    openssl(
      'req',
      '-x509',
      ...key,
      '-out',
      pair.cert,
      '-days',
      '1',
      '-subj',
      `/CN=${name}`,
      ...signed,
      ...names,
    );
    return pair;
  };
  const ca = make('authority', null).cert;
  make('nobody', null);
  return {
    ca,
    server: make('server', 'authority'),
    client: make('host-1', 'authority'),
    rogue: make('rogue', 'nobody'),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
