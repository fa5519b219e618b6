// Goal: a certificate of the right authority for another name is refused, by the program and by drizzle-kit. Method: a
// MariaDB that has such a certificate, and then one for its own name.
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { createConnection } from 'mysql2/promise';
import { PATH, ROOT } from '../../../scripts/tiers.ts';
import { tlsOptions } from '../../../src/store/mysql/tls.ts';
import { startMariadb } from '../../kit/databases/mariadb.ts';
import { removeFolder, tempFolder } from '../../kit/folders.ts';
import { type Certificates, makeCertificates } from '../../kit/servers/certificates.ts';
import { type Ran, runProgram } from '../../kit/servers/process.ts';
import { assert, suite } from '../../kit/uvu.ts';

const MAIN = join(ROOT, 'src/main.ts');
const RUN = 'Deno' in globalThis ? ['run', '-A', MAIN] : [MAIN];

const folder = tempFolder();
const names = { wrong: makeCertificates(['DNS:other.test']), right: makeCertificates(['DNS:localhost']) };
const file = (name: string) => join(folder, name);

/** From its next start on, the server has this certificate. */
function present({ ca, server }: Certificates): void {
  copyFileSync(ca, file('ca.pem'));
  copyFileSync(server.cert, file('server.pem'));
  copyFileSync(server.key, file('server.key'));
}
present(names.wrong);
const mariadb = await startMariadb(`--ssl-cert=${file('server.pem')}`, `--ssl-key=${file('server.key')}`);

const tls = suite('TLS to MariaDB');
tls.after(async () => {
  await mariadb.stop();
  for (const one of Object.values(names)) one.remove();
  removeFolder(folder);
});

/** Runs a program that trusts the authority of the server's certificate. */
async function migratesWith(command: string, args: readonly string[]): Promise<Ran> {
  const database = await mariadb.fresh();
  const env = {
    PATH,
    HOME: folder,
    NODE_EXTRA_CA_CERTS: file('ca.pem'),
    EC2_IPAM_STORE: `mysql://${mariadb.user}@localhost:${mariadb.port}/${database}?ssl=on`,
    EC2_IPAM_STORE_PASSWORD: mariadb.password,
  };
  return await runProgram(command, args, { env, cwd: ROOT });
}
const ours = () => migratesWith(process.execPath, [...RUN, 'migrate']);
const drizzleKit = () => migratesWith('node', ['node_modules/drizzle-kit/bin.cjs', 'migrate']);

/** Connects as with ssl=Amazon RDS, where the authority of the test stands for Amazon's. */
async function amazons(): Promise<void> {
  const ssl = { ...tlsOptions('Amazon RDS'), ca: [readFileSync(file('ca.pem'), 'utf8')] };
  const { port, user, password } = mariadb;
  const connection = await createConnection({ host: 'localhost', port, user, password, ssl });
  await connection.end();
}

const OTHER_NAME = /other\.test|altnames|not valid for name|NotValidForName/i;

tls('a certificate for another name: is refused with ssl=on', async () => {
  const { code, stderr } = await ours();
  assert.is(code, 1, stderr);
  assert.match(stderr, /not for this host name/);
});

tls('a certificate for another name: is refused by plain drizzle-kit migrate', async () => {
  const { code, stdout, stderr } = await drizzleKit();
  assert.is(code, 1, stdout);
  assert.match(`${stdout}${stderr}`, OTHER_NAME);
  assert.not.match(`${stdout}${stderr}`, mariadb.password);
});

tls('a certificate for another name: is refused with ssl=Amazon RDS', async () => {
  const refusal = await amazons().then(() => null, String);
  assert.match(refusal ?? 'it was accepted', OTHER_NAME);
});

tls("Amazon RDS: trusts Amazon's authorities and nobody else", () => {
  const authorities = tlsOptions('Amazon RDS')?.ca ?? [];
  assert.ok(authorities.length > 50);
  for (const one of authorities) assert.match(one, /^-----BEGIN CERTIFICATE-----/);
});

tls('a certificate for its name: is accepted by each', async () => {
  await mariadb.halt();
  present(names.right);
  await mariadb.start();
  for (const run of [ours, drizzleKit]) {
    const { code, stdout, stderr } = await run();
    assert.is(code, 0, `${stdout}${stderr}`);
  }
  await amazons();
});
tls.run();
