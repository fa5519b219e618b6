/** The command `release`: an operator releases the address of a holder. */
import { type Ipv4, parseIpv4 } from '../../domain/address.ts';
import type { Allocation, Status } from '../../domain/allocation.ts';
import { IpamError } from '../../domain/error.ts';
import { type EniId, parseSubnetId } from '../../domain/ids.ts';
import { isUsedIdle, type LedgerSighting, wordsOf } from '../../domain/sighting.ts';
import { atQuota } from '../../domain/tenant.ts';
import { escaped } from '../../domain/text.ts';
import { tenantAtQuota } from '../../ipam/ec2/assign.ts';
import { operatorRelease } from '../../ipam/request/release.ts';
import type { Store } from '../../store/store.ts';
import { command, type Io } from '../command.ts';
import { LEDGER_SETTINGS } from '../settings/settings.ts';
import { onOff } from '../settings/value-parsers.ts';
import { namedSubnets } from '../subnet-arguments.ts';
import { ago, printJson } from '../terminal/output.ts';

export const release = command({
  name: 'release',
  summary: "release a holder's address by hand",
  usage: 'SUBNET ADDRESS',
  args: { min: 2, max: 2 },
  settings: LEDGER_SETTINGS,
  options: {
    yes: { kind: onOff, fallback: 'off', help: 'do not ask' },
    'dry-run': { kind: onOff, fallback: 'off', help: 'show the holder only' },
    json: { kind: onOff, fallback: 'off', help: 'print JSON; the holder is shown on stderr' },
  },
  async run({ args: [subnetArg = '', ipArg = ''], config, log, io, options, assemble }) {
    const subnet = parseSubnetId(subnetArg);
    const ip = parseIpv4(ipArg);
    const { context, store, own } = await assemble(config, log);
    await namedSubnets(store, [subnet]);
    await own();
    const { rows, now } = await store.get(subnet, [ip]);
    const [row] = rows;
    if (row === undefined) throw new IpamError('bad-request', `${ip} is not in the ledger of ${subnet}`);
    const ours = (await store.enis()).some(eni => eni.id === row.iface && eni.ours);
    const { move, refusal } = operatorRelease(row, ours);
    const holder = row.holder === null ? '' : ` by ${row.holder}`;
    const say = (text: string) => (options.json ? io.err : io.out).write(escaped(text));
    const report = (status: Status, eni: EniId | null, released: boolean) => {
      const { holder: container, status: was } = row;
      if (options.json) printJson(io.out, { subnet, ip, eni, container, was, status, released });
    };
    say(`${ip} is ${row.status}${holder} on ${row.iface ?? 'no ENI'} since ${ago(now - row.movedAt)}\n`);
    const sighting = await sightingOf(store, row);
    const words = wordsAbout(row, sighting, now);
    if (words !== null) say(`${words}\n`);
    const isWithheld = row.status === 'ready' && ours && sighting !== null && isUsedIdle(row, sighting);
    if (move === null && !isWithheld) throw new IpamError('conflict', refusal);
    if (options['dry-run']) {
      report(row.status, row.iface, false);
      return 0;
    }
    if (!options.yes && !(await isConfirmed(io))) {
      io.err.write('nothing was changed\n');
      report(row.status, row.iface, false);
      return 1;
    }
    if (move === null) {
      const isForgotten = sighting === null || (await store.forgetSighting(sighting));
      await store.close();
      if (!isForgotten) throw changed(ip);
      say(`${ip} is offered again, unless its host shows it in use once more\n`);
      report(row.status, row.iface, true);
      return 0;
    }
    const [moved] = await store.move([{ row, move, cause: 'operator' }]);
    const full = moved === undefined && row.iface !== null ? await tenantAtQuota(context, row.iface) : null;
    await store.close();
    if (move === 'surrender' && full !== null) throw atQuota(full);
    if (moved === undefined) throw changed(ip);
    if (!options.json) say(`${ip} is ${moved.status} on ${moved.iface}\n`);
    report(moved.status, moved.iface, true);
    return 0;
  },
});

const changed = (ip: Ipv4): IpamError =>
  new IpamError('conflict', `${ip} changed while you were asked`, { hint: 'look again' });

async function sightingOf(store: Store, { subnet, ip, iface }: Allocation): Promise<LedgerSighting | null> {
  if (iface === null) return null;
  const { rows } = await store.sightings([iface]);
  return rows.find(one => one.subnet === subnet && one.ip === ip) ?? null;
}

/** What the witness of its host says of the address; null: nothing. */
function wordsAbout(row: Allocation, sighting: LedgerSighting | null, now: number): string | null {
  if (sighting === null) return null;
  const isOfRow = sighting.generation === row.generation;
  const isUsed = sighting.usedSince !== null && (isOfRow || isUsedIdle(row, sighting));
  if (isUsed && sighting.finding !== null) return `in use by ${sighting.finding}`;
  return isOfRow ? wordsOf(row, sighting, now) : null;
}

async function isConfirmed(io: Io): Promise<boolean> {
  const answer = await io.ask('Release it? A container that still uses it will lose its traffic. [y/N] ');
  return /^y(es)?$/i.test(answer ?? '');
}
