/** Counts the requests that are dealt with, for each ENI, for each client and in all. One that is too many is refused at
 *  once: an ENI has so few addresses that nobody needs more at a time. */
import { IpamError } from '../domain/error.ts';

export interface Admission {
  /** Counts one more, until the function that it returns is called. Throws TooManyError when there is no place. */
  enter(who: Who): () => void;
}

export class TooManyError extends IpamError {}

/** Who asks, for what. Null: it is not known. */
export interface Who {
  readonly eni: string | null;
  /** See `clientOf`. Its requests for an ENI count apart from those of others, who may have more right to that ENI. */
  readonly client: string | null;
}

export interface AdmissionBounds {
  readonly ofEniMax: number;
  readonly ofClientMax: number;
  /** So many of a client have a place however many there are in all: a few clients must not keep out the others. */
  readonly ofClientAlways: number;
  readonly totalMax: number;
}

export const REQUESTS: AdmissionBounds = {
  ofEniMax: 200,
  ofClientMax: 500,
  ofClientAlways: 20,
  totalMax: 2000,
};
/** Requests for networks, of which a host makes few. Any client may name any ENI in them, and each may ask EC2. */
export const NETWORKS: AdmissionBounds = { ofEniMax: 50, ofClientMax: 50, ofClientAlways: 5, totalMax: 500 };
/** Docker sends a release once, so that more of them may wait. */
export const RELEASES: AdmissionBounds = {
  ofEniMax: 1000,
  ofClientMax: 5000,
  ofClientAlways: 100,
  totalMax: 10_000,
};

export function createAdmission(bounds: AdmissionBounds): Admission {
  const counts = new Map<string, number>();
  let total = 0;

  function count(name: string | null, by: number): void {
    if (name === null) return;
    const next = (counts.get(name) ?? 0) + by;
    if (next === 0) counts.delete(name);
    else counts.set(name, next);
  }

  function refuseCrowd({ eni, client }: Who, eniOfClient: string | null): void {
    const { ofEniMax, ofClientMax, ofClientAlways, totalMax } = bounds;
    const isFull = (name: string | null, max: number) => name !== null && (counts.get(name) ?? 0) >= max;
    if (isFull(eniOfClient, ofEniMax)) throw tooMany(ofEniMax, `for ${eni}`);
    if (isFull(client, ofClientMax)) throw tooMany(ofClientMax, `of ${client}`);
    const isModest = client !== null && (counts.get(client) ?? 0) < ofClientAlways;
    if (total >= totalMax && !isModest) throw tooMany(totalMax, 'on the server');
  }

  return {
    enter(who) {
      const eni = eniOf(who);
      refuseCrowd(who, eni);
      const add = (by: number) => {
        total += by;
        count(eni, by);
        count(who.client, by);
      };
      add(1);
      return () => add(-1);
    },
  };
}

const eniOf = ({ eni, client }: Who): string | null =>
  eni === null || client === null ? eni : `${eni} of ${client}`;

const tooMany = (max: number, where: string): TooManyError =>
  new TooManyError('unavailable', `${max} requests ${where} wait already`, {
    hint: 'nothing was changed: start fewer containers at a time, and see in the log of the server what they wait for',
  });
