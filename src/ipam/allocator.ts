/** Gives addresses to containers and takes them back. */
import { contains, formatCidr, type Ipv4, isReserved, routerOf } from '../domain/address.ts';
import { type Allocation, isRested, mayStillLeave } from '../domain/allocation.ts';
import { IpamError, isError } from '../domain/error.ts';
import type { EniId, Pool } from '../domain/ids.ts';
import { assignCold, type Cold } from './cold.ts';
import type { Enis, Home } from './enis.ts';
import { assign } from './intents.ts';
import type { Machine } from './machine.ts';
import { Outage } from './outage.ts';

/** Ready addresses looked at together. */
const READY_LOOK = 16;
/** Tries of a compare-and-set that others keep winning. */
const RELEASE_TRIES_MAX = 5;
/** Between two looks at what somebody else is about to settle. */
const LOOK_AGAIN_MS = 100;

export interface AddressRequest {
  readonly pool: Pool;
  /** The address that must be given, or null for any. */
  readonly named: Ipv4 | null;
  /** The container's name, where the engine tells it. */
  readonly holder: string | null;
  /** Whether nobody waits for the answer any more. */
  readonly gone: () => boolean;
}
export interface Given {
  readonly row: Allocation;
  readonly home: Home;
}

export interface Allocator {
  /** Gives an address; durable when it answers. Throws bad-request, conflict, exhausted, caller-gone, and after
   *  the longest wait of a request what kept it waiting. */
  request(asked: AddressRequest): Promise<Given>;
  /** The holder on the pool's ENI gives the address up; false: it was not that ENI's to give up. */
  release(pool: Pool, ip: Ipv4): Promise<boolean>;
  /** The answer to this claim reached nobody: as if it had not been made. */
  undo(row: Allocation): Promise<void>;
}

const isStoreDown = (error: unknown): error is IpamError => isError(error, 'store-down');
const isEc2Away = (error: unknown): error is IpamError =>
  isError(error, 'ec2-unknown', 'ec2-unreachable', 'ec2-throttled');

export function allocator(machine: Machine, enis: Enis, storeOutage: Outage): Allocator {
  const { store, policy, clock, wait, log } = machine;
  const ec2Outages = new Map<EniId, Outage>();
  const colds = new Map<string, Promise<Cold>>();

  /** An EC2 outage is an ENI's own: a call that hangs on one ENI delays no other. */
  function ec2Outage(eni: EniId): Outage {
    const outage = ec2Outages.get(eni) ?? new Outage(policy.requestTimeoutMs, machine);
    ec2Outages.set(eni, outage);
    return outage;
  }

  async function request(asked: AddressRequest): Promise<Given> {
    const outage = ec2Outage(asked.pool.eni);
    const startedAt = clock();
    // The two may take turns: what is left of the bound for one is what is left of the request's.
    return await storeOutage.endure(isStoreDown, asked.gone, () =>
      outage.endure(isEc2Away, asked.gone, () => attempt(asked, outage.deadline(startedAt)), startedAt),
    );
  }

  async function attempt(asked: AddressRequest, until: number): Promise<Given> {
    const home = await enis.adopt(asked.pool.eni);
    const row =
      asked.named === null
        ? await claimAny(asked, home, until)
        : await claimNamed(asked, asked.named, home, until);
    return { row, home };
  }

  async function claim(row: Allocation, asked: AddressRequest): Promise<Allocation | null> {
    const [claimed] = await store.move([{ row, move: 'claim', holder: asked.holder }]);
    return claimed ?? null;
  }

  async function claimAny(asked: AddressRequest, home: Home, until: number): Promise<Allocation> {
    for (;;) {
      const { rows, now } = await store.readyOn(home.eni.id, asked.pool.range, READY_LOOK);
      const rested = rows.filter(row => isRested(row, home.eni.id, policy, now));
      for (const row of rested) {
        const claimed = await claim(row, asked);
        if (claimed !== null) return claimed;
      }
      if (asked.gone()) throw new IpamError('caller-gone', 'the caller has gone');
      const late = clock() >= until;
      if (rested.length === 0) {
        const cold = await shareCold(asked, home);
        if (cold.outcome !== 'assigned') {
          const early = await reuseEarly(asked, home, cold);
          if (early !== null) return early;
          if (late || !(await mayChangeSoon(asked, home, cold))) throw exhausted(home, cold);
          await wait(LOOK_AGAIN_MS);
        }
      }
      if (late)
        throw new IpamError('unavailable', `others kept taking what became ready on ${home.eni.id}`, {
          hint: 'try again',
        });
    }
  }

  /** All who wait for one cold ENI share one assign. */
  async function shareCold({ pool }: AddressRequest, home: Home): Promise<Cold> {
    const key = `${pool.eni} ${pool.range === null ? '' : formatCidr(pool.range)}`;
    const underWay =
      colds.get(key) ?? assignCold(machine, enis, home, pool.range).finally(() => colds.delete(key));
    colds.set(key, underWay);
    return await underWay;
  }

  /** With nothing rested left: the address that has rested longest, of those ready here and those free. */
  async function reuseEarly(asked: AddressRequest, home: Home, cold: Cold): Promise<Allocation | null> {
    if (policy.strictReuse) return null;
    const { rows, now } = await store.readyOn(home.eni.id, asked.pool.range, READY_LOOK);
    const ready = rows.at(0) ?? null;
    const free = cold.outcome === 'subnet dry' ? cold.resting : null;
    const chosen =
      free === null || (ready !== null && restedSince(ready) <= restedSince(free)) ? ready : free;
    if (chosen === null) return null;
    if (!isRested(chosen, home.eni.id, policy, now))
      log('warn', 'early reuse', {
        eni: home.eni.id,
        ip: chosen.ip,
        restedMs: now - restedSince(chosen),
        restedFrom: chosen.restedFrom,
      });
    if (chosen.status === 'ready') return await claim(chosen, asked);
    return await assignAndClaim(chosen, asked, home);
  }

  async function assignAndClaim(
    row: Allocation,
    asked: AddressRequest,
    home: Home,
  ): Promise<Allocation | null> {
    const { ready, error } = await assign(machine, home.eni.id, [row]);
    if (error !== null && !isError(error, 'ec2-limit', 'ec2-subnet-full')) throw error;
    const [mine] = ready;
    return mine === undefined ? null : await claim(mine, asked);
  }

  /** Whether waiting could help: something rests, or a call that somebody has just sent is under way. */
  async function mayChangeSoon(asked: AddressRequest, home: Home, cold: Cold): Promise<boolean> {
    if (cold.outcome === 'subnet dry' && cold.resting !== null) return true;
    const { rows, now } = await store.onEni(home.eni.id);
    return rows.some(
      row =>
        (row.status === 'ready' && (asked.pool.range === null || contains(asked.pool.range, row.ip))) ||
        ((row.status === 'assigning' || row.status === 'unassigning') &&
          now - row.movedAt < policy.callDeadlineMs),
    );
  }

  function exhausted({ eni, subnet }: Home, cold: Cold): IpamError {
    const strict = policy.strictReuse ? ' that has rested (--strict-reuse is on)' : '';
    if (cold.outcome === 'eni full')
      return new IpamError(
        'exhausted',
        `${eni.id} has no address left${strict}: it holds ${cold.held} beside its primary`,
        {
          hint: 'stop a container there, or use a larger instance type or a further ENI',
        },
      );
    return new IpamError(
      'exhausted',
      `${subnet.id} (${formatCidr(subnet.cidr)}) has no free address left${strict} for ${eni.id}`,
      {
        hint: 'run `ec2-ipam recycle` to take back idle ones, or use a larger subnet',
      },
    );
  }

  async function claimNamed(asked: AddressRequest, ip: Ipv4, home: Home, until: number): Promise<Allocation> {
    refuseUnfit(ip, home);
    for (;;) {
      const { rows, now } = await store.get(home.subnet.id, [ip]);
      const [row] = rows;
      if (row === undefined)
        throw new IpamError(
          'bad-request',
          `${ip} is not among the addresses that this ledger was given of ${home.subnet.id}`,
        );
      if (row.status === 'ready' && row.iface === home.eni.id && !row.primary) {
        const claimed = await claim(row, asked);
        if (claimed !== null) return claimed;
      } else if (row.status === 'free') {
        const claimed = await claimFree(asked, row, home, now);
        if (claimed !== null) return claimed;
      } else if (row.status !== 'assigning' && row.status !== 'unassigning') throw conflict(row);
      if (asked.gone()) throw new IpamError('caller-gone', 'the caller has gone');
      if (clock() >= until) throw conflict(row);
      await wait(LOOK_AGAIN_MS);
    }
  }

  /** A named address that nobody has: it is given even while it rests, since nothing else will do. */
  async function claimFree(
    asked: AddressRequest,
    row: Allocation,
    home: Home,
    now: number,
  ): Promise<Allocation | null> {
    if (mayStillLeave(row, home.eni.id, policy, now)) {
      const leftS = Math.ceil((policy.graceMs - (now - (row.leftAt ?? now))) / 1000);
      throw new IpamError(
        'conflict',
        `${row.ip} was taken off ${home.eni.id} just now and may return to it in ${leftS} s`,
        {
          hint: 'try again then, or leave out --ip',
        },
      );
    }
    if (!isRested(row, home.eni.id, policy, now)) {
      if (policy.strictReuse) return null;
      log('warn', 'early reuse', {
        eni: home.eni.id,
        ip: row.ip,
        restedMs: now - restedSince(row),
        restedFrom: row.restedFrom,
      });
    }
    const { ready, taken, error } = await assign(machine, home.eni.id, [row]);
    if (error !== null) throw error;
    if (taken[0] !== undefined) throw conflict(taken[0]);
    return ready[0] === undefined ? null : await claim(ready[0], asked);
  }

  async function release(pool: Pool, ip: Ipv4): Promise<boolean> {
    return await storeOutage.endure(
      isStoreDown,
      () => false,
      async () => {
        const home = await enis.adopt(pool.eni);
        for (let tries = 0; tries < RELEASE_TRIES_MAX; tries++) {
          const [row] = (await store.get(home.subnet.id, [ip])).rows;
          const move = row === undefined ? null : givingUp(row, home);
          if (row === undefined || move === null) return false;
          const [moved] = await store.move([{ row, move }]);
          if (moved !== undefined) return true;
        }
        throw new IpamError('unavailable', `${ip} changed each time it was to be released`, {
          hint: 'release it again',
        });
      },
    );
  }

  async function undo(row: Allocation): Promise<void> {
    log('warn', 'undone: the caller was gone before the answer', {
      eni: row.iface,
      ip: row.ip,
      holder: row.holder,
    });
    await storeOutage.endure(
      isStoreDown,
      () => false,
      () => store.move([{ row, move: 'release' }]),
    );
  }

  return { request, release, undo };
}

const restedSince = (row: Allocation): number => row.restedSince ?? Number.NEGATIVE_INFINITY;

/** The move by which a holder on this ENI gives the address up; null when it was not that ENI's to give up. */
function givingUp(row: Allocation, { eni }: Home): 'release' | 'retire' | 'surrender' | null {
  if (row.iface !== eni.id || row.primary || row.ip === eni.primary) return null;
  if (row.status === 'occupied') return 'surrender';
  if (row.status !== 'allocated') return null;
  return row.missingSince === null ? 'release' : 'retire';
}

function refuseUnfit(ip: Ipv4, { eni, subnet }: Home): void {
  const cidr = formatCidr(subnet.cidr);
  if (!contains(subnet.cidr, ip))
    throw new IpamError('bad-request', `${ip} is not in ${cidr}, the subnet of ${eni.id}`, {
      hint: `choose an address of ${cidr}`,
    });
  if (isReserved(subnet.cidr, ip))
    throw new IpamError(
      'conflict',
      `${ip} is reserved by AWS${ip === routerOf(subnet.cidr) ? ': it is the VPC router' : ''}`,
      {
        hint: `choose another address of ${cidr}`,
      },
    );
  if (ip === eni.primary)
    throw new IpamError(
      'conflict',
      `${ip} is the primary address of ${eni.id}, which is never a container's`,
      {
        hint: `choose another address of ${cidr}`,
      },
    );
}

/** Why a named address cannot be had. */
function conflict(row: Allocation): IpamError {
  const hint = 'choose another address or leave out --ip';
  const where = row.iface === null ? '' : ` on ${row.iface}`;
  const who = row.holder === null ? 'a container' : `container ${row.holder}`;
  const why: Record<Allocation['status'], string> = {
    allocated: `is held by ${who}${where}`,
    ready: `is kept ready${where}, another ENI`,
    occupied: `is in use${where}, not by a container of this driver`,
    reserved: 'is reserved',
    free: 'is resting after its last use (--strict-reuse is on)',
    assigning: `is being assigned${where}`,
    unassigning: `is being taken off${where}`,
  };
  return new IpamError('conflict', `${row.ip} ${why[row.status]}`, { hint });
}
