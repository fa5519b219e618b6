/** The command `history`: who held an address, and when. */
import { covers, type Ipv4, numberOf, parseIpv4 } from '../../domain/address.ts';
import { isCalled, shortId } from '../../domain/container.ts';
import { IpamError } from '../../domain/error.ts';
import type { Tenure } from '../../domain/history.ts';
import { parseEniId, parseSubnetId, type SubnetId } from '../../domain/ids.ts';
import type { Store } from '../../store/store.ts';
import { command, JSON_OPTION } from '../command.ts';
import { STORE_SETTINGS } from '../settings/settings.ts';
import { duration, type Kind, onOff, text } from '../settings/value-parsers.ts';
import { namedSubnets } from '../subnet-arguments.ts';
import { print, table } from '../terminal/output.ts';

/** The most holdings of one address that are read. */
const TENURES_MAX = 100_000;

/** How far the clock of who asks may be ahead of the ledger's, in milliseconds. */
const AHEAD_MS = 60_000;

/** How far back EC2 calls are read, in milliseconds, and how many at most. */
const CALLS_MS = 24 * 3_600_000;
const CALLS_MAX = 10_000;

const dayOf = (at: number): string => (Number.isNaN(at) ? '' : new Date(at).toISOString().slice(0, 10));

/** A time of day with its zone, in milliseconds since 1970. */
const moment: Kind<number> = {
  metavar: 'TIME',
  accepts: 'a time with its zone, such as 2026-11-24T14:05Z',
  parse: given => {
    const [, day] =
      /^(\d{4}-\d\d-\d\d)T\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?(?:Z|[+-]\d\d:\d\d)$/.exec(given) ?? [];
    // A runtime may take 30 February as the second of March.
    const isDay = day !== undefined && dayOf(Date.parse(`${day}T00:00Z`)) === day;
    const at = isDay ? Date.parse(given) : Number.NaN;
    return Number.isNaN(at) ? undefined : at;
  },
};

export const history = command({
  name: 'history',
  summary: 'who held an address, and when; newest first',
  usage: 'ADDRESS',
  args: { min: 1, max: 1 },
  settings: STORE_SETTINGS,
  options: {
    at: { kind: moment, fallback: null, help: 'only who held it at that time' },
    since: { kind: duration('1s', '8760h'), fallback: null, help: 'only what was held so long ago or later' },
    container: {
      kind: text('NAME', 'the name of a container, or its id, of which four digits are enough'),
      fallback: null,
      help: 'only of the container that is called so',
    },
    eni: { kind: text('ENI', 'an ENI id'), fallback: null, help: 'only on this ENI' },
    subnet: { kind: text('SUBNET', 'a subnet id'), fallback: null, help: 'only of this subnet' },
    calls: {
      kind: onOff,
      fallback: 'off',
      help: 'instead the EC2 calls that named it; of the last day, of the day before --at, or as --since says',
    },
    json: JSON_OPTION,
  },
  help: `Unless \`--history off\` says otherwise, the server notes in the ledger who held an address when that ends, for 30 days and
for at most five million holdings. Times are those of the ledger's clock. Engines before 29 do not name the container.
None says its id: that is known if its host was read while it ran, see \`--witness\`.
What ended a holding: \`release\` (Docker), \`rollback\` (nobody received the answer), \`reconcile\` (the ENI is gone, or the
host was rebooted), \`operator\` (\`ec2-ipam release\`), \`evidence\` (nothing on the host used it).
A call without a result has had no answer: what became of it was read from EC2, or the call was taken over by another.
`,
  async run({ args: [arg = ''], config, log, io, options, assemble }) {
    const ip = parseIpv4(arg);
    const only = options.subnet === null ? null : parseSubnetId(options.subnet, '--subnet');
    if (options.eni !== null) parseEniId(options.eni, '--eni');
    const { store } = await assemble(config, log);
    if (options.calls) {
      if (options.container !== null)
        throw new IpamError('bad-request', 'a call to EC2 is for no container', {
          hint: 'leave out --container or --calls',
        });
      await namedSubnets(store, only === null ? [] : [only]);
      const { calls, isAll } = await callsFor(store, ip, only, options);
      await store.close();
      if (!isAll)
        io.err.write(`only the newest ${CALLS_MAX} calls were read, and older ones may have named it\n`);
      print(io.out, options.json, { address: ip, calls }, callsText(calls));
      return 0;
    }
    const number = numberOf(ip);
    const subnets = await namedSubnets(store, only === null ? [] : [only]);
    const found: (Tenure & { subnet: string })[] = [];
    for (const { id, cidr } of subnets) {
      if (!covers(cidr, { first: number, last: number })) continue;
      const { rows, now } = await store.history(id, ip, TENURES_MAX);
      refuseFuture(options.at, now);
      const tenures = rows.filter(one => isAsked(one, options, now));
      found.push(...tenures.map(one => ({ subnet: id, ...one })));
    }
    await store.close();
    found.sort((one, other) => endOf(other) - endOf(one));
    const lines = found.map(({ since, until, ...rest }) => ({
      since: timeOf(since),
      until: timeOf(until),
      ...rest,
    }));
    print(io.out, options.json, { address: ip, holdings: lines }, textOf(lines));
    return 0;
  },
});

function refuseFuture(at: number | null, now: number): void {
  if (at !== null && at > now + AHEAD_MS)
    throw new IpamError('bad-request', 'the time of --at is still to come', {
      hint: `by the ledger's clock it is ${timeOf(now)}`,
    });
}

/** The EC2 calls that named the address and began in the time that is asked for, newest first. A call has the subnet of
 *  its ENI; null: the ledger does not know the ENI any more, and it may have been any. */
async function callsFor(store: Store, ip: Ipv4, only: SubnetId | null, { at, since, eni }: Asked) {
  const { now } = await store.ec2Calls(0, 1);
  refuseFuture(at, now);
  const { rows } = await store.ec2Calls(since ?? CALLS_MS + Math.max(0, now - (at ?? now)), CALLS_MAX);
  const subnets = new Map((await store.enis()).map(({ id, subnet }) => [id, subnet]));
  const named = rows.filter(
    call =>
      call.ips.includes(ip) &&
      (eni === null || call.iface === eni) &&
      (only === null || (subnets.get(call.iface) ?? only) === only) &&
      (at === null || (call.at <= at && (since !== null || call.at >= at - CALLS_MS))),
  );
  const calls = named.map(({ iface, at: begun, endedAt, ...call }) => ({
    ...{ at: timeOf(begun), ...call, eni: iface, subnet: subnets.get(iface) ?? null },
    tookMs: endedAt === null ? null : endedAt - begun,
  }));
  return { calls, isAll: rows.length < CALLS_MAX };
}

function callsText(calls: Awaited<ReturnType<typeof callsFor>>['calls']): string {
  if (calls.length === 0) return 'nothing is noted\n';
  return table(
    ['AT', 'ACTION', 'ENI', 'SUBNET', 'ADDRESSES', 'TOOK', 'RESULT'],
    calls.map(({ at, action, eni, subnet, ips, tookMs, result }) => [
      at ?? '-',
      action,
      eni,
      subnet ?? '-',
      String(ips.length),
      tookMs === null ? '-' : `${tookMs} ms`,
      result ?? 'none noted',
    ]),
  );
}

interface Asked {
  readonly at: number | null;
  readonly since: number | null;
  readonly container: string | null;
  readonly eni: string | null;
}

/** For the order of holdings: what is held has not ended. */
const endOf = ({ isHeld, until, since }: Tenure): number =>
  isHeld ? Number.MAX_SAFE_INTEGER : (until ?? since ?? 0);

/** The first and the last time at which the address was perhaps held. The clock of the ledger may have been set back
 *  meanwhile: then the end is noted as before the begin. Without a record of its end, a tenure that is over ended at
 *  once. */
function spanOf({ since, until, isHeld }: Tenure, now: number): [first: number, last: number] {
  const begin = since ?? until ?? now;
  const end = isHeld ? now : (until ?? begin);
  return [Math.min(begin, end), isHeld ? Number.POSITIVE_INFINITY : Math.max(begin, end)];
}

/** Whether the tenure is one that the options ask for. */
function isAsked(one: Tenure, { at, since, container, eni }: Asked, now: number): boolean {
  const [first, last] = spanOf(one, now);
  return (
    (at === null || (first <= at && at <= last)) &&
    (since === null || last >= now - since) &&
    (container === null || isCalled(container, one.container, one.containerId)) &&
    (eni === null || one.eni === eni)
  );
}

const timeOf = (at: number | null): string | null => (at === null ? null : new Date(at).toISOString());

type Line = Omit<Tenure, 'since' | 'until'> & { since: string | null; until: string | null; subnet: string };

function textOf(lines: readonly Line[]): string {
  if (lines.length === 0) return 'nothing is noted\n';
  return table(
    ['SINCE', 'UNTIL', 'CONTAINER', 'ID', 'ENI', 'INSTANCE', 'ENDED BY', 'REQUEST', 'SUBNET'],
    lines.map(one => [
      one.since ?? 'not noted',
      one.until ?? (one.isHeld ? 'now' : 'not noted'),
      one.container ?? '-',
      one.containerId === null ? '-' : shortId(one.containerId),
      one.eni ?? '-',
      one.instance ?? '-',
      one.endedBy ?? '-',
      [one.request, one.endRequest].map(id => id ?? '-').join(' '),
      one.subnet,
    ]),
  );
}
