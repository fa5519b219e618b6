/** Claims the address that a request names (`docker run --ip`). */
import { throwIfAborted } from '../../domain/abort.ts';
import { contains, formatCidr, type Ipv4, isReserved, routerOf } from '../../domain/address.ts';
import { type Allocation, isIntent, isRested, staysAwayMs } from '../../domain/allocation.ts';
import { IpamError, isError } from '../../domain/error.ts';
import { isHeldBy } from '../../domain/origin.ts';
import type { IpamContext } from '../context.ts';
import type { Enis, Home } from '../ec2/enis.ts';
import { isSeenSoon } from '../ec2/in-doubt.ts';
import { evict, makeRoomFor, mayGetRoom } from '../pool/steal.ts';
import { claimOf, givenBefore, sendClaim } from './claim.ts';
import { claimFree } from './claim-free.ts';
import type { Asked } from './request.ts';
import { untilRoom } from './until-room.ts';

/** The pause before a row is read again that another request, or a release, is about to change. */
const LOOK_AGAIN_MS = 100;

/** Claims the address and returns it. Throws conflict with who or what has it, bad-request if it is not in the
 *  ledger, and unavailable if others changed it until the request's time was over. */
export async function claimNamed(
  context: IpamContext,
  enis: Enis,
  asked: Asked,
  ip: Ipv4,
): Promise<Allocation> {
  const { store, wait, policy } = context;
  const { home } = asked;
  refuseUnusable(ip, home);
  for (;;) {
    throwIfAborted(asked.caller);
    const releasing = asked.releasing(ip); // before the row is read: the release may end during the read
    const { rows, now } = await store.get(home.subnet.id, [ip]);
    const [row] = rows;
    if (row === undefined)
      throw new IpamError(
        'bad-request',
        `${ip} is not among the addresses of ${home.subnet.id} that this ledger manages`,
      );
    const isResting = row.status === 'free' && policy.strictReuse;
    if (isIntent(row) && now - row.movedAt >= policy.callDeadlineMs) throw conflict(row);
    if (row.status === 'ready' && row.iface === home.eni.id && !row.primary) {
      const user = asked.withheld(row);
      if (user !== null) throw inUse(row, user);
      if (!asked.authority.isProved()) await asked.authority.prove();
      const claimed = await sendClaim(context, asked, claimOf(context, asked, row));
      const before = claimed ?? (await givenBefore(context, asked));
      if (before !== null) return before;
    } else if (isHeldBy(row, asked.from)) {
      const before = await givenBefore(context, asked);
      if (before !== null) return before;
    } else if (row.status === 'free') {
      const claimed = await asked.withRetry(() => assignNamed(context, enis, asked, row, now));
      if (claimed !== null) return claimed;
    } else if (row.status === 'allocated' && row.iface === home.eni.id && releasing !== null) {
      if (asked.isTimeUp()) throw conflict(row);
      await Promise.race([releasing, wait(LOOK_AGAIN_MS, asked.signal)]);
      continue;
    } else if (!isIntent(row)) throw conflict(row);
    if (asked.isTimeUp()) throw isIntent(row) || isResting ? conflict(row) : contended(row);
    await wait(LOOK_AGAIN_MS, asked.signal);
  }
}

/** Assigns the free address and claims it, even while it rests (unless --strict-reuse is on). Returns null if it
 *  has to be tried again. */
async function assignNamed(
  context: IpamContext,
  enis: Enis,
  asked: Asked,
  row: Allocation,
  now: number,
): Promise<Allocation | null> {
  const { eni } = asked.home;
  const awayMs = staysAwayMs(row, eni.id, context.policy, now);
  if (awayMs > 0)
    throw new IpamError(
      'conflict',
      `${row.ip} was taken off ${eni.id} just now and may return to it in ${Math.ceil(awayMs / 1000)} s`,
      { hint: 'try again then, or leave out --ip' },
    );
  if (context.policy.strictReuse && !isRested(row, eni.id, context.policy, now)) return null;
  let before: readonly Allocation[] = [];
  const claimed = await claimFree(context, asked, async () => {
    before = (await context.store.onEni(eni.id)).rows;
    return { rows: [row], now };
  });
  if (isError(claimed.error, 'ec2-limit')) {
    if ((await evict(context, asked.home, () => false, 1, asked.signal)) > 0) return null;
    if (await isSeenSoon(context, eni.id, asked.signal)) return null;
    if (await untilRoom(context, asked, before)) return null;
  }
  if (claimed.full !== null) {
    const wanted = { isUsable: () => false, count: 1 };
    if ((await makeRoomFor(context, enis, asked.home, claimed.full, wanted, asked.signal)) > 0) return null;
    if (!asked.isTimeUp() && (await mayGetRoom(context, enis, asked.home, claimed.full))) return null;
  }
  if (claimed.error !== null) throw claimed.error;
  if (claimed.taken[0] !== undefined) throw conflict(claimed.taken[0]);
  return claimed.row;
}

function refuseUnusable(ip: Ipv4, { eni, subnet }: Home): void {
  const cidr = formatCidr(subnet.cidr);
  const hint = `choose another address of ${cidr}`;
  if (!contains(subnet.cidr, ip))
    throw new IpamError('bad-request', `${ip} is not in ${cidr}, the subnet of ${eni.id}`, { hint });
  if (isReserved(subnet.cidr, ip)) {
    const router = ip === routerOf(subnet.cidr) ? ': it is the VPC router' : '';
    throw new IpamError('conflict', `${ip} is reserved by AWS${router}`, { hint });
  }
  if (ip === eni.primary)
    throw new IpamError(
      'conflict',
      `${ip} is the primary address of ${eni.id}, which is never given to a container`,
      { hint },
    );
}

/** The error of a ready address that runs on without a holder. */
const inUse = ({ ip }: Allocation, user: string): IpamError =>
  new IpamError('conflict', `${ip} has no holder, but is in use on this host by ${user}`, {
    hint: 'end that process, or choose another address',
  });

const contended = ({ ip }: Allocation): IpamError =>
  new IpamError('unavailable', `other requests kept changing ${ip}`, { hint: 'try again' });

/** Returns the error that says why the named address cannot be claimed. */
function conflict(row: Allocation): IpamError {
  const hint = 'choose another address or leave out --ip';
  const where = row.iface === null ? '' : ` on ${row.iface}`;
  const who = row.holder === null ? 'a container' : `container ${row.holder}`;
  const why: Record<Allocation['status'], string> = {
    allocated: `is held by ${who}${where}`,
    ready: `is kept ready${where}, another ENI`,
    occupied: `is in use${where}, not by a container of this driver`,
    reserved: row.reservedFor === null ? 'is reserved' : `is reserved by an operator: ${row.reservedFor}`,
    free: 'is resting after its last use (--strict-reuse is on)',
    assigning: `is being assigned${where}, and EC2 has not answered yet`,
    unassigning: `is being taken off${where}, and EC2 has not answered yet`,
  };
  return new IpamError('conflict', `${row.ip} ${why[row.status]}`, { hint });
}
