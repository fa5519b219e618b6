/** What agents say of their hosts: takes each reading once, from the host that it is of, and of its own ENIs only. */
import { IpamError, isError } from '../../domain/error.ts';
import type { InstanceId } from '../../domain/ids.ts';
import type { HostReading } from '../../domain/witness.ts';
import type { LedgerEni } from '../../store/store.ts';
import type { ProbeAnswer, ToProbe } from '../../witness/witness.ts';
import type { IpamContext } from '../context.ts';
import type { Attachments } from '../ec2/attachments.ts';
import { oursIn } from '../ec2/enis.ts';
import { READING_VALID_MS, type Round, type Weighed, type Witnessed } from './witnessed.ts';

/** Readings under way. One more is refused: each keeps the rows of its host. */
const ROUNDS_MAX = 2_000;
/** The list of ENIs is shared by all hosts that begin within this time, in milliseconds. What it says of an attachment
 *  counts only if EC2 says the same. */
const ENIS_YOUNG_MS = 10_000;

export interface Begun {
  readonly ticket: string;
  /** The addresses of the ledger on the host's ENIs. */
  readonly enis: readonly ToProbe[];
}

export interface Testimony {
  /** Begins a reading of the host, in place of any other one of it. */
  begin(host: InstanceId): Promise<Begun>;
  /** Weighs what the host shows. Returns what its kernel has to be asked last. Throws conflict unless the ticket is that
   *  of the host's last begin, is young, and was not used. */
  readings(host: InstanceId, ticket: string, reading: HostReading): Promise<readonly ToProbe[]>;
  /** Takes the answers of the host's kernel. Throws as `readings` does. */
  probed(host: InstanceId, ticket: string, answers: readonly ProbeAnswer[]): Promise<void>;
}

export interface TestimonyParts {
  readonly attachments: Pick<Attachments, 'isShown' | 'prove'>;
  readonly witnessed: Witnessed;
}

/** A reading under way. `weighed`: the last proofs are awaited; null: what the host shows is. */
interface UnderWay {
  readonly round: Round;
  readonly weighed: Weighed | null;
}

export function createTestimony(
  { store, host: own, clock, deadlineClock }: IpamContext,
  { attachments, witnessed }: TestimonyParts,
): Testimony {
  const underWay = new Map<InstanceId, UnderWay>();
  let enis: { readonly at: number; readonly list: readonly LedgerEni[] } | null = null;

  /** The ENIs that ledger and EC2 show on the host. */
  async function enisOf(host: InstanceId): Promise<LedgerEni[]> {
    if (enis === null || clock() - enis.at >= ENIS_YOUNG_MS) {
      const at = clock();
      enis = { at, list: await store.enis() };
    }
    const noted = oursIn(enis.list, own.instance).filter(eni => eni.instance === host && eni.mac !== null);
    const isShown = await Promise.all(noted.map(eni => isShownOn(host, eni)));
    return noted.filter((_, i) => isShown[i]);
  }

  async function isShownOn(host: InstanceId, { id }: LedgerEni): Promise<boolean> {
    if (attachments.isShown(id, host)) return true;
    try {
      await attachments.prove(id, host);
      return true;
    } catch (error) {
      if (isError(error, 'denied')) return false;
      throw error;
    }
  }

  const isOld = ({ round }: UnderWay): boolean => deadlineClock() - round.begunAt > READING_VALID_MS;

  function makeRoom(host: InstanceId): void {
    underWay.delete(host);
    for (const [one, reading] of underWay) if (isOld(reading)) underWay.delete(one);
    if (underWay.size >= ROUNDS_MAX)
      throw new IpamError('unavailable', `${ROUNDS_MAX} hosts are being read`, { hint: 'try again later' });
  }

  /** Returns the reading that the ticket was given for, if it waits for this step. */
  function take(host: InstanceId, ticket: string, isNext: (one: UnderWay) => boolean): UnderWay {
    const found = underWay.get(host);
    if (found === undefined || found.round.witness.ticket !== ticket || isOld(found) || !isNext(found))
      throw new IpamError(
        'conflict',
        'the ticket is not that of a reading of this host that waits for this',
        {
          hint: `begin anew; a ticket is valid for ${READING_VALID_MS / 1000} s, and each step is taken once`,
        },
      );
    underWay.delete(host);
    return found;
  }

  return {
    async begin(host) {
      makeRoom(host);
      const round = await witnessed.begin(host, await enisOf(host));
      makeRoom(host);
      underWay.set(host, { round, weighed: null });
      return { ticket: round.witness.ticket, enis: round.enis.map(eni => addressesOf(eni, round)) };
    },
    async readings(host, ticket, reading) {
      const { round } = take(host, ticket, one => one.weighed === null);
      const weighed = await witnessed.weigh(round, reading);
      if (weighed.toProbe.length > 0 && !underWay.has(host)) underWay.set(host, { round, weighed });
      return weighed.toProbe;
    },
    async probed(host, ticket, answers) {
      const { weighed } = take(host, ticket, one => one.weighed !== null);
      if (weighed !== null) await witnessed.end(weighed, answers);
    },
  };
}

const addressesOf = ({ id, mac }: LedgerEni, { rows }: Round): ToProbe => ({
  mac: mac ?? '',
  ips: rows.filter(row => row.iface === id).map(row => row.ip),
});
