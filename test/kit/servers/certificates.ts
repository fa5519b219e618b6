// Certificates for tests, made by the openssl command: an authority and what it signed, and a rogue one.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { removeFolder, tempFolder } from '../folders.ts';

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
  const folder = tempFolder();
  const file = (name: string) => join(folder, name);
  const make = (name: string, signer: string | null): Pair => {
    const pair = { cert: file(`${name}.pem`), key: file(`${name}.key`) };
    const whose =
      signer === null
        ? '-addext basicConstraints=critical,CA:TRUE'
        : `-CA ${signer}.pem -CAkey ${signer}.key -addext subjectAltName=${serverNames} -addext basicConstraints=CA:FALSE`;
    const key = `-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -keyout ${pair.key}`;
    const line = `req -x509 ${key} -out ${pair.cert} -days 1 -subj /CN=${name} ${whose}`;
    execFileSync('openssl', line.split(' '), { stdio: 'pipe', cwd: folder });
    return pair;
  };
  const ca = make('authority', null).cert;
  make('nobody', null);
  return {
    ca,
    server: make('server', 'authority'),
    client: make('host-1', 'authority'),
    rogue: make('rogue', 'nobody'),
    remove: () => removeFolder(folder),
  };
}
