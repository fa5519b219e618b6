// Goal: an operator sees which hosts enrolled and were seen, and what revoke and allow change. Method: the command on a
// SQLite ledger.
import { join } from 'node:path';
import { assemble } from '../../../src/assemble.ts';
import { main } from '../../../src/cli/cli.ts';
import type { InstanceId } from '../../../src/domain/ids.ts';
import { createSqliteStore } from '../../../src/store/sqlite/store.ts';
import type { Store } from '../../../src/store/store.ts';
import { keptIo, type Written } from '../../kit/cli.ts';
import { removeFolder, tempFolder } from '../../kit/folders.ts';
import { assert, suite } from '../../kit/uvu.ts';

const [A, B, C] = ['i-0a', 'i-0b', 'i-0c'] as [InstanceId, InstanceId, InstanceId];
const DAY_MS = 24 * 3_600_000;

interface Context {
  folder: string;
  store: Store;
  /** Runs the command, which ends with the status. */
  run(line: string, status?: number): Promise<Written>;
}

const hosts = suite<Context>('ec2-ipam hosts');
hosts.before.each(async context => {
  const folder = tempFolder();
  const path = join(folder, 'ledger.sqlite');
  const store = createSqliteStore(path);
  await store.migrate();
  Object.assign(context, { folder, store });
  context.run = async (line, status = 0) => {
    const { io, written } = keptIo();
    const env = { EC2_IPAM_STORE: `sqlite:${path}`, EC2_IPAM_LOG_FORMAT: 'json' };
    assert.is(await main(line.split(' '), env, io, assemble), status, `${line}: ${written.all}`);
    return written;
  };
});
hosts.after.each(async ({ store, folder }) => {
  await store.close();
  removeFolder(folder);
});

hosts('the list: has who enrolled, who was seen, and who is revoked', async ({ store, run }) => {
  assert.match((await run('hosts')).out, 'no host has enrolled or was seen');
  await store.enrolHost(B, DAY_MS);
  await store.enrolHost(C, -1);
  await store.noteSeen([A]);
  await store.revokeHost(B);
  const lines = (await run('hosts')).out.trim().split('\n');
  assert.equal(
    lines.map(line => line.split(/ {2,}/).slice(0, 2)),
    [
      ['HOST', 'STATE'],
      [A, 'by hand'],
      [B, 'revoked'],
      [C, 'expired'],
    ],
  );
  const { hosts: list } = JSON.parse((await run('hosts --json')).out);
  assert.equal(
    list.map((host: { instance: string; state: string }) => [host.instance, host.state]),
    [
      [A, 'by hand'],
      [B, 'revoked'],
      [C, 'expired'],
    ],
  );
});

hosts(
  'the list: has when the witness of a host was heard last, and why it was not complete',
  async ({ store, run }) => {
    await store.noteSeen([A, B]);
    const witness = await store.beginReading(B, '00000000-0000-4000-8000-000000000001');
    await store.saveReading({ ...witness, incomplete: 'no dockerd' }, [], []);
    const lines = (await run('hosts')).out.trim().split('\n');
    assert.match(lines[0] ?? '', /READ +NOT COMPLETE$/);
    assert.match(lines[1] ?? '', /^i-0a .* - +-$/);
    assert.match(lines[2] ?? '', /^i-0b .* \d+s ago +no dockerd$/);
    const { hosts: list } = JSON.parse((await run('hosts --json')).out);
    assert.equal(
      list.map(({ readAt, incomplete }: { readAt: number | null; incomplete: string | null }) => [
        readAt !== null,
        incomplete,
      ]),
      [
        [false, null],
        [true, 'no dockerd'],
      ],
    );
  },
);

hosts('revoke and allow: change the ledger, and say so', async ({ store, run }) => {
  assert.match((await run(`hosts revoke ${A}`)).out, 'i-0a is revoked: servers disconnect it within seconds');
  const [host] = (await store.hosts()).rows;
  assert.is.not(host?.revokedAt, null);
  assert.match((await run(`hosts allow ${A}`)).out, 'i-0a may enrol again');
  assert.match((await run(`hosts allow ${A}`, 1)).err, 'i-0a is not revoked; ec2-ipam hosts lists the hosts');
});

const WRONG: [line: string, says: RegExp][] = [
  ['hosts forget i-0a', /hosts takes no argument, or revoke or allow and one instance/],
  ['hosts revoke', /such as ec2-ipam hosts revoke i-0123abcd/],
  ['hosts revoke eni-0a', /INSTANCE "eni-0a" is not an id of the form i-0123abcd/],
];
for (const [line, says] of WRONG)
  hosts(`${line}: is wrong usage, and changes nothing`, async ({ store, run }) => {
    assert.match((await run(line, 2)).err, says);
    assert.equal((await store.hosts()).rows, []);
  });
hosts.run();
