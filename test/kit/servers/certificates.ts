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
  /** Another certificate of the authority; without a subjectAltName when that is null. */
  sign(commonName: string, subjectAltName: string | null): Pair;
  remove(): void;
}
/** Paths of PEM files. */
interface Pair {
  readonly cert: string;
  readonly key: string;
}

/** Valid for a day, the server's for these names. `instance`: the one that the client's names; null: it names none. */
export function makeCertificates(
  serverNames = ['DNS:localhost', 'IP:127.0.0.1'],
  instance: string | null = null,
): Certificates {
  const folder = tempFolder();
  const file = (name: string) => join(folder, name);
  let made = 0;
  const make = (commonName: string, more: string, name = `${++made}`): Pair => {
    const pair = { cert: file(`${name}.pem`), key: file(`${name}.key`) };
    const key = `-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -keyout ${pair.key}`;
    const line = `req -x509 ${key} -out ${pair.cert} -days 1 -subj /CN=${commonName} ${more}`;
    execFileSync('openssl', line.split(' '), { stdio: 'pipe', cwd: folder });
    return pair;
  };
  const sign = (commonName: string, san: string | null, signer = 'authority'): Pair => {
    const names = san === null ? '' : ` -addext subjectAltName=${san}`;
    return make(
      commonName,
      `-CA ${signer}.pem -CAkey ${signer}.key${names} -addext basicConstraints=CA:FALSE`,
    );
  };
  const authority = (name: string) => make(name, '-addext basicConstraints=critical,CA:TRUE', name);
  const ca = authority('authority').cert;
  authority('nobody');
  const named = `${serverNames}`;
  return {
    ca,
    server: sign('server', named),
    client: sign('host-1', instance === null ? named : `URI:ec2-ipam://instance/${instance}`),
    rogue: sign('rogue', named, 'nobody'),
    sign,
    remove: () => removeFolder(folder),
  };
}
